"""What was made of what: commits, task code, jobs, runs, versions, evaluations."""

import sqlalchemy as sa

Edge = tuple[int, int, str]  # part and serial, to go on after; a resource name

# Each statement gives (part, serial, name). `:of` is the whole name, `:id` its last part.
CHILDREN = {
    "datasets/commits": (
        "SELECT 0 AS part, serial, 'trainingJobs/' || id AS name FROM jobs "
        "WHERE spec->>'dataset_commit' = :of UNION ALL "
        "SELECT 1, serial, 'scoringJobs/' || id FROM scoring_jobs WHERE spec->>'dataset_commit' = :of"
    ),
    "taskCode": (
        "SELECT 0 AS part, serial, 'trainingJobs/' || id AS name FROM jobs WHERE spec->>'task_code' = :of"
    ),
    "trainingJobs": "SELECT 0 AS part, serial, run AS name FROM jobs WHERE id = :id AND run != ''",
    "models/versions": (
        "SELECT 0 AS part, serial, 'scoringJobs/' || id AS name FROM scoring_jobs WHERE model_version = :of "
        "UNION ALL "
        "SELECT 1, serial, 'scoringJobs/' || id FROM scoring_jobs "
        "WHERE spec->>'champion_version' = :of AND model_version != :of"
    ),
    "scoringJobs": (
        "SELECT 0 AS part, serial, evaluation AS name FROM scoring_jobs WHERE id = :id AND evaluation != ''"
    ),
}
PARENTS = {
    "trainingJobs": (
        "SELECT 0 AS part, serial, spec->>'dataset_commit' AS name FROM jobs WHERE id = :id "
        "UNION ALL SELECT 1, serial, spec->>'task_code' FROM jobs WHERE id = :id"
    ),
    "scoringJobs": (
        "SELECT 0 AS part, serial, model_version AS name FROM scoring_jobs WHERE id = :id "
        "UNION ALL SELECT 1, serial, spec->>'champion_version' FROM scoring_jobs "
        "WHERE id = :id AND spec->>'champion_version' != '' "
        "UNION ALL SELECT 2, serial, spec->>'dataset_commit' FROM scoring_jobs WHERE id = :id"
    ),
    "taskCode": "SELECT 0 AS part, serial, id AS name FROM jobs WHERE false",
}


class LineageStore:
    """Reads the edges between the tables inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def edges(self, statement: str, name: str, after: tuple[int, int], limit: int) -> list[Edge]:
        """Return the edges of a name that come after `after`, in their order."""
        page = (
            f"SELECT part, serial, name FROM ({statement}) AS edges "  # a constant of this file
            "WHERE (part, serial) > (:part, :serial) ORDER BY part, serial LIMIT :limit"
        )
        values = {"of": name, "id": name.rpartition("/")[2], "part": after[0], "serial": after[1]}
        rows = self._connection.execute(sa.text(page), {**values, "limit": limit})
        return [(int(part), int(serial), str(other)) for part, serial, other in rows]


__all__ = ["CHILDREN", "PARENTS", "Edge", "LineageStore"]
