"""What annotators do all day: take the next task, answer it.

Each is one transaction of prepared statements in one message to PostgreSQL: people wait for nothing else as
often. The statements keep `tasks.taken` as those of `store.work` do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg.errors
from slipway_runtime.db import Database, Prepared

from slipway_labeling.domain.projects import Labels
from slipway_labeling.domain.tasks import Annotation, Assignment
from slipway_labeling.store.annotations import annotation_of_row
from slipway_labeling.store.work import COLUMNS, DESK, LIVE, NEXT_REVISION, Desk, assignment_of_row

WAITING_AT_MOST = 100
# A statement of its own: the next one sees what was committed until the lock was had.
_DESK = Prepared.of("desk", DESK, project="text", annotator="text")
# An expired lease of one's own may come again; what one has answered or given back may not.
# A scalar subquery is one probe of the unique index per task looked at; NOT EXISTS would become a join with
# all that the person ever did.
_UNSEEN = (
    "coalesce((SELECT s.state = 'EXPIRED' FROM assignments s WHERE s.task = t.serial "
    "AND s.annotator = :annotator), true)"
)
_FREE = (
    "SELECT t.serial FROM tasks t WHERE t.project = :project AND t.state = 'OPEN' AND t.gold IS NULL "
    f"AND t.taken < t.overlap AND {_UNSEEN} ORDER BY t.priority DESC, t.serial"
)
_SHOWN = (
    "t.prelabel IS NOT NULL AND desk.prelabel_percent > "
    "abs(hashtextextended(t.project || '/' || t.serial || '/' || t.given, 0) % 100)"
)


def _claim(name: str, passing: str) -> Prepared:
    """Return the claim; `passing` says what becomes of tasks that another transaction has in hand.

    Who is paused or not known wants none. Of n new leases as many may be on gold tasks as of the first n
    draws fall below the project's share.
    """
    return Prepared.of(
        name,
        "WITH desk AS (SELECT p.* FROM annotators a JOIN projects p ON p.id = a.project "
        "WHERE a.project = :project AND a.id = :annotator AND NOT a.paused), "
        "held AS (SELECT task, number FROM assignments WHERE project = :project "
        "AND annotator = :annotator AND state = 'LEASED' AND lease_time > clock_timestamp()), "
        "wanted AS (SELECT coalesce((SELECT greatest(:count - (SELECT count(*) FROM held), 0) FROM desk), 0) "
        "AS n), "
        "gold AS (SELECT t.serial FROM tasks t WHERE t.project = :project AND t.gold IS NOT NULL "
        f"AND t.state IN ('OPEN', 'ANSWERED') AND {_UNSEEN} ORDER BY t.serial LIMIT (SELECT count(*) "
        "FROM wanted, desk, unnest(:draws) WITH ORDINALITY AS d(draw, place) "
        "WHERE d.place <= wanted.n AND d.draw < desk.gold_percent) FOR UPDATE SKIP LOCKED), "
        f"free AS ({_FREE} LIMIT (SELECT n - (SELECT count(*) FROM gold) FROM wanted) "
        f"FOR UPDATE {passing}), "
        "given AS (UPDATE tasks t SET taken = t.taken + 1, given = t.given + 1 "
        "WHERE t.serial = ANY(ARRAY(SELECT serial FROM gold UNION ALL SELECT serial FROM free)) "
        "RETURNING t.*), "
        "leased AS (INSERT INTO assignments (task, number, project, annotator, state, lease_time, "
        "claim_time, schema_version, prelabel, prelabel_shown) SELECT t.serial, t.given, t.project, "
        ":annotator, 'LEASED', clock_timestamp() + make_interval(secs => desk.lease_s), clock_timestamp(), "
        f"desk.schema_version, t.prelabel, {_SHOWN} FROM given t, desk "
        "ON CONFLICT (task, annotator) DO UPDATE SET state = 'LEASED', lease_time = excluded.lease_time, "
        "claim_time = excluded.claim_time, schema_version = excluded.schema_version RETURNING *), "
        f"waiting AS (SELECT count(*) AS n FROM ({_FREE} LIMIT {WAITING_AT_MOST} + :count) AS w) "
        f"SELECT w.n AS waiting, x.* FROM waiting w LEFT JOIN (SELECT {COLUMNS}, t.priority, "
        "false AS new, false AS free FROM held JOIN assignments a USING (task, number) "
        f"JOIN tasks t ON t.serial = a.task UNION ALL SELECT {COLUMNS}, t.priority, true, "
        "t.gold IS NULL FROM leased a JOIN given t ON t.serial = a.task) AS x ON true "
        "ORDER BY x.new, x.priority DESC, x.task",
        project="text",
        annotator="text",
        count="int",
        draws="float8[]",
    )


_CLAIM = _claim("claim", "SKIP LOCKED")
_CLAIM_WAITING = _claim("claim_waiting", "")

_ANSWERED = (
    f"WITH mine AS (UPDATE assignments a SET state = 'SUBMITTED', annotation = nextval('annotations_id_seq') "
    f"WHERE {LIVE} RETURNING a.*), "
    "made AS (INSERT INTO annotations (id, project, task, number, annotator, labels, revision, withdrawn, "
    "lease_ms, lead_ms, prelabel_shown, schema_version) SELECT annotation, project, task, number, annotator, "
    f":labels, {NEXT_REVISION}, false, extract(epoch FROM clock_timestamp() - claim_time) * 1000, :lead_ms, "
    "prelabel_shown, greatest(schema_version, :schema_version) FROM mine RETURNING *), "
    "counted AS (UPDATE tasks t SET answer_count = t.answer_count + 1, state = CASE WHEN "
    "t.state = 'OPEN' AND t.answer_count + 1 >= t.overlap THEN 'ANSWERED' ELSE t.state END "
    "FROM mine WHERE t.serial = mine.task RETURNING t.key) "
)
_KEPT = (
    ", kept AS (INSERT INTO idempotency (caller, request_id, method, fingerprint, answer) SELECT :caller, "
    ":request_id, :method, :mark, convert_to(annotation::text, 'UTF8') FROM mine) "
)
_MADE = (
    "SELECT made.id, made.project, made.task, made.number, made.annotator, made.labels, made.revision, "
    "made.withdrawn, made.lease_ms, made.lead_ms, made.prelabel_shown, made.schema_version, "
    "made.create_time, counted.key, true AS current FROM made, counted"
)
_ANSWER_TYPES = {
    "project": "text",
    "task": "bigint",
    "number": "bigint",
    "annotator": "text",
    "labels": "text[]",
    "lead_ms": "bigint",
    "schema_version": "int",
}
_SUBMIT = Prepared.of("submit", f"{_ANSWERED}{_MADE}", **_ANSWER_TYPES)
_SUBMIT_KEPT = Prepared.of(
    "submit_kept",
    f"{_ANSWERED}{_KEPT}{_MADE}",
    **_ANSWER_TYPES,
    caller="text",
    request_id="text",
    method="text",
    mark="bytea",
)


class RequestIdTaken(Exception):
    """A request_id was used before; nothing was written."""


@dataclass(frozen=True)
class Claimed:
    """What an annotator holds, and how many of these leases are new."""

    assignments: tuple[Assignment, ...]
    new_count: int
    waiting_count: int


class Turns:
    """Claims and answers, each a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self, project: str, annotator: str, draws: Sequence[float], *, wait: bool = False
    ) -> tuple[Desk | None, Claimed]:
        """Give leases until one per draw is held; return all that are held, those held before first.

        Returns the annotator's desk, None when there is no such desk or project, and what it holds: nothing
        new for one who is paused or has no desk.

        Args:
            project: Its id.
            annotator: His id.
            draws: For each lease a number from 0 to 100; below the project's share of gold it may be gold.
            wait: Wait for rows that another transaction has in hand, instead of passing them by.
        """
        who = {"project": project, "annotator": annotator}
        statement = _CLAIM_WAITING if wait else _CLAIM
        desks, rows = self._database.at_once(
            _DESK.values(**who), statement.values(**who, count=len(draws), draws=list(draws))
        )
        waiting = rows[0].waiting - sum(bool(row.free) for row in rows)
        found = tuple(assignment_of_row(row) for row in rows if row.task is not None)
        claimed = Claimed(found, sum(bool(row.new) for row in rows), min(waiting, WAITING_AT_MOST))
        return (Desk(*desks[0]) if desks else None), claimed

    def submit(
        self,
        name: tuple[str, int, int],
        annotator: str,
        labels: Labels,
        lead_ms: int,
        schema_version: int,
        repeat: Mapping[str, str | bytes] | None,
    ) -> Annotation | None:
        """Answer a live lease: one annotation, the assignment ended, the task counted, the answer kept.

        Returns the annotation, None when there is no such lease.

        Raises:
            RequestIdTaken: There is such a lease, but the request_id belongs to something else.
        """
        project, task, number = name
        statement = _SUBMIT_KEPT if repeat else _SUBMIT
        step = statement.values(
            project=project,
            task=task,
            number=number,
            annotator=annotator,
            labels=list(labels),
            lead_ms=lead_ms,
            schema_version=schema_version,
            **(repeat or {}),
        )
        try:
            [rows] = self._database.at_once(step)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.table_name == "idempotency":
                raise RequestIdTaken from error
            raise
        return annotation_of_row(rows[0]) if rows else None
