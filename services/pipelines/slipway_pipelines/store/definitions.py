"""Pipelines, their versions and schedules."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from slipway_runtime.errors import NotFound
from sqlalchemy.dialects.postgresql import insert

from slipway_pipelines.domain import errors
from slipway_pipelines.domain.definition import Definition, Schedule, Version
from slipway_pipelines.store.tables import now, pipelines, runs, versions

_definition: TypeAdapter[Definition] = TypeAdapter(Definition)
_schedule: TypeAdapter[Schedule] = TypeAdapter(Schedule)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A definition that people know by name."""

    id: str
    newest: str
    description: str
    schedule: Schedule | None
    paused: bool
    next_time: datetime | None
    last_time: datetime | None
    run_counts: dict[str, int]
    last_run: str
    create_time: datetime
    update_time: datetime

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"pipelines/{self.id}"


class Definitions:
    """Pipelines and versions inside one transaction.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, version: Version, next_time: datetime | None) -> Version:
        """Keep a version and make it the pipeline's newest; an older one that comes again is newest again."""
        definition = version.definition
        declared = (
            None if definition.schedule is None else _schedule.dump_python(definition.schedule, mode="json")
        )
        values = {"newest": version.digest, "schedule": declared, "next_time": next_time}
        row = insert(pipelines).values(id=definition.pipeline, **values)
        # a schedule that stays the same keeps its next time, and one that is paused stays so
        same = sa.cast(pipelines.c.schedule, sa.Text) == sa.cast(row.excluded.schedule, sa.Text)
        kept = sa.case(
            (sa.or_(same, pipelines.c.paused), pipelines.c.next_time), else_=row.excluded.next_time
        )
        self._connection.execute(
            row.on_conflict_do_update(
                index_elements=["id"], set_={**values, "next_time": kept, "update_time": now()}
            )
        )
        self._connection.execute(
            insert(versions)
            .values(
                pipeline=definition.pipeline,
                digest=version.digest,
                code_digest=version.code_digest,
                entry_point=version.entry_point,
                size_bytes=version.size_bytes,
                files=list(version.files),
                definition=_definition.dump_python(definition, mode="json"),
                creator=version.creator,
            )
            .on_conflict_do_nothing()
        )
        return self.version(definition.pipeline, version.digest)

    def get(self, id: str, *, lock: bool = False) -> Pipeline:
        """Return a pipeline; `lock` keeps its schedule from changing until the transaction ends.

        Raises:
            NotFound: there is none; near matches are named.
        """
        query = sa.select(pipelines).where(pipelines.c.id == id)
        row = self._connection.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            raise self.unknown(id)
        return self._pipelines([row])[0]

    def unknown(self, id: str) -> NotFound:
        """Return the error for an unknown pipeline."""
        known = self._connection.execute(sa.select(pipelines.c.id).limit(1000)).scalars()
        return errors.pipeline_not_found(f"pipelines/{id}", [f"pipelines/{other}" for other in known])

    def page(self, *, after: str, limit: int) -> list[Pipeline]:
        """Return at most `limit` pipelines after one, by id."""
        query = sa.select(pipelines).where(pipelines.c.id > after).order_by(pipelines.c.id).limit(limit)
        return self._pipelines(self._connection.execute(query).mappings().all())

    def newest(self, id: str) -> Version:
        """Return a pipeline's newest version."""
        return self.version(id, self.get(id).newest)

    def version(self, pipeline: str, digest: str) -> Version:
        """Return a version by its digest, or the start of it.

        Raises:
            NotFound: there is none.
        """
        where = (versions.c.pipeline == pipeline, versions.c.digest.startswith(digest))
        query = sa.select(versions).where(*where).order_by(versions.c.serial).limit(1)
        row = self._connection.execute(query).mappings().first()
        if row is None:
            name = f"pipelines/{pipeline}/versions/{digest}"
            known = [found.name for _, found in self.version_page(pipeline, before=None, limit=20)]
            raise errors.version_not_found(name, known)
        return _version(row)

    def version_page(self, pipeline: str, *, before: int | None, limit: int) -> list[tuple[int, Version]]:
        """Return at most `limit` versions with their serial numbers, newest first."""
        serial = versions.c.serial
        query = (
            sa.select(versions).where(versions.c.pipeline == pipeline).order_by(serial.desc()).limit(limit)
        )
        query = query.where(serial < before) if before is not None else query
        return [(row["serial"], _version(row)) for row in self._connection.execute(query).mappings()]

    def due(self, limit: int = 20) -> list[str]:
        """Return pipelines whose schedule's next time has come."""
        where = (pipelines.c.next_time <= now(), ~pipelines.c.paused)
        return list(self._connection.execute(sa.select(pipelines.c.id).where(*where).limit(limit)).scalars())

    def now(self) -> datetime:
        """Return the database's clock."""
        moment: datetime = self._connection.execute(sa.select(now())).scalar_one()
        return moment

    def move(self, id: str, *, next_time: datetime | None, **values: Any) -> None:
        """Set the schedule's next time, and `paused` or `last_time` with it."""
        statement = sa.update(pipelines).where(pipelines.c.id == id)
        self._connection.execute(statement.values(next_time=next_time, **values))

    def _pipelines(self, rows: Any) -> list[Pipeline]:
        ids = [row["id"] for row in rows]
        counts: dict[str, dict[str, int]] = {id: {} for id in ids}
        query = sa.select(runs.c.pipeline, runs.c.state, sa.func.count()).where(runs.c.pipeline.in_(ids))
        for id, state, count in self._connection.execute(query.group_by(runs.c.pipeline, runs.c.state)):
            counts[id][state] = int(count)
        newest = sa.select(runs.c.id).where(runs.c.pipeline == pipelines.c.id)
        newest = newest.order_by(runs.c.serial.desc()).limit(1)
        query = sa.select(pipelines.c.id, newest.scalar_subquery()).where(pipelines.c.id.in_(ids))
        last = {id: f"pipelines/{id}/runs/{run}" for id, run in self._connection.execute(query) if run}
        return [
            _pipeline(row, self.version(row["id"], row["newest"]), counts[row["id"]], last.get(row["id"], ""))
            for row in rows
        ]


def _pipeline(row: Mapping[Any, Any], version: Version, counts: dict[str, int], last_run: str) -> Pipeline:
    schedule = row["schedule"]
    names = ("id", "newest", "paused", "next_time", "last_time", "create_time", "update_time")
    return Pipeline(
        **{name: row[name] for name in names},
        description=version.definition.description.partition("\n")[0],
        schedule=None if schedule is None else _schedule.validate_python(schedule),
        run_counts=counts,
        last_run=last_run,
    )


def _version(row: Mapping[Any, Any]) -> Version:
    names = ("digest", "code_digest", "entry_point", "size_bytes", "creator", "create_time")
    return Version(
        **{name: row[name] for name in names},
        files=tuple(row["files"]),
        definition=_definition.validate_python(row["definition"]),
    )
