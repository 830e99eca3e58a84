"""Reviews: a reviewer accepts the consensus, corrects it, or has one more person asked."""

from collections.abc import Sequence

from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import FailedPrecondition, InvalidArgument
from sqlalchemy import Connection

from slipway_labeling.domain.names import check_text, task_of
from slipway_labeling.domain.projects import Labels, check_answer
from slipway_labeling.domain.tasks import Task, TaskState, Verdict
from slipway_labeling.store.annotations import AnnotationStore
from slipway_labeling.store.tasks import TaskStore
from slipway_labeling.usecases.access import JUDGE, allow
from slipway_labeling.usecases.projects import existing_project
from slipway_labeling.usecases.tasks import existing_task


class Reviews:
    """The verb of reviewers."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def review(
        self, name: str, verdict: Verdict, answer: Sequence[str] | None, comment: str, repeat: Repeat
    ) -> Task:
        """Decide a task, or open it again.

        Raises:
            InvalidArgument: A correction without an answer, an answer without correction, a foreign label.
            FailedPrecondition: The task is not in a state that allows this (TASK_STATE).
        """
        reviewer = allow(JUDGE).subject
        check_text("comment", comment)
        _check_answer_given(verdict, answer)
        project, serial = task_of(name)
        with self._database.transaction() as connection:

            def effect() -> Task:
                task = existing_task(connection, project, serial, lock=True)
                store = TaskStore(connection)
                if verdict is Verdict.CORRECT:
                    chosen, annotation = _corrected(connection, task, answer or (), reviewer)
                    return store.decide(task, chosen, annotation, reviewer, comment)
                if verdict is Verdict.ACCEPT:
                    return store.decide(task, _accepted(task), None, reviewer, comment)
                if task.state not in (TaskState.ANSWERED, TaskState.REVIEWED):
                    raise _state(task, f"is {task.state}, so it goes out anyway or was never opened")
                return store.reopen(task, reviewer, comment)

            return repeat.once(connection, Task, effect)


def _corrected(
    connection: Connection, task: Task, answer: Sequence[str], reviewer: str
) -> tuple[Labels, int]:
    """Keep the reviewer's own answer; return it in schema order, and its annotation."""
    if task.state is TaskState.ERASED:
        raise _state(task, "is of an example that was erased; there is nothing to review")
    if task.state is TaskState.HELD:
        raise _state(task, "is HELD and has no answer; open it first")
    schema = existing_project(connection, task.project).spec.schema
    chosen = check_answer(schema, answer)
    by = reviewer.partition("/")[2]
    return chosen, AnnotationStore(connection).add_correction(task, by, chosen, schema.version)


def _accepted(task: Task) -> Labels:
    if task.consensus is None:
        raise _state(task, "has no consensus; compute it (ComputeConsensus), or correct the task")
    return task.consensus


def _check_answer_given(verdict: Verdict, answer: Sequence[str] | None) -> None:
    if verdict is Verdict.CORRECT and answer is None:
        raise InvalidArgument.field("answer", "is missing; send the right answer with CORRECT")
    if verdict is not Verdict.CORRECT and answer is not None:
        raise InvalidArgument.field("answer", f"comes with {verdict}; leave it out, or send CORRECT")


def _state(task: Task, what: str) -> FailedPrecondition:
    return FailedPrecondition("TASK_STATE", f"{task.name} {what}", metadata={"state": str(task.state)})
