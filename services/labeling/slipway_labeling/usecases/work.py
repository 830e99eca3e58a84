"""Work of annotators: claim, renew, submit, give back, undo; and their annotations."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, Repeat, forget_old, page_size
from slipway_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, SlipwayError
from sqlalchemy import Connection

from slipway_labeling.domain.names import (
    annotation_of,
    assignment_of,
    check_text,
    name_part,
    project_of,
    task_of,
)
from slipway_labeling.domain.projects import Labels, Schema, check_answer
from slipway_labeling.domain.tasks import Annotation, Assignment, AssignmentState, TaskState
from slipway_labeling.store.annotations import AnnotationStore
from slipway_labeling.store.turns import Claimed, RequestIdTaken, Turns
from slipway_labeling.store.work import Desk, WorkStore
from slipway_labeling.usecases.access import READ, allow, blind, worker
from slipway_labeling.usecases.projects import existing_project
from slipway_labeling.usecases.tasks import existing_task

MAX_COUNT = 20
MAX_LEAD_MS = 86_400_000
_FREED_BY_CLAIM = 100  # run-out leases that one claim takes back; the sweeper takes the rest

LEASES = Counter("slipway_labeling_leases_total", "Leases given to annotators.")
ANNOTATIONS = Counter("slipway_labeling_annotations_total", "Annotations submitted.")
EXPIRED = Counter("slipway_labeling_leases_expired_total", "Leases that ran out unanswered.")


@dataclass(frozen=True)
class Given:
    """What an annotator holds, and how many more tasks wait (counted up to 100)."""

    assignments: tuple[Assignment, ...]
    waiting_count: int


class Work:
    """The verbs of annotators."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._turns = Turns(database)
        self._schemas: dict[str, Schema] = {}  # the newest seen; labels are only added, so none is wrong

    def claim(self, parent: str, count: int) -> Given:
        """Give the caller tasks until it holds `count` leases; what it holds comes first.

        Raises:
            FailedPrecondition: The annotator is paused (ANNOTATOR_PAUSED).
        """
        annotator, project, wanted = worker(), project_of(parent), count or 1
        if not 1 <= wanted <= MAX_COUNT:
            raise InvalidArgument.field("count", f"is {count}; give 1 to {MAX_COUNT}, or 0 for 1")
        found, freed = self._claim(project, annotator, wanted), 0
        if not found.assignments and found.waiting_count:  # all of them in other hands just now
            found = self._claim(project, annotator, wanted, wait=True)
        if not found.assignments:
            with self._database.transaction() as connection:
                freed = WorkStore(connection).take_back(project, _FREED_BY_CLAIM)
            found = self._claim(project, annotator, wanted) if freed else found
        LEASES.inc(found.new_count)
        EXPIRED.inc(freed)
        return Given(found.assignments, found.waiting_count)

    def renew(self, name: str) -> Assignment:
        """Prolong a lease that has not run out.

        Raises:
            FailedPrecondition: It has (LEASE_EXPIRED), or is answered (ALREADY_SUBMITTED).
        """
        annotator, which = worker(), assignment_of(name)
        with self._database.transaction() as connection:
            found = WorkStore(connection).renew(*which, annotator)
            if found is None:
                raise _not_live(connection, name, annotator)
            return found

    def submit(self, name: str, labels: Sequence[str], lead_ms: int, repeat: Repeat) -> Annotation:
        """Answer a task with the labels chosen.

        Raises:
            InvalidArgument: A label is not in the schema (LABEL_NOT_IN_SCHEMA).
            FailedPrecondition: The lease ran out (LEASE_EXPIRED), or there is an answer (ALREADY_SUBMITTED).
        """
        annotator = worker()
        if not 0 <= lead_ms <= MAX_LEAD_MS:
            raise InvalidArgument.field("lead_ms", f"is {lead_ms}; give 0 to {MAX_LEAD_MS}")
        which = assignment_of(name)
        schema, chosen = self._checked(which[0], labels)
        row = repeat.row() if repeat.request_id else None
        try:
            made = self._turns.submit(which, annotator, chosen, lead_ms, schema.version, row)
        except RequestIdTaken:
            made = None
        if made is None:
            return self._not_made(name, annotator, repeat)
        ANNOTATIONS.inc()
        return made

    def skip(self, name: str, comment: str, repeat: Repeat) -> Assignment:
        """Give a task back unanswered."""
        check_text("comment", comment)
        return self._give_back(name, AssignmentState.SKIPPED, comment, repeat)

    def flag(self, name: str, comment: str, repeat: Repeat) -> Assignment:
        """Give a task back with a complaint."""
        check_text("comment", comment, needed=True)
        return self._give_back(name, AssignmentState.FLAGGED, comment, repeat)

    def undo(self, name: str, repeat: Repeat) -> Assignment:
        """Take the caller's own annotation back, and lease its assignment again.

        Raises:
            FailedPrecondition: Something was made of it (ANNOTATION_USED), or it stands no more (TASK_STATE).
        """
        annotator = worker()
        with self._database.transaction() as connection:

            def effect() -> Assignment:
                annotation = _annotation(connection, name, annotator)
                desk = _desk(connection, annotation.project, annotator)
                task = existing_task(connection, annotation.project, annotation.task, lock=True)
                store = WorkStore(connection)
                if task.state is TaskState.REVIEWED or AnnotationStore(connection).in_snapshot(annotation.id):
                    message = (
                        f"{name} was reviewed or is in a snapshot; tell a reviewer what is wrong with it"
                    )
                    raise FailedPrecondition("ANNOTATION_USED", message, metadata={"name": name})
                if task.state is TaskState.ERASED:
                    message = f"{name} is of an example that was erased; its task stays closed"
                    raise FailedPrecondition("TASK_STATE", message, metadata={"name": name})
                leased = store.withdraw(annotation, desk.lease_s)
                if leased is None:
                    message = f"{name} stands no more: it was taken back; the newest revision alone can be"
                    raise FailedPrecondition("TASK_STATE", message, metadata={"name": name})
                return leased

            return repeat.once(connection, Assignment, effect)

    def get_annotation(self, name: str) -> Annotation:
        """Return one annotation; annotators see their own."""
        allow(READ)
        with self._database.transaction() as connection:
            return _annotation(connection, name, worker() if blind() else "")

    def list_annotations(
        self, parent: str, task: str, annotator: str, size: int, token: str
    ) -> tuple[Sequence[Annotation], str]:
        """Return a page of annotations in the order in which they were made; annotators see their own."""
        allow(READ)
        project, wanted = project_of(parent), _annotator_filter(annotator)
        serial = _task_filter(parent, task) if task else None
        limit, tokens = page_size(size), PageToken(("annotations", parent, task, wanted), (int,))
        after = tokens.decode(token) or [0]
        with self._database.transaction() as connection:
            existing_project(connection, project)
            rows = AnnotationStore(connection).page(project, serial, wanted, int(after[0]), limit + 1)
        return rows[:limit], tokens.encode(rows[limit - 1].id) if len(rows) > limit else ""

    def sweep(self) -> None:
        """Take back leases that ran out, and forget answers kept for repeats that come no more."""
        with self._database.transaction() as connection:
            freed = WorkStore(connection).take_back()
            forget_old(connection)
        EXPIRED.inc(freed)

    def _claim(self, project: str, annotator: str, wanted: int, *, wait: bool = False) -> Claimed:
        """Try once, in a transaction of its own.

        A task that was locked and then found taken stays locked until the end. One who waited with such locks
        in hand could wait in a ring with another who passed by the same tasks in another order.
        """
        draws = [random.random() * 100 for _ in range(wanted)]
        desk, found = self._turns.claim(project, annotator, draws, wait=wait)
        if desk is None:  # the first time here
            with self._database.transaction() as connection:
                _desk(connection, project, annotator)
            desk, found = self._turns.claim(project, annotator, draws, wait=wait)
        if desk is not None and desk.paused:
            raise paused(desk)
        return found

    def _not_made(self, name: str, annotator: str, repeat: Repeat) -> Annotation:
        """Return what the same request was answered with before, or say why it has no answer."""
        with self._database.transaction() as connection:
            first = repeat.first(connection)
            if first:
                return _as_made(connection, first)
            raise _not_live(connection, name, annotator)

    def _give_back(self, name: str, state: AssignmentState, comment: str, repeat: Repeat) -> Assignment:
        annotator, which = worker(), assignment_of(name)
        with self._database.transaction() as connection:

            def effect() -> Assignment:
                ended = WorkStore(connection).give_back(*which, annotator, state, comment)
                if ended is None:
                    raise _not_live(connection, name, annotator)
                return ended

            return repeat.once(connection, Assignment, effect)

    def _checked(self, project: str, labels: Sequence[str]) -> tuple[Schema, Labels]:
        """Return the answer in schema order by the newest schema known, read again when it does not fit."""
        known = self._schemas.get(project)
        if known is not None and set(labels) <= set(known.labels):
            return known, check_answer(known, labels)
        with self._database.transaction() as connection:
            schema = existing_project(connection, project).spec.schema
        self._schemas[project] = schema
        return schema, check_answer(schema, labels)


def _as_made(connection: Connection, id: str) -> Annotation:
    """Return an annotation as it was when it was made, whatever became of it."""
    found = AnnotationStore(connection).get(int(id))
    assert found is not None
    return replace(found, current=True)


def _desk(connection: Connection, project: str, annotator: str) -> Desk:
    desk = WorkStore(connection).desk(project, annotator)
    if desk is None:
        existing_project(connection, project)
        raise NotFound.of("PROJECT_NOT_FOUND", "labelling project", project)
    if desk.paused:
        raise paused(desk)
    return desk


def paused(desk: Desk) -> FailedPrecondition:
    """Return the refusal of a paused annotator."""
    message = (
        f"annotators/{desk.annotator} is paused in labelingProjects/{desk.project}: {desk.pause_reason}; "
        "talk to an engineer or a reviewer"
    )
    return FailedPrecondition("ANNOTATOR_PAUSED", message, metadata={"reason": desk.pause_reason})


def _not_live(connection: Connection, name: str, annotator: str) -> SlipwayError:
    """Return why an assignment cannot be answered, prolonged or given back."""
    project, task, number = assignment_of(name)
    store = WorkStore(connection)
    found = store.get(project, task, number)
    if found is None or found.annotator != annotator:
        existing_task(connection, project, task)
        return NotFound.of("ASSIGNMENT_NOT_FOUND", "assignment of yours", name)
    if found.state is AssignmentState.SUBMITTED:
        message = f"{name} has its annotation already; undo that to answer anew"
        return FailedPrecondition("ALREADY_SUBMITTED", message, metadata={"name": name})
    desk = store.desk(project, annotator)
    if desk is not None and desk.paused:
        return paused(desk)
    ended = {AssignmentState.SKIPPED: "was skipped", AssignmentState.FLAGGED: "was flagged"}
    message = f"the lease of {name} {ended.get(found.state, 'has run out or was taken away')}; claim again"
    return FailedPrecondition("LEASE_EXPIRED", message, metadata={"state": str(found.state)})


def _annotation(connection: Connection, name: str, annotator: str) -> Annotation:
    """Return an annotation; with an annotator given, only his own."""
    found = AnnotationStore(connection).get(annotation_of(name))
    if found is None or (annotator and found.annotator != annotator):
        kind = "annotation of yours" if annotator else "annotation"
        raise NotFound.of("ANNOTATION_NOT_FOUND", kind, name)
    return found


def _annotator_filter(annotator: str) -> str:
    """Return the id of the annotator asked for; who is blind may ask for himself alone."""
    asked = name_part(annotator, "annotators", field_name="annotator")[0] if annotator else ""
    if not blind():
        return asked
    own = worker()
    if asked not in ("", own):
        raise InvalidArgument.field("annotator", f"is {annotator!r}; you see your own: annotators/{own}")
    return own


def _task_filter(parent: str, task: str) -> int:
    project, serial = task_of(task, "task")
    if f"labelingProjects/{project}" != parent:
        raise InvalidArgument.field("task", f"is {task!r}, not of {parent}; name a task of it")
    return serial
