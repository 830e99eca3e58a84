"""Experiments, runs and their metrics."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, once, page_of, page_size
from slipway_runtime.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from slipway_runtime.identity import current_caller

from slipway_registry.domain import (
    MAX_TEXT,
    Experiment,
    NewRun,
    Point,
    Run,
    RunState,
    check_begun,
    check_id,
    check_json,
    check_points,
    check_run,
    check_text,
    fence,
    name_part,
)
from slipway_registry.store import Store

POINTS = Counter("slipway_registry_points_total", "Metric points stored.")
_KNOWN = 1000


@dataclass(frozen=True)
class Repeat:
    """What makes a repeat recognisable: the request_id and the request's bytes."""

    request_id: str
    request: bytes


@dataclass(frozen=True)
class RunFilter:
    """Which runs a listing shows."""

    parent: str
    state: str = ""
    dataset_commit: str = ""


class Runs:
    """The verbs over experiments and runs."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def create_experiment(self, id: str, description: str, repeat: Repeat) -> Experiment:
        """Create an experiment.

        Raises:
            AlreadyExists: The id is taken.
        """
        check_id("experiment_id", id)
        check_text("experiment.description", description)
        with self._database.transaction() as connection:

            def effect() -> Experiment:
                made = Store(connection).add_experiment(id, description, current_caller().subject)
                if made is None:
                    raise _taken(f"experiments/{id}")
                return made

            return once(
                connection,
                request_id=repeat.request_id,
                method="CreateExperiment",
                request=repeat.request,
                answer=Experiment,
                effect=effect,
            )

    def get_experiment(self, name: str) -> Experiment:
        """Return one experiment."""
        (id,) = name_part(name, "experiments")
        with self._database.transaction() as connection:
            return _experiment(Store(connection), id)

    def list_experiments(self, size: int, token: str) -> tuple[list[Experiment], str]:
        """Return a page of experiments and the token of the next."""
        limit, tokens = page_size(size), PageToken(("experiments",))
        after = tokens.decode(token) or [""]
        with self._database.transaction() as connection:
            rows = Store(connection).experiments(str(after[0]), limit + 1)
        page = page_of(rows, limit)
        return page, tokens.encode(page[-1].id) if len(rows) > len(page) else ""

    def create_run(self, parent: str, run: NewRun, repeat: Repeat) -> Run:
        """Open a run, RUNNING; an id is made when the caller gives none."""
        (experiment,) = name_part(parent, "experiments", field_name="parent")
        named = replace(check_run(run), id=run.id or f"r-{uuid.uuid4().hex[:16]}")
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Run:
                _experiment(store, experiment)
                made = store.add_run(experiment, named, current_caller().subject)
                if made is None:
                    raise _taken(f"{parent}/runs/{named.id}")
                return made

            return once(
                connection,
                request_id=repeat.request_id,
                method="CreateRun",
                request=repeat.request,
                answer=Run,
                effect=effect,
            )

    def get_run(self, name: str) -> Run:
        """Return one run with the last value of each metric."""
        with self._database.transaction() as connection:
            store = Store(connection)
            run = run_named(store, name)
            number = store.number(run)
            return replace(run, last_metrics=store.last_metrics([number]).get(number, {}))

    def list_runs(self, which: RunFilter, size: int, token: str) -> tuple[list[Run], str]:
        """Return a page of runs, newest first, each with the last value of each metric."""
        (experiment,) = name_part(which.parent, "experiments", field_name="parent")
        limit = page_size(size)
        tokens = PageToken(("runs", which.parent, which.state, which.dataset_commit), (int,))
        before = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            if experiment != "-":
                _experiment(store, experiment)
            serial = int(before[0]) if before else None
            rows = store.runs(experiment, which.state, which.dataset_commit, serial, limit + 1)
            figures = store.last_metrics([number for number, _ in rows[:limit]])
        numbered = [(number, replace(run, last_metrics=figures.get(number, {}))) for number, run in rows]
        page = page_of(numbered, limit)
        return [run for _, run in page], tokens.encode(page[-1][0]) if len(rows) > len(page) else ""

    def begin_attempt(
        self, name: str, attempt: int, resume_step: int, host: str, environment: dict[str, str]
    ) -> Run:
        """Raise the fence and drop points after the step that the attempt goes on from.

        The same attempt may say so again: nothing that it wrote since is lost.
        """
        if attempt < 1:
            raise InvalidArgument.field("attempt", f"is {attempt}; attempts begin at 1")
        check_text("host", host)
        check_json("environment", environment)
        with self._database.transaction() as connection:
            store = Store(connection)
            run = run_named(store, name, lock=True)
            fence(run, attempt)
            if attempt == run.attempt:
                return run
            store.drop_points_after(run, resume_step)
            return store.begin_attempt(run, attempt, host, environment)

    def log_metrics(self, name: str, attempt: int, points: Sequence[Point]) -> int:
        """Store a batch of points; return how many were not known."""
        check_points(points)
        with self._database.transaction() as connection:
            store = Store(connection)
            run = run_named(store, name, lock=True)
            fence(run, attempt)
            check_begun(run, attempt)
            stored = store.add_points(run, points) if points else 0
        POINTS.inc(stored)
        return stored

    def list_points(self, parent: str, key: str, size: int, token: str) -> tuple[list[Point], str]:
        """Return a page of points by key and step."""
        limit, tokens = page_size(size), PageToken(("points", parent, key), (str, int))
        after = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            run = run_named(store, parent, field_name="parent")
            start = (str(after[0]), int(after[1])) if after else ("", -1)
            points = store.points(run, key, start, limit + 1)
        last = points[limit - 1] if len(points) > limit else None
        return points[:limit], tokens.encode(last.key, last.step) if last else ""

    def finish_run(self, name: str, state: RunState, error: str, attempt: int) -> Run:
        """End a run; the same end twice is the same answer.

        Raises:
            InvalidArgument: `state` is no end, or an attempt that was not begun claims success.
            FailedPrecondition: It has ended otherwise, or a later attempt writes it.
        """
        kept = error.replace("\0", "")[:MAX_TEXT]  # a program's last words may be anything
        if not state.ended:
            raise InvalidArgument.field("state", "is not an end; give SUCCEEDED, FAILED or CANCELLED")
        with self._database.transaction() as connection:
            store = Store(connection)
            run = run_named(store, name, lock=True)
            if run.state == state and run.error == kept:
                return run
            fence(run, attempt)
            if state is RunState.SUCCEEDED:  # one that died before it began may say so: the end is the fence
                check_begun(run, attempt)
            return store.finish_run(run, state, kept)


def _experiment(store: Store, id: str) -> Experiment:
    found = store.experiment(id)
    if found is None:
        known = [experiment.id for experiment in store.experiments("", _KNOWN)]
        raise NotFound.of("EXPERIMENT_NOT_FOUND", "experiment", id, known)
    return found


def run_named(store: Store, name: str, *, lock: bool = False, field_name: str = "name") -> Run:
    """Return the run of a resource name, locked when asked.

    Raises:
        NotFound: There is no such experiment or run; near ones are named.
    """
    experiment, id = name_part(name, "experiments", "runs", field_name=field_name)
    found = store.run(experiment, id, lock=lock)
    if found is None:
        _experiment(store, experiment)
        known = [run.id for _, run in store.runs(experiment, "", "", None, _KNOWN)]
        raise NotFound.of("RUN_NOT_FOUND", "run", id, known)
    return found


def run_for_version(store: Store, name: str, attempt: int) -> Run:
    """Return the locked run that is to make a version.

    Raises:
        FailedPrecondition: A later attempt writes it, or it failed.
    """
    run = run_named(store, name, lock=True, field_name="model_version.run")
    if run.state in (RunState.FAILED, RunState.CANCELLED) or attempt < run.attempt:
        fence(run, attempt)
    if not run.dataset_commit:
        message = f"{run.name} names no dataset commit, so no version can come of it; record it in the run"
        raise FailedPrecondition("INVALID_FIELD", message)
    return run


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists("ALREADY_EXISTS", f"{name} is there already; choose another id, or use it")
