"""Tasks: made of a commit's examples, shown, and their bytes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from slipway_runtime.db import Database, PageToken, Repeat, page_size
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from sqlalchemy import Connection

from slipway_labeling.clients import Ingestion
from slipway_labeling.domain.names import check_commit, joined, project_of, task_of
from slipway_labeling.domain.projects import Labels, Project, check_answer
from slipway_labeling.domain.tasks import Example, Task, TaskState
from slipway_labeling.store.erasures import ErasureStore
from slipway_labeling.store.tasks import TaskStore
from slipway_labeling.store.work import WorkStore
from slipway_labeling.usecases.access import JUDGE, MANAGE, READ, allow, blind, worker
from slipway_labeling.usecases.projects import existing_project

MAX_KEYS = 10_000
MAX_TRIES = 5
_AT_A_TIME = 5_000  # rows of one INSERT


@dataclass(frozen=True)
class Wanted:
    """Which tasks to make; empty fields mean all examples of the head of `main`."""

    commit: str = ""
    split: str = ""
    unlabelled_only: bool = False
    keys: tuple[str, ...] = ()
    gold: Mapping[str, Labels] | None = None
    hold: bool = False
    priority: float = 0.0


@dataclass(frozen=True)
class Made:
    """What tasks were made."""

    created_count: int
    existing_count: int


class Tasks:
    """The verbs over tasks."""

    def __init__(self, *, database: Database, ingestion: Ingestion) -> None:
        self._database = database
        self._ingestion = ingestion

    def create(self, parent: str, wanted: Wanted, repeat: Repeat) -> Made:
        """Make tasks of a commit's examples; an example that has a task already is left as it is.

        Raises:
            NotFound: There is no such commit or example (DATASET_NOT_FOUND).
            InvalidArgument: A gold answer is not in the schema, or its example is not among those asked for.
        """
        allow(MANAGE)
        with self._database.transaction() as connection:
            project = existing_project(connection, project_of(parent))
        gold = _check(project, wanted)
        for _ in range(MAX_TRIES):
            made = self._try(project, wanted, gold, repeat)
            if made is not None:
                return made
        message = f"examples of {project.spec.dataset} are being erased; make the tasks once more"
        raise Unavailable("ERASED_MEANWHILE", message, retry_after_s=1)

    def _try(
        self, project: Project, wanted: Wanted, gold: Mapping[str, Labels], repeat: Repeat
    ) -> Made | None:
        """Make the tasks; None when an erasure was taken in while their examples were read."""
        with self._database.transaction() as connection:
            erasure = ErasureStore(connection).read_to()
        commit = wanted.commit or self._head(project)
        examples = self._examples(commit, wanted)
        _check_gold_keys(gold, examples)
        with self._database.transaction() as connection:
            if ErasureStore(connection).read_to(lock="SHARE") != erasure:
                return None

            def effect() -> Made:
                return _add(TaskStore(connection), project, commit, examples, wanted, gold)

            return repeat.once(connection, Made, effect)

    def get(self, name: str) -> Task:
        """Return one task; an annotator sees it without any answer."""
        allow(READ)
        with self._database.transaction() as connection:
            task = existing_task(connection, *task_of(name))
            return blinded(connection, task) if blind() else task

    def list(
        self, parent: str, state: str, flagged_only: bool, size: int, token: str
    ) -> tuple[Sequence[Task], str]:
        """Return a page of tasks in the order in which they are given out."""
        allow(JUDGE)
        project = project_of(parent)
        limit, tokens = page_size(size), PageToken(("tasks", parent, state, str(flagged_only)), (int,))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            existing_project(connection, project)
            start = int(after[0]) if after else None
            rows = TaskStore(connection).page(project, state, flagged_only, start, limit + 1)
        last = rows[limit - 1] if len(rows) > limit else None
        return rows[:limit], tokens.encode(last.serial) if last else ""

    def media(self, name: str) -> tuple[str, bytes]:
        """Return the media type and the bytes of a task's example.

        Raises:
            FailedPrecondition: The annotator holds no lease on the task (LEASE_EXPIRED).
        """
        allow(READ)
        with self._database.transaction() as connection:
            task = existing_task(connection, *task_of(name))
            if blind() and not WorkStore(connection).holds(task.serial, worker()):
                message = f"you hold no lease on {name}, or it has run out; claim it again"
                raise FailedPrecondition("LEASE_EXPIRED", message)
        return self._ingestion.media(task.dataset_commit, task.key)

    def _head(self, project: Project) -> str:
        commit = self._ingestion.head(project.spec.dataset, "main")
        if not commit:
            message = f"branch 'main' of {project.spec.dataset} has no commit yet; commit examples first"
            raise NotFound("DATASET_NOT_FOUND", message, metadata={"name": project.spec.dataset, "near": ""})
        return commit

    def _examples(self, commit: str, wanted: Wanted) -> Sequence[Example]:
        rows = self._ingestion.examples(commit, split=wanted.split, keys=wanted.keys)
        found = [row for row in rows if not (wanted.unlabelled_only and row.label)]
        if wanted.keys and not wanted.split and not wanted.unlabelled_only:
            missing = sorted(set(wanted.keys) - {row.key for row in found})
            if missing:
                message = f"{commit} has no example {joined(missing)}; name keys that it has"
                raise NotFound("DATASET_NOT_FOUND", message, metadata={"name": missing[0], "near": ""})
        return found


def existing_task(connection: Connection, project: str, serial: int, *, lock: bool = False) -> Task:
    """Return a task, locked until the end of the transaction when asked.

    Raises:
        NotFound: The project has none of that id (TASK_NOT_FOUND), or there is no such project.
    """
    found = TaskStore(connection).get(project, serial, lock=lock)
    if found is None:
        existing_project(connection, project)
        shown = "" if serial < 0 else str(serial)
        raise NotFound.of("TASK_NOT_FOUND", f"task in labelingProjects/{project}", shown)
    return found


def blinded(connection: Connection, task: Task) -> Task:
    """Return a task as its annotators may see it: without gold, consensus, review and pre-label.

    Who has answered may read what the reviewer said, for nothing is left to be swayed.
    """
    answered = WorkStore(connection).has_answered(task.serial, worker())
    return replace(
        task,
        gold=None,
        consensus=None,
        consensus_confidence=0.0,
        reviewed=None,
        reviewer="",
        review_comment=task.review_comment if answered else "",
        prelabel=None,
        prelabel_version="",
    )


def _check(project: Project, wanted: Wanted) -> dict[str, Labels]:
    """Return the gold answers in schema order, with all fields checked."""
    if wanted.commit:
        check_commit("dataset_commit", wanted.commit)
        if not wanted.commit.startswith(f"{project.spec.dataset}/commits/"):
            description = f"is {wanted.commit!r}; {project.name} labels examples of {project.spec.dataset}"
            raise InvalidArgument.field("dataset_commit", description)
    if wanted.split not in ("", "train", "validation", "test"):
        raise InvalidArgument.field("split", f"is {wanted.split!r}; give train, validation, test or nothing")
    if len(wanted.keys) > MAX_KEYS:
        raise InvalidArgument.field("keys", f"holds {len(wanted.keys)}; at most {MAX_KEYS}: send it in parts")
    if not math.isfinite(wanted.priority):
        raise InvalidArgument.field("priority", f"is {wanted.priority}; give a finite number")
    gold = wanted.gold or {}
    return {key: check_answer(project.spec.schema, gold[key], f"gold[{key!r}]") for key in gold}


def _check_gold_keys(gold: Mapping[str, Labels], examples: Sequence[Example]) -> None:
    foreign = sorted(set(gold) - {example.key for example in examples})
    if foreign:
        description = (
            f"has {joined(foreign)}, not among the {len(examples)} examples asked for; leave them out"
        )
        raise InvalidArgument.field("gold", description)


def _add(
    store: TaskStore,
    project: Project,
    commit: str,
    examples: Sequence[Example],
    wanted: Wanted,
    gold: Mapping[str, Labels],
) -> Made:
    new: set[str] = set()
    for part in _parts(examples):
        new |= set(
            store.add(
                project.id,
                commit,
                part,
                state=TaskState.HELD if wanted.hold else TaskState.OPEN,
                overlap=project.spec.overlap,
                priority=wanted.priority,
            )
        )
    store.set_gold(project.id, {key: labels for key, labels in gold.items() if key in new})
    return Made(len(new), len(examples) - len(new))


def _parts(examples: Sequence[Example]) -> Iterator[list[Example]]:
    rows = iter(examples)
    while part := list(islice(rows, _AT_A_TIME)):
        yield part
