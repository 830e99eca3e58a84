"""Experiments, runs, points, models, bundles and versions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from slipway_registry.domain import (
    Bundle,
    BundleFile,
    Experiment,
    Model,
    NewRun,
    Point,
    Run,
    RunState,
    Version,
    VersionState,
    parity_of,
)
from slipway_registry.store.tables import Tables


class Records(Tables):
    """What was trained, and what came of it."""

    # Experiments

    def add_experiment(self, id: str, description: str, creator: str) -> Experiment | None:
        """Return the new experiment, or None when the id is taken."""
        rows = self._rows(
            "INSERT INTO experiments (id, description, creator) VALUES (:id, :description, :creator) "
            "ON CONFLICT DO NOTHING RETURNING *",
            id=id,
            description=description,
            creator=creator,
        )
        return _experiment(rows[0]) if rows else None

    def experiment(self, id: str) -> Experiment | None:
        """Return one experiment, or None."""
        rows = self._rows("SELECT * FROM experiments WHERE id = :id", id=id)
        return _experiment(rows[0]) if rows else None

    def experiments(self, after: str, limit: int) -> list[Experiment]:
        """Return experiments by id."""
        statement = "SELECT * FROM experiments WHERE id > :after ORDER BY id LIMIT :limit"
        return [_experiment(row) for row in self._rows(statement, after=after, limit=limit)]

    # Runs

    def add_run(self, experiment: str, run: NewRun, creator: str) -> Run | None:
        """Return the new run, or None when the id is taken."""
        rows = self._rows(
            "INSERT INTO runs (experiment, id, display_name, job, dataset_commit, code_digest, params, "
            "environment, seed, host, state, error, attempt, creator) VALUES (:experiment, :id, "
            ":display_name, :job, :dataset_commit, :code_digest, :params, :environment, :seed, :host, "
            "'RUNNING', '', 0, "
            f":creator) ON CONFLICT (experiment, id) DO NOTHING RETURNING {_RUN}",
            "params",
            "environment",
            experiment=experiment,
            creator=creator,
            **run.__dict__,
        )
        return _run(rows[0]) if rows else None

    def run(self, experiment: str, id: str, *, lock: bool = False) -> Run | None:
        """Return one run, locked until the end of the transaction when asked."""
        rows = self._rows(
            f"SELECT {_RUN} FROM runs WHERE experiment = :experiment AND id = :id"
            f"{' FOR UPDATE' if lock else ''}",
            experiment=experiment,
            id=id,
        )
        return _run(rows[0]) if rows else None

    def runs(
        self, experiment: str, state: str, commit: str, before: int | None, limit: int
    ) -> list[tuple[int, Run]]:
        """Return runs with their serial numbers, newest first; empty filters match all."""
        rows = self._rows(
            f"SELECT {_RUN} FROM runs WHERE (:experiment = '-' OR experiment = :experiment) "
            "AND (:state = '' OR state = :state) AND (:commit = '' OR dataset_commit = :commit) "
            "AND (CAST(:before AS bigint) IS NULL OR number < :before) ORDER BY number DESC LIMIT :limit",
            experiment=experiment,
            state=state,
            commit=commit,
            before=before,
            limit=limit,
        )
        return [(row.number, _run(row)) for row in rows]

    def begin_attempt(self, run: Run, attempt: int, host: str, environment: dict[str, str]) -> Run:
        """Raise the fence of a run."""
        rows = self._rows(
            "UPDATE runs SET attempt = :attempt, host = :host, environment = environment || :environment "
            f"WHERE experiment = :experiment AND id = :id RETURNING {_RUN}",
            "environment",
            attempt=attempt,
            host=host or run.host,
            environment=environment,
            experiment=run.experiment,
            id=run.id,
        )
        return _run(rows[0])

    def finish_run(self, run: Run, state: RunState, error: str) -> Run:
        """End a run."""
        rows = self._rows(
            "UPDATE runs SET state = :state, error = :error, end_time = clock_timestamp() "
            f"WHERE experiment = :experiment AND id = :id RETURNING {_RUN}",
            state=str(state),
            error=error,
            experiment=run.experiment,
            id=run.id,
        )
        return _run(rows[0])

    # Metric points

    def drop_points_after(self, run: Run, step: int) -> None:
        """Forget the points of later steps: another attempt will measure them again."""
        self._rows(f"DELETE FROM points WHERE run = {_SERIAL} AND step > :step", step=step, **_key(run))

    def add_points(self, run: Run, points: Sequence[Point]) -> int:
        """Store the points not known yet; return how many those were.

        One statement over arrays: at 1,000 points about 20 times as fast as a statement each.
        """
        unique = {(point.key, point.step): point for point in points}.values()
        rows = self._rows(
            "WITH new AS (INSERT INTO points (run, key, step, value, time) "
            f"SELECT {_SERIAL}, key, step, value, coalesce(time, clock_timestamp()) FROM unnest("
            "CAST(:keys AS text[]), CAST(:steps AS bigint[]), CAST(:numbers AS float8[]), "
            "CAST(:times AS timestamptz[])) AS p(key, step, value, time) "
            "ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) AS stored FROM new",
            keys=[point.key for point in unique],
            steps=[point.step for point in unique],
            numbers=[point.value for point in unique],
            times=[point.time for point in unique],
            **_key(run),
        )
        return int(rows[0].stored)

    def points(self, run: Run, key: str, after: tuple[str, int], limit: int) -> list[Point]:
        """Return points by key and step."""
        rows = self._rows(
            f"SELECT key, step, value, time FROM points WHERE run = {_SERIAL} AND (:key = '' OR key = :key) "
            "AND (key, step) > (:after_key, :after_step) ORDER BY key, step LIMIT :limit",
            key=key,
            after_key=after[0],
            after_step=after[1],
            limit=limit,
            **_key(run),
        )
        return [Point(row.key, row.step, row.value, row.time) for row in rows]

    def number(self, run: Run) -> int:
        """Return a run's serial number."""
        return int(self._rows(f"SELECT {_SERIAL} AS number", **_key(run))[0].number)

    def last_metrics(self, numbers: Sequence[int]) -> dict[int, dict[str, float]]:
        """Return, by run, the value at the last step of each series (a loose index scan over the keys)."""
        rows = self._rows(
            "WITH RECURSIVE keys AS (SELECT run, (SELECT key FROM points WHERE run = wanted.run "
            "ORDER BY key LIMIT 1) AS key FROM unnest(CAST(:numbers AS bigint[])) AS wanted (run) "
            "UNION ALL SELECT run, (SELECT key FROM points WHERE run = keys.run AND key > keys.key "
            "ORDER BY key LIMIT 1) FROM keys WHERE key IS NOT NULL) "
            "SELECT run, key, (SELECT value FROM points "
            "WHERE run = keys.run AND key = keys.key ORDER BY step DESC LIMIT 1) AS value "
            "FROM keys WHERE key IS NOT NULL",
            numbers=list(numbers),
        )
        found: dict[int, dict[str, float]] = {}
        for row in rows:
            found.setdefault(row.run, {})[row.key] = row.value
        return found

    # Models

    def add_model(self, id: str, description: str, creator: str) -> Model | None:
        """Return the new model, or None when the id is taken."""
        rows = self._rows(
            "INSERT INTO models (id, description, creator) VALUES (:id, :description, :creator) "
            "ON CONFLICT DO NOTHING RETURNING *",
            id=id,
            description=description,
            creator=creator,
        )
        return _model(rows[0]) if rows else None

    def model(self, id: str, *, lock: bool = False) -> Model | None:
        """Return one model, locked until the end of the transaction when asked."""
        rows = self._rows(f"SELECT * FROM models WHERE id = :id{' FOR UPDATE' if lock else ''}", id=id)
        return _model(rows[0]) if rows else None

    def models(self, after: str, limit: int) -> list[Model]:
        """Return models by id."""
        statement = "SELECT * FROM models WHERE id > :after ORDER BY id LIMIT :limit"
        return [_model(row) for row in self._rows(statement, after=after, limit=limit)]

    def update_model(self, id: str, description: str) -> Model:
        """Change a model."""
        rows = self._rows(
            "UPDATE models SET description = :description, revision = revision + 1, "
            "update_time = clock_timestamp() WHERE id = :id RETURNING *",
            id=id,
            description=description,
        )
        return _model(rows[0])

    # Bundles and versions

    def add_bundle(self, bundle: Bundle) -> Bundle:
        """Keep a bundle; one of the same digest is the same."""
        files = [file.__dict__ for file in bundle.files]
        self._rows(
            "INSERT INTO bundles (digest, files, manifest, evaluation) "
            "VALUES (:digest, :files, :manifest, :evaluation) ON CONFLICT DO NOTHING",
            "files",
            "manifest",
            "evaluation",
            digest=bundle.digest,
            files=files,
            manifest=bundle.manifest,
            evaluation=bundle.evaluation,
        )
        kept = self.bundle(bundle.digest)
        assert kept is not None
        return kept

    def bundle(self, digest: str) -> Bundle | None:
        """Return one bundle, or None."""
        rows = self._rows("SELECT * FROM bundles WHERE digest = :digest", digest=digest)
        return _bundle(rows[0]) if rows else None

    def add_version(self, model: Model, run: Run, bundle: Bundle, creator: str) -> Version:
        """Make the next version; the model must be locked, so that numbers have no gap."""
        self._rows(
            "WITH next AS (UPDATE models SET latest_version = latest_version + 1, revision = revision + 1, "
            "update_time = clock_timestamp() WHERE id = :model RETURNING latest_version) "
            "INSERT INTO versions (model, number, run, dataset_commit, code_digest, bundle, creator) "
            "SELECT :model, latest_version, :run, :commit, :code, :bundle, :creator FROM next",
            model=model.id,
            run=run.name,
            commit=run.dataset_commit,
            code=run.code_digest,
            bundle=bundle.digest,
            creator=creator,
        )
        made = self.version_of_run(model.id, run.name)
        assert made is not None
        return made

    def version_of_run(self, model: str, run: str) -> Version | None:
        """Return the version that a run made of a model, or None."""
        return self._version("v.model = :model AND v.run = :run", model=model, run=run)

    def version(self, model: str, number: int) -> Version | None:
        """Return one version, or None."""
        return self._version("v.model = :model AND v.number = :number", model=model, number=number)

    def versions(
        self, model: str, before: int | None, limit: int, states: Sequence[VersionState] = ()
    ) -> list[Version]:
        """Return versions, newest first; of these states alone, when there are any."""
        rows = self._rows(
            f"{_VERSIONS} WHERE v.model = :model AND (CAST(:before AS int) IS NULL OR v.number < :before) "
            "AND (CAST(:states AS text[]) = '{}' OR v.state = ANY(:states)) "
            "ORDER BY v.number DESC LIMIT :limit",
            model=model,
            before=before,
            states=[str(state) for state in states],
            limit=limit,
        )
        return [_version(row) for row in rows]

    def _version(self, where: str, **values: Any) -> Version | None:
        rows = self._rows(f"{_VERSIONS} WHERE {where}", **values)
        return _version(rows[0]) if rows else None


_SERIAL = "(SELECT number FROM runs WHERE experiment = :experiment AND id = :id)"
_RUN = (
    "runs.*, ARRAY(SELECT erasure FROM erased_commits e WHERE e.dataset_commit = runs.dataset_commit "
    "ORDER BY erasure) AS contains_erased"
)
_VERSIONS = (
    "SELECT v.*, b.files, b.manifest, b.evaluation, "
    "EXISTS (SELECT 1 FROM policies p WHERE p.model = v.model) AS gated, "
    "ARRAY(SELECT alias FROM aliases a WHERE a.model = v.model AND a.version = v.number ORDER BY alias) "
    "AS aliases, ARRAY(SELECT erasure FROM erased_commits e WHERE e.dataset_commit = v.dataset_commit "
    "ORDER BY erasure) AS contains_erased FROM versions v JOIN bundles b ON b.digest = v.bundle"
)


def _key(run: Run) -> dict[str, str]:
    return {"experiment": run.experiment, "id": run.id}


def _experiment(row: Row[Any]) -> Experiment:
    return Experiment(row.id, row.description, row.create_time, row.creator)


def _run(row: Row[Any]) -> Run:
    values = dict(row._mapping)
    values.pop("number")
    erased = tuple(row.contains_erased)
    return Run(**{**values, "state": RunState(row.state), "contains_erased": erased})


def _model(row: Row[Any]) -> Model:
    return Model(
        id=row.id,
        description=row.description,
        latest_version=row.latest_version,
        create_time=row.create_time,
        update_time=row.update_time,
        etag=str(row.revision),
        creator=row.creator,
    )


def _files(files: list[dict[str, Any]]) -> tuple[BundleFile, ...]:
    return tuple(BundleFile(**file) for file in files)


def _bundle(row: Row[Any]) -> Bundle:
    created: datetime = row.create_time
    return Bundle(row.digest, _files(row.files), row.manifest, row.evaluation, created)


def _version(row: Row[Any]) -> Version:
    return Version(
        model=row.model,
        number=row.number,
        run=row.run,
        dataset_commit=row.dataset_commit,
        code_digest=row.code_digest,
        bundle=f"bundles/{row.bundle}",
        evaluation=row.evaluation,
        parity_max_abs_diff=parity_of(row.manifest),
        size_bytes=sum(file["size_bytes"] for file in row.files),
        create_time=row.create_time,
        creator=row.creator,
        state=VersionState(row.state),
        verdict=row.verdict,
        gated=row.gated,
        aliases=tuple(row.aliases),
        contains_erased=tuple(row.contains_erased),
    )
