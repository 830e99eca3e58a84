"""The campaign over pipelines: workers, server and broker are killed in turn; steps have one effect each.

A graph with a fan-out, a sensor and a condition. `make campaign` runs the full form, `make test` a shorter.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign import Audit, Journal, campaign
from flows import EFFECTS_OF_WHOLE, ENDED, WHOLE, State, push, recorded, runs, start, steps
from running import Keys, Service
from slipway.pipelines.v1 import pipelines_pb2 as pb
from slipway.pipelines.v1 import pipelines_pb2_grpc
from slipway_local.testing import MortalValkey
from test_campaign import FULL, WITHIN_S

pytestmark = [pytest.mark.xdist_group("campaign"), pytest.mark.timeout(WITHIN_S)]
SIZE = {"effects": 60, "kills": 40} if FULL else {"effects": 4, "kills": 8}
ENDS = {pb.StepRun.SUCCEEDED, pb.StepRun.SKIPPED}


class Pipelines:
    """A pipelines service with two workers, and a broker of its own."""

    def __init__(
        self,
        start_service: Callable[..., Service],
        settings: dict[str, Any],
        folder: Path,
        valkey: MortalValkey,
    ) -> None:
        self._url = settings["database_url"]
        self._made = folder / "made"
        self._made.mkdir()
        self._folder = folder
        self.server = start_service("slipway_pipelines.main", **settings)
        self._victims = [
            start_service("slipway_pipelines.main", "worker", **settings, work_dir=folder / f"work-{number}")
            for number in range(2)
        ]
        self._victims += [self.server, valkey]  # type: ignore[list-item]

    def campaign(self, token: str, journal: Journal, effects: int, kills: int, settle_s: float) -> Audit:
        """Start runs under kills; each acknowledged one must end with one effect per step."""
        with self.server.channel(token) as opened:
            stub = pipelines_pb2_grpc.PipelinesServiceStub(opened)
            push(stub, WHOLE, "whole", self._folder / "code")

            def effect(id: str) -> None:
                start(stub, "whole", id, folder=str(self._made), token=id)
                time.sleep(2)

            return campaign(
                victims=self._victims,  # type: ignore[arg-type]
                effect=effect,
                present=lambda: self._present(stub, settle_s),
                journal=journal,
                effects=effects,
                kills=kills,
                pause_s=(0.0, 3.0),
            )

    def _present(self, stub: Any, settle_s: float) -> Iterable[str]:
        """Yield the token of each run that ended with all its effects, twice when one is there twice."""
        stop_at = time.monotonic() + settle_s
        while any(run.state not in ENDED for run in runs(stub)) and time.monotonic() < stop_at:
            time.sleep(0.5)
        for run in runs(stub):
            yield from [run.parameters["token"]] * self._times(stub, run)

    def _times(self, stub: Any, run: pb.PipelineRun) -> int:
        """Return how often a run's effects are on record: 0 when one is missing, 2 when one is doubled."""
        ends = recorded(self._url, run.name)
        found = steps(stub, run.name).values()
        made = list(self._made.glob(f"{run.name.rpartition('/')[2]}.*"))
        whole = len(ends) == EFFECTS_OF_WHOLE == len(made) and {step.state for step in found} == ENDS
        if run.state != State.SUCCEEDED or not whole:
            return 0
        return max(ends.values())


@pytest.fixture
def service(keys: Keys) -> Iterator[Callable[..., Service]]:
    """Return a function that starts a service; all are stopped at the end."""
    running: list[Service] = []

    def start_one(module: str, verb: str = "serve", **settings: object) -> Service:
        running.append(Service(module, keys, verb, **settings))
        return (running[-1].migrate() if verb == "serve" else running[-1]).start()

    yield start_one
    for one in reversed(running):
        one.stop()


@pytest.fixture
def settings(
    keys: Keys, postgres: Any, objects: dict[str, str], mortal_valkey: MortalValkey
) -> dict[str, Any]:
    return {
        "database_url": postgres.fresh_database(),
        "broker_url": mortal_valkey.url,
        "token_file": keys.service_file("pipelines"),
        "lease_s": 2.0,
        "sweep_interval_s": 0.2,
        "resend_s": 1.0,
        "worker_threads": 2,
        **objects,
    }


def test_every_acknowledged_run_ends_with_one_effect_per_step(
    service: Callable[..., Service],
    keys: Keys,
    settings: dict[str, Any],
    mortal_valkey: MortalValkey,
    tmp_path: Path,
) -> None:
    pipelines = Pipelines(service, settings, tmp_path, mortal_valkey)

    audit = pipelines.campaign(
        keys.user(), Journal(tmp_path / "journal"), settle_s=300 + 10 * SIZE["effects"], **SIZE
    )

    assert audit.clean, audit
    assert audit.acknowledged >= SIZE["effects"]
    assert audit.kills >= SIZE["kills"]


def test_without_the_sweeper_the_campaign_finds_runs_that_never_end(
    service: Callable[..., Service],
    keys: Keys,
    settings: dict[str, Any],
    mortal_valkey: MortalValkey,
    tmp_path: Path,
) -> None:
    pipelines = Pipelines(service, {**settings, "sweep_interval_s": 3600}, tmp_path, mortal_valkey)

    audit = pipelines.campaign(keys.user(), Journal(tmp_path / "journal"), effects=1, kills=1, settle_s=10)

    assert audit.missing
    assert not audit.doubled
