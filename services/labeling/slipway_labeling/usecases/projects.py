"""Projects and their schemas."""

from collections.abc import Sequence
from dataclasses import fields, replace

from slipway_runtime.db import Database, PageToken, Repeat, page_size
from slipway_runtime.errors import Aborted, AlreadyExists, InvalidArgument, NotFound
from sqlalchemy import Connection

from slipway_labeling.clients import Ingestion
from slipway_labeling.domain.names import check_id, joined, project_of
from slipway_labeling.domain.projects import Project, ProjectSpec, check_spec, next_schema
from slipway_labeling.store.projects import ProjectStore
from slipway_labeling.usecases.access import MANAGE, READ, allow

CHANGEABLE = frozenset(field.name for field in fields(ProjectSpec)) - {"dataset"}


class Projects:
    """The verbs over projects.

    Args:
        database: Of labeling.
        ingestion: Knows which data sets there are.
    """

    def __init__(self, *, database: Database, ingestion: Ingestion) -> None:
        self._database = database
        self._ingestion = ingestion

    def create(self, id: str, spec: ProjectSpec, repeat: Repeat) -> Project:
        """Create a project.

        Raises:
            AlreadyExists: The id is taken.
            NotFound: There is no such data set (DATASET_NOT_FOUND).
        """
        creator = allow(MANAGE).subject
        check_id("project_id", id)
        self._ingestion.check_dataset(check_spec(spec).dataset)
        first = replace(spec, schema=replace(spec.schema, version=1))
        with self._database.transaction() as connection:

            def effect() -> Project:
                made = ProjectStore(connection).add(id, first, creator)
                if made is None:
                    message = f"labelingProjects/{id} is there already; choose another id, or use it"
                    raise AlreadyExists("ALREADY_EXISTS", message)
                return made

            return repeat.once(connection, Project, effect)

    def get(self, name: str) -> Project:
        """Return one project with its counts."""
        allow(READ)
        with self._database.transaction() as connection:
            return _counted(ProjectStore(connection), existing_project(connection, project_of(name, "name")))

    def list(self, size: int, token: str) -> tuple[Sequence[Project], str]:
        """Return a page of projects with their counts."""
        allow(READ)
        limit, tokens = page_size(size), PageToken(("projects",), (str,))
        after = tokens.decode(token) or [""]
        with self._database.transaction() as connection:
            store = ProjectStore(connection)
            rows = store.page(str(after[0]), limit + 1)
            page = [_counted(store, project) for project in rows[:limit]]
        return page, tokens.encode(page[-1].id) if len(rows) > limit else ""

    def update(self, name: str, etag: str, wanted: ProjectSpec, paths: Sequence[str]) -> Project:
        """Change the fields named; a changed schema becomes its next version.

        Raises:
            Aborted: The etag is stale.
            InvalidArgument: A field may not change, or a label would be lost (LABEL_REMOVED).
        """
        allow(MANAGE)
        id = project_of(name, "project.name")
        unknown = [path for path in paths if path not in CHANGEABLE]
        if unknown or not paths:
            named = joined(unknown) if unknown else "nothing"
            raise InvalidArgument.field(
                "update_mask", f"names {named}; name some of {', '.join(sorted(CHANGEABLE))}"
            )
        with self._database.transaction() as connection:
            current = existing_project(connection, id, lock=True)
            if etag != current.etag:
                message = f"{name} was changed since it was read; get it again and repeat the change"
                raise Aborted("ETAG_MISMATCH", message, metadata={"etag": current.etag})
            changes = {path: getattr(wanted, path) for path in paths}
            if "schema" in changes:
                changes["schema"] = next_schema(current.spec.schema, wanted.schema)
            store = ProjectStore(connection)
            return _counted(store, store.update(current, check_spec(replace(current.spec, **changes))))


def existing_project(connection: Connection, id: str, *, lock: bool = False) -> Project:
    """Return a project without counts, locked until the end of the transaction when asked.

    Raises:
        NotFound: There is none of that id; near matches are named (PROJECT_NOT_FOUND).
    """
    store = ProjectStore(connection)
    found = store.get(id, lock=lock)
    if found is None:
        raise NotFound.of("PROJECT_NOT_FOUND", "labelling project", id, store.ids())
    return found


def _counted(store: ProjectStore, project: Project) -> Project:
    return replace(
        project,
        task_counts=store.task_counts(project.id),
        annotation_count=store.annotation_count(project.id),
    )
