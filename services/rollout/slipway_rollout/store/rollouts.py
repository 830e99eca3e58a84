"""Rollouts and their decision log in rows."""

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from slipway_rollout import domain
from slipway_rollout.domain import Counters, Rollout, Verdict
from slipway_rollout.engine.evidence import Evidence

_metadata = sa.MetaData()
_rollouts = sa.Table(
    "rollouts",
    _metadata,
    sa.Column("endpoint", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("active", sa.Boolean),
    sa.Column("looks", sa.BigInteger),
    sa.Column("content", sa.JSON),
    sa.Column("evidence", sa.JSON),
    sa.Column("cursor", sa.Text),
    sa.Column("counters", sa.JSON),
    sa.Column("create_time", sa.DateTime(timezone=True)),
)
_verdicts = sa.Table(
    "verdicts",
    _metadata,
    sa.Column("endpoint", sa.Text, primary_key=True),
    sa.Column("rollout", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("content", sa.JSON),
)
_ROLLOUT = TypeAdapter(Rollout)
_VERDICT = TypeAdapter(Verdict)
_EVIDENCE = TypeAdapter(Evidence)
_COUNTERS = TypeAdapter(Counters | None)
Key = tuple[str, int]


@dataclass(frozen=True)
class Account:
    """What a rollout has taken in so far: `looks` grows with each look that was committed."""

    looks: int
    evidence: Evidence
    cursor: str
    counters: Counters | None


class RolloutRows:
    """Rollouts inside one transaction.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add_rollout(self, rollout: Rollout, evidence: Evidence) -> Rollout:
        """Add a rollout with the endpoint's next number; the caller holds the endpoint's row."""
        highest = sa.select(sa.func.max(_rollouts.c.number)).where(_rollouts.c.endpoint == rollout.endpoint)
        number = (self._connection.execute(highest).scalar() or 0) + 1
        now = self._connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        added = replace(rollout, number=number, create_time=now, update_time=now)
        self._connection.execute(
            sa.insert(_rollouts).values(
                endpoint=added.endpoint,
                number=number,
                active=added.active,
                looks=0,
                content=_ROLLOUT.dump_python(added, mode="json"),
                evidence=_EVIDENCE.dump_python(evidence, mode="json"),
                cursor="",
                create_time=now,
            )
        )
        return added

    def rollout(self, endpoint: str, number: int, *, lock: bool = False) -> Rollout:
        """Return a rollout; `lock` keeps others from changing it until the transaction ends.

        Raises:
            NotFound: There is none; near matches are named.
        """
        query = sa.select(_rollouts.c.content).where(
            _rollouts.c.endpoint == endpoint, _rollouts.c.number == number
        )
        content = self._connection.execute(query.with_for_update() if lock else query).scalar()
        if content is None:
            known = [one.name for one in self.rollouts(endpoint, None, 50)]
            raise domain.rollout_not_found(f"endpoints/{endpoint}/rollouts/{number}", known)
        return _ROLLOUT.validate_python(content)

    def running(self, endpoint: str, *, lock: bool = False) -> Rollout | None:
        """Return the endpoint's active rollout, or None."""
        query = sa.select(_rollouts.c.content).where(_rollouts.c.endpoint == endpoint, _rollouts.c.active)
        content = self._connection.execute(query.with_for_update() if lock else query).scalar()
        return None if content is None else _ROLLOUT.validate_python(content)

    def active(self) -> list[Key]:
        """Return endpoint and number of all active rollouts."""
        query = sa.select(_rollouts.c.endpoint, _rollouts.c.number).where(_rollouts.c.active)
        return [(row.endpoint, row.number) for row in self._connection.execute(query)]

    def rollouts(self, endpoint: str, before: Key | None, limit: int) -> list[Rollout]:
        """Return at most `limit` rollouts, newest first; an empty endpoint means all, by endpoint."""
        query = sa.select(_rollouts.c.content)
        if endpoint:
            query = query.where(_rollouts.c.endpoint == endpoint)
        if before is not None:
            key = sa.tuple_(_rollouts.c.endpoint, -_rollouts.c.number)
            query = query.where(key > sa.tuple_(sa.literal(before[0]), sa.literal(-before[1])))
        ordered = query.order_by(_rollouts.c.endpoint, _rollouts.c.number.desc()).limit(limit)
        return [_ROLLOUT.validate_python(content) for content in self._connection.execute(ordered).scalars()]

    def rollouts_of(self, model_version: str, after: Key, limit: int) -> list[Key]:
        """Return endpoint and number, past `after`, of rollouts that bring a version.

        Without an index of its own: there is a row per release, not per request.
        """
        key = sa.tuple_(_rollouts.c.endpoint, _rollouts.c.number)
        query = sa.select(_rollouts.c.endpoint, _rollouts.c.number).where(
            _rollouts.c.content["model_version"].as_string() == model_version,
            key > sa.tuple_(sa.literal(after[0]), sa.literal(after[1])),
        )
        ordered = query.order_by(_rollouts.c.endpoint, _rollouts.c.number).limit(limit)
        return [(row.endpoint, row.number) for row in self._connection.execute(ordered)]

    def save_rollout(self, rollout: Rollout) -> Rollout:
        """Write a rollout as it is, and return it as stored."""
        now = self._connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        saved = replace(rollout, update_time=now)
        content = _ROLLOUT.dump_python(saved, mode="json")
        self._connection.execute(
            _one(sa.update(_rollouts), saved).values(content=content, active=saved.active)
        )
        return saved

    def account(self, rollout: Rollout) -> Account:
        """Return what a rollout has taken in."""
        columns = (_rollouts.c.looks, _rollouts.c.evidence, _rollouts.c.cursor, _rollouts.c.counters)
        row = self._connection.execute(_one(sa.select(*columns), rollout)).one()
        evidence = _EVIDENCE.validate_python(row.evidence)
        return Account(row.looks, evidence, row.cursor, _COUNTERS.validate_python(row.counters))

    def save_account(self, rollout: Rollout, account: Account) -> None:
        """Write what a rollout has taken in; its looks grow by one."""
        self._connection.execute(
            _one(sa.update(_rollouts), rollout).values(
                looks=account.looks + 1,
                evidence=_EVIDENCE.dump_python(account.evidence, mode="json"),
                cursor=account.cursor,
                counters=_COUNTERS.dump_python(account.counters, mode="json"),
            )
        )

    def log(self, rollout: Rollout, verdict: Verdict) -> Verdict:
        """Add a verdict to the decision log, or put it in the place of the last one when it repeats that."""
        last = self._last(rollout)
        now = self._connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        if last is not None and verdict.repeats(last):
            kept = replace(verdict, number=last.number, create_time=last.create_time, update_time=now)
            content = _VERDICT.dump_python(kept, mode="json")
            change = _of(sa.update(_verdicts), rollout).where(_verdicts.c.number == last.number)
            self._connection.execute(change.values(content=content))
            return kept
        number = 1 if last is None else last.number + 1
        kept = replace(verdict, number=number, create_time=now, update_time=now)
        row = {"endpoint": rollout.endpoint, "rollout": rollout.number, "number": number}
        content = _VERDICT.dump_python(kept, mode="json")
        self._connection.execute(sa.insert(_verdicts).values(**row, content=content))
        return kept

    def verdicts(self, rollout: Rollout, before: int | None, limit: int) -> list[Verdict]:
        """Return at most `limit` verdicts of a rollout, newest first."""
        query = _of(sa.select(_verdicts.c.content), rollout)
        if before is not None:
            query = query.where(_verdicts.c.number < before)
        rows = self._connection.execute(query.order_by(_verdicts.c.number.desc()).limit(limit)).scalars()
        return [_VERDICT.validate_python(content) for content in rows]

    def _last(self, rollout: Rollout) -> Verdict | None:
        return next(iter(self.verdicts(rollout, None, 1)), None)


def _one(statement: Any, rollout: Rollout) -> Any:
    return statement.where(_rollouts.c.endpoint == rollout.endpoint, _rollouts.c.number == rollout.number)


def _of(statement: Any, rollout: Rollout) -> Any:
    return statement.where(_verdicts.c.endpoint == rollout.endpoint, _verdicts.c.rollout == rollout.number)
