"""Projects and the versions of their schemas."""

from typing import Any

from sqlalchemy import Row

from slipway_labeling.domain.projects import ConsensusMethod, PauseRule, Project, ProjectSpec, Schema
from slipway_labeling.store.rows import Rows

_PROJECTS = (
    "SELECT p.*, s.labels, s.multiple, s.instructions FROM projects p "
    "JOIN schemas s ON s.project = p.id AND s.version = p.schema_version"
)


class ProjectStore(Rows):
    """The tables `projects` and `schemas`."""

    def add(self, id: str, spec: ProjectSpec, creator: str) -> Project | None:
        """Return the new project, or None when the id is taken."""
        rows = self._rows(
            "INSERT INTO projects (id, display_name, dataset, schema_version, overlap, lease_s, "
            "gold_percent, prelabel_percent, pause_rule, consensus_method, creator) VALUES (:id, "
            ":display_name, :dataset, 1, :overlap, :lease_s, :gold_percent, :prelabel_percent, :pause_rule, "
            ":consensus_method, :creator) ON CONFLICT DO NOTHING RETURNING id",
            "pause_rule",
            id=id,
            creator=creator,
            dataset=spec.dataset,
            **_values(spec),
        )
        if not rows:
            return None
        self._add_schema(id, spec.schema)
        return self.get(id)

    def get(self, id: str, *, lock: bool = False) -> Project | None:
        """Return one project, locked until the end of the transaction when asked."""
        rows = self._rows(f"{_PROJECTS} WHERE p.id = :id{' FOR UPDATE OF p' if lock else ''}", id=id)
        return _project(rows[0]) if rows else None

    def page(self, after: str, limit: int) -> list[Project]:
        """Return projects by id."""
        rows = self._rows(
            f"{_PROJECTS} WHERE p.id > :after ORDER BY p.id LIMIT :limit", after=after, limit=limit
        )
        return [_project(row) for row in rows]

    def ids(self) -> list[str]:
        """Return the ids that near matches are sought among."""
        return [row.id for row in self._rows("SELECT id FROM projects ORDER BY id LIMIT 1000")]

    def update(self, project: Project, spec: ProjectSpec) -> Project:
        """Change a project; a schema of another version becomes the current one."""
        if spec.schema.version != project.spec.schema.version:
            self._add_schema(project.id, spec.schema)
        self._rows(
            "UPDATE projects SET display_name = :display_name, schema_version = :schema_version, "
            "overlap = :overlap, lease_s = :lease_s, gold_percent = :gold_percent, "
            "prelabel_percent = :prelabel_percent, pause_rule = :pause_rule, "
            "consensus_method = :consensus_method, revision = revision + 1, update_time = clock_timestamp() "
            "WHERE id = :id",
            "pause_rule",
            id=project.id,
            schema_version=spec.schema.version,
            **_values(spec),
        )
        changed = self.get(project.id)
        assert changed is not None
        return changed

    def task_counts(self, id: str) -> dict[str, int]:
        """Return how many tasks are in each state."""
        rows = self._rows("SELECT state, count(*) AS n FROM tasks WHERE project = :id GROUP BY state", id=id)
        return {row.state: row.n for row in rows}

    def annotation_count(self, id: str) -> int:
        """Return how many annotations stand."""
        rows = self._rows("SELECT coalesce(sum(answer_count), 0) AS n FROM tasks WHERE project = :id", id=id)
        return int(rows[0].n)

    def _add_schema(self, project: str, schema: Schema) -> None:
        self._rows(
            "INSERT INTO schemas (project, version, labels, multiple, instructions) "
            "VALUES (:project, :version, :labels, :multiple, :instructions)",
            project=project,
            version=schema.version,
            labels=list(schema.labels),
            multiple=schema.multiple,
            instructions=schema.instructions,
        )


def _values(spec: ProjectSpec) -> dict[str, Any]:
    return {
        "display_name": spec.display_name,
        "overlap": spec.overlap,
        "lease_s": spec.lease_s,
        "gold_percent": spec.gold_percent,
        "prelabel_percent": spec.prelabel_percent,
        "pause_rule": spec.pause_rule.__dict__,
        "consensus_method": str(spec.consensus_method),
    }


def _project(row: Row[Any]) -> Project:
    spec = ProjectSpec(
        display_name=row.display_name,
        dataset=row.dataset,
        schema=Schema(tuple(row.labels), row.multiple, row.instructions, row.schema_version),
        overlap=row.overlap,
        lease_s=row.lease_s,
        gold_percent=row.gold_percent,
        prelabel_percent=row.prelabel_percent,
        pause_rule=PauseRule(**row.pause_rule),
        consensus_method=ConsensusMethod(row.consensus_method),
    )
    return Project(row.id, spec, row.revision, row.creator, row.create_time, row.update_time)
