"""Lineage: what was made of a thing, and what a thing was made of."""

from collections.abc import Callable, Sequence

from slipway_runtime.db import Database, PageToken, page_size
from slipway_runtime.errors import InvalidArgument, NotFound
from sqlalchemy import Connection

from slipway_labeling.domain.names import annotation_of, check_commit, name_part, project_of, task_of
from slipway_labeling.domain.snapshots import Contributor
from slipway_labeling.domain.tasks import Annotation
from slipway_labeling.store.annotations import AnnotationStore
from slipway_labeling.store.lineage import LineageStore
from slipway_labeling.usecases.access import JUDGE, allow
from slipway_labeling.usecases.projects import existing_project
from slipway_labeling.usecases.tasks import existing_task

Edges = Sequence[tuple[int, str]]  # a number to go on after, and a resource name
Step = Callable[[Connection, str, int, int], Edges]


class Lineage:
    """The verbs of lineage."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def children(self, name: str, size: int, token: str) -> tuple[Sequence[str], str]:
        """Return a page of what was made of an annotator, annotation, project or task.

        Raises:
            NotFound: There is no such thing.
        """
        return self._page("children", _CHILDREN, name, size, token)

    def parents(self, name: str, size: int, token: str) -> tuple[Sequence[str], str]:
        """Return a page of what a commit, annotation or task was made of.

        A commit that no snapshot made has no parents here; whether it exists is ingestion's to say.
        """
        return self._page("parents", _PARENTS, name, size, token)

    def contributors(self, commit: str, size: int, token: str) -> tuple[Sequence[Contributor], str]:
        """Return a page of who gave the labels that a snapshot put into a commit, by name.

        Whether there is such a commit is ingestion's to say: one that no snapshot made has none.
        """
        allow(JUDGE)
        name = check_commit("parent", commit)
        limit, tokens = page_size(size), PageToken(("contributors", name), (str,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            found = LineageStore(connection).contributors(name, str(key[0]) if key else "", limit + 1)
        more = tokens.encode(found[limit - 1].annotator) if len(found) > limit else ""
        return found[:limit], more

    def _page(
        self, verb: str, steps: dict[str, Step], name: str, size: int, token: str
    ) -> tuple[Sequence[str], str]:
        allow(JUDGE)
        shape = "/".join(name.split("/")[::2])
        if shape not in steps:
            known = ", ".join(f"{one.replace('/', '/*/')}/*" for one in steps)
            raise InvalidArgument.field("name", f"is {name!r}; write one of {known}")
        limit, tokens = page_size(size), PageToken((verb, name))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            found = steps[shape](connection, name, int(key[0]) if key else -1, limit + 1)
        more = tokens.encode(found[limit - 1][0]) if len(found) > limit else ""
        return [other for _, other in found[:limit]], more


def _of_annotator(connection: Connection, name: str, after: int, limit: int) -> Edges:
    (annotator,) = name_part(name, "annotators")
    store = LineageStore(connection)
    there, known = store.annotators_like(annotator)
    if not there:
        raise NotFound.of("ANNOTATOR_NOT_FOUND", "annotator", annotator, known)
    return store.annotations_by(annotator, after, limit)


def _commits_of_annotation(connection: Connection, name: str, after: int, limit: int) -> Edges:
    return LineageStore(connection).commits(_annotation(connection, name).id, after, limit)


def _tasks_of_project(connection: Connection, name: str, after: int, limit: int) -> Edges:
    project = existing_project(connection, project_of(name, "name"))
    return LineageStore(connection).tasks(project.id, after, limit)


def _annotations_of_task(connection: Connection, name: str, after: int, limit: int) -> Edges:
    task = existing_task(connection, *task_of(name))
    return LineageStore(connection).annotations_of_task(task.serial, after, limit)


def _annotations_of_commit(connection: Connection, name: str, after: int, limit: int) -> Edges:
    return LineageStore(connection).annotations_in(check_commit("name", name), after, limit)


def _of_annotation(connection: Connection, name: str, after: int, limit: int) -> Edges:
    found = _annotation(connection, name)
    task = f"labelingProjects/{found.project}/tasks/{found.task}"
    return _rest([f"annotators/{found.annotator}", task], after, limit)


def _of_task(connection: Connection, name: str, after: int, limit: int) -> Edges:
    return _rest([existing_task(connection, *task_of(name)).dataset_commit], after, limit)


def _rest(names: Sequence[str], after: int, limit: int) -> Edges:
    return [(number, name) for number, name in enumerate(names) if number > after][:limit]


def _annotation(connection: Connection, name: str) -> Annotation:
    found = AnnotationStore(connection).get(annotation_of(name))
    if found is None:
        raise NotFound.of("ANNOTATION_NOT_FOUND", "annotation", name)
    return found


_CHILDREN: dict[str, Step] = {
    "annotators": _of_annotator,
    "annotations": _commits_of_annotation,
    "labelingProjects": _tasks_of_project,
    "labelingProjects/tasks": _annotations_of_task,
}
_PARENTS: dict[str, Step] = {
    "datasets/commits": _annotations_of_commit,
    "annotations": _of_annotation,
    "labelingProjects/tasks": _of_task,
}
