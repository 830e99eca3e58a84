"""Annotators of a project: their figures, pause and resume."""

from collections.abc import Sequence

from slipway_runtime.db import Database, PageToken, Repeat, page_size
from slipway_runtime.errors import NotFound
from sqlalchemy import Connection

from slipway_labeling.domain.names import check_text, name_part, project_of
from slipway_labeling.domain.tasks import Annotator
from slipway_labeling.store.annotators import AnnotatorStore
from slipway_labeling.store.work import WorkStore
from slipway_labeling.usecases.access import JUDGE, allow
from slipway_labeling.usecases.projects import existing_project


class Annotators:
    """The verbs over annotators."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Annotator:
        """Return one annotator's figures in a project."""
        allow(JUDGE)
        with self._database.transaction() as connection:
            return existing_annotator(connection, *_parts(name))

    def list(self, parent: str, size: int, token: str) -> tuple[Sequence[Annotator], str]:
        """Return a page of a project's annotators by name."""
        allow(JUDGE)
        project = project_of(parent)
        limit, tokens = page_size(size), PageToken(("annotators", parent), (str,))
        after = tokens.decode(token) or [""]
        with self._database.transaction() as connection:
            existing_project(connection, project)
            rows = AnnotatorStore(connection).page(project, str(after[0]), limit + 1)
        return rows[:limit], tokens.encode(rows[limit - 1].id) if len(rows) > limit else ""

    def pause(self, name: str, reason: str, repeat: Repeat) -> Annotator:
        """Give an annotator no more tasks of the project; the leases that it holds end."""
        allow(JUDGE)
        check_text("reason", reason, needed=True)
        project, id = _parts(name)
        with self._database.transaction() as connection:

            def effect() -> Annotator:
                pause_annotator(connection, project, id, reason)
                return existing_annotator(connection, project, id)

            return repeat.once(connection, Annotator, effect)

    def resume(self, name: str, repeat: Repeat) -> Annotator:
        """Let an annotator go on."""
        allow(JUDGE)
        project, id = _parts(name)
        with self._database.transaction() as connection:

            def effect() -> Annotator:
                AnnotatorStore(connection).set_paused(project, id, False, "")
                return existing_annotator(connection, project, id)

            return repeat.once(connection, Annotator, effect)


def pause_annotator(connection: Connection, project: str, id: str, reason: str) -> None:
    """Pause an annotator and end the leases that it holds."""
    AnnotatorStore(connection).set_paused(project, id, True, reason)
    WorkStore(connection).end_leases(project, id)


def existing_annotator(connection: Connection, project: str, id: str) -> Annotator:
    """Return an annotator of a project.

    Raises:
        NotFound: Nobody of that name has worked in it; near matches are named (ANNOTATOR_NOT_FOUND).
    """
    store = AnnotatorStore(connection)
    found = store.get(project, id)
    if found is None:
        existing_project(connection, project)
        raise NotFound.of("ANNOTATOR_NOT_FOUND", "annotator", id, store.ids(project))
    return found


def _parts(name: str) -> tuple[str, str]:
    project, annotator = name_part(name, "labelingProjects", "annotators")
    return project, annotator
