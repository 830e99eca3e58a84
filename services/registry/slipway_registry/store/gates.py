"""Rows of policies, verdicts, aliases, and what was made of what."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from slipway_registry.domain import Version
from slipway_registry.domain.gates import Alias, Finding, GatePolicy, Judgement, NewVerdict, Outcome, Verdict
from slipway_registry.store.tables import Tables


class GateRows(Tables):
    """What must be true of a version, what was said of it, and which name it has."""

    def add_policy(self, model: str, yaml: str, creator: str) -> GatePolicy:
        """Keep a policy under the next number; the model must be locked."""
        rows = self._rows(
            "INSERT INTO policies (model, version, yaml, creator) SELECT :model, "
            "coalesce(max(version), 0) + 1, :yaml, :creator FROM policies WHERE model = :model RETURNING *",
            model=model,
            yaml=yaml,
            creator=creator,
        )
        return GatePolicy(**rows[0]._mapping)

    def policy(self, model: str) -> GatePolicy | None:
        """Return the policy in force, or None."""
        rows = self._rows(
            "SELECT * FROM policies WHERE model = :model ORDER BY version DESC LIMIT 1", model=model
        )
        return GatePolicy(**rows[0]._mapping) if rows else None

    def add_verdict(self, version: Version, made: NewVerdict, creator: str) -> Verdict:
        """Keep a verdict under the next number, and let the version follow; the model must be locked."""
        override = bool(made.override_reason)
        rows = self._rows(
            "INSERT INTO verdicts (model, version, number, verdict, findings, policy_version, evaluation, "
            "champion_version, override, override_reason, creator) SELECT :model, :version, "
            "coalesce(max(number), 0) + 1, :verdict, :findings, :policy_version, :evaluation, "
            ":champion_version, :override, :override_reason, :creator "
            "FROM verdicts WHERE model = :model AND version = :version RETURNING *",
            "findings",
            model=version.model,
            version=version.number,
            verdict=str(made.judgement),
            findings=[asdict(finding) for finding in made.findings],
            policy_version=made.policy_version,
            evaluation=made.evaluation,
            champion_version=made.champion_version,
            override=override,
            override_reason=made.override_reason,
            creator=creator,
        )
        self._rows(
            "UPDATE versions SET state = :state, verdict = :number "
            "WHERE model = :model AND number = :version",
            state=str(made.judgement),
            number=rows[0].number,
            model=version.model,
            version=version.number,
        )
        return _verdict(rows[0])

    def verdict(self, model: str, version: int, number: int) -> Verdict | None:
        """Return one verdict, or None."""
        rows = self._rows(
            "SELECT * FROM verdicts WHERE model = :model AND version = :version AND number = :number",
            model=model,
            version=version,
            number=number,
        )
        return _verdict(rows[0]) if rows else None

    def verdicts(self, model: str, version: int, before: int | None, limit: int) -> list[Verdict]:
        """Return verdicts, newest first."""
        rows = self._rows(
            "SELECT * FROM verdicts WHERE model = :model AND version = :version "
            "AND (CAST(:before AS int) IS NULL OR number < :before) ORDER BY number DESC LIMIT :limit",
            model=model,
            version=version,
            before=before,
            limit=limit,
        )
        return [_verdict(row) for row in rows]

    def set_alias(self, model: str, alias: str, version: int, updater: str) -> Alias:
        """Point an alias at a version; the model must be locked."""
        rows = self._rows(
            "INSERT INTO aliases (model, alias, version, updater) VALUES (:model, :alias, :version, "
            ":updater) ON CONFLICT (model, alias) DO UPDATE SET version = :version, updater = :updater, "
            "update_time = clock_timestamp() RETURNING *",
            model=model,
            alias=alias,
            version=version,
            updater=updater,
        )
        return Alias(**rows[0]._mapping)

    def alias(self, model: str, alias: str) -> Alias | None:
        """Return one alias, or None."""
        rows = self._rows(
            "SELECT * FROM aliases WHERE model = :model AND alias = :alias", model=model, alias=alias
        )
        return Alias(**rows[0]._mapping) if rows else None

    def aliases(self, model: str, after: str, limit: int) -> list[Alias]:
        """Return the aliases of a model by name."""
        rows = self._rows(
            "SELECT * FROM aliases WHERE model = :model AND alias > :after ORDER BY alias LIMIT :limit",
            model=model,
            after=after,
            limit=limit,
        )
        return [Alias(**row._mapping) for row in rows]

    def delete_alias(self, alias: Alias) -> None:
        """Take an alias away."""
        self._rows("DELETE FROM aliases WHERE model = :model AND alias = :alias", **_named(alias))

    def runs_of_commit(self, commit: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the runs on a commit with their serial numbers, oldest first."""
        rows = self._rows(
            "SELECT number, experiment, id FROM runs WHERE dataset_commit = :commit AND number > :after "
            "ORDER BY number LIMIT :limit",
            commit=commit,
            after=after,
            limit=limit,
        )
        return [(row.number, f"experiments/{row.experiment}/runs/{row.id}") for row in rows]

    def versions_of_run(self, run: str, after: str, limit: int) -> list[tuple[str, str]]:
        """Return the versions that came of a run with their models, by model: one each."""
        rows = self._rows(
            "SELECT model, number FROM versions WHERE run = :run AND model > :after "
            "ORDER BY model LIMIT :limit",
            run=run,
            after=after,
            limit=limit,
        )
        return [(row.model, f"models/{row.model}/versions/{row.number}") for row in rows]

    def versions_of_model(self, model: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the versions of a model with their numbers, oldest first."""
        rows = self._rows(
            "SELECT number FROM versions WHERE model = :model AND number > :after "
            "ORDER BY number LIMIT :limit",
            model=model,
            after=after,
            limit=limit,
        )
        return [(row.number, f"models/{model}/versions/{row.number}") for row in rows]


def _named(alias: Alias) -> dict[str, str]:
    return {"model": alias.model, "alias": alias.alias}


def _verdict(row: Row[Any]) -> Verdict:
    values = dict(row._mapping)
    judgement = Judgement(values.pop("verdict"))
    findings = tuple(_finding(finding) for finding in values.pop("findings"))
    return Verdict(judgement=judgement, findings=findings, **values)


def _finding(values: dict[str, Any]) -> Finding:
    return Finding(**{**values, "outcome": Outcome(values["outcome"])})
