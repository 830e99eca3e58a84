"""Models and versions on a real database: numbers in order, versions that never change."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from slipway_registry.domain import Bundle, BundleFile, NewRun, RunState, Version
from slipway_registry.store import Store
from slipway_registry.usecases.models import Models
from slipway_registry.usecases.runs import Repeat, Runs
from slipway_runtime.db import Database
from slipway_runtime.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

ONCE = Repeat("", b"")
COMMIT = "datasets/flowers/commits/" + "ab" * 32
BUNDLE = Bundle(
    "0a" * 32,
    (BundleFile("model.onnx", 100, "11" * 32), BundleFile("golden.npz", 23, "22" * 32)),
    {"parity": {"max_abs_diff": 1e-6}},
    {"metrics": {"accuracy": 0.75}},
    datetime.now(UTC),
)


@pytest.fixture(autouse=True)
def _kept(database: Database, runs: Runs, models: Models) -> None:
    with database.transaction() as connection:
        Store(connection).add_bundle(BUNDLE)
        Store(connection).add_bundle(replace(BUNDLE, digest="0b" * 32, evaluation={"metrics": {}}))
    runs.create_experiment("e", "", ONCE)
    models.create("m", "first words", ONCE)


def run_of(runs: Runs, id: str, commit: str = COMMIT) -> str:
    new = NewRun(id, "", "", commit, "taskCode/x", {}, {}, 0, "")
    return runs.create_run("experiments/e", new, ONCE).name


def made(models: Models, run: str, bundle: str = BUNDLE.name, attempt: int = 0) -> Version:
    return models.create_version("models/m", run, bundle, attempt, ONCE)


def test_a_version_carries_what_its_run_and_its_bundle_say(runs: Runs, models: Models) -> None:
    run = run_of(runs, "r")

    version = made(models, run)

    assert (version.name, version.run, version.bundle) == ("models/m/versions/1", run, BUNDLE.name)
    assert (version.dataset_commit, version.code_digest) == (COMMIT, "taskCode/x")
    assert (version.size_bytes, version.parity_max_abs_diff) == (123, 1e-6)
    assert version.evaluation == {"metrics": {"accuracy": 0.75}}
    assert models.get("models/m").latest_version == 1


def test_a_version_never_changes_whatever_comes_after(runs: Runs, models: Models) -> None:
    run = run_of(runs, "r")
    version = made(models, run)

    again = made(models, run, bundle="bundles/" + "0b" * 32)
    runs.finish_run(run, RunState.SUCCEEDED, "", 0)
    late = made(models, run)
    made(models, run_of(runs, "other"))

    assert again == late == version
    assert models.get_version("models/m/versions/1") == version


def test_the_same_bundle_again_keeps_what_was_said_first(database: Database) -> None:
    with database.transaction() as connection:
        kept = Store(connection).add_bundle(
            replace(BUNDLE, evaluation={"metrics": {"accuracy": 1.0}}, files=())
        )

    assert kept.evaluation == {"metrics": {"accuracy": 0.75}}
    assert kept.files == BUNDLE.files


def test_numbers_have_no_gap_when_runs_are_refused_between_them(runs: Runs, models: Models) -> None:
    bare = run_of(runs, "bare", commit="")
    for number in (1, 2, 3):
        with pytest.raises(FailedPrecondition, match="names no dataset commit"):
            made(models, bare)
        with pytest.raises(NotFound):
            made(models, run_of(runs, f"lost-{number}"), bundle="bundles/" + "00" * 32)

        assert made(models, run_of(runs, f"r{number}")).number == number


def test_one_run_makes_one_version_however_many_ask_at_once(runs: Runs, models: Models) -> None:
    run = run_of(runs, "r")

    with ThreadPoolExecutor(4) as pool:
        numbers = set(pool.map(lambda _: made(models, run).number, range(8)))

    assert numbers == {1}
    assert models.get("models/m").latest_version == 1


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
def test_a_run_that_did_not_succeed_makes_no_version(state: RunState, runs: Runs, models: Models) -> None:
    run = run_of(runs, "r")
    runs.finish_run(run, state, "", 0)

    with pytest.raises(FailedPrecondition) as caught:
        made(models, run)

    assert caught.value.reason == "RUN_FINISHED"


def test_a_fenced_attempt_makes_no_version_and_the_newest_does(runs: Runs, models: Models) -> None:
    run = run_of(runs, "r")
    runs.begin_attempt(run, 2, 0, "", {})

    with pytest.raises(FailedPrecondition) as caught:
        made(models, run, attempt=1)

    assert caught.value.reason == "STALE_ATTEMPT"
    assert made(models, run, attempt=2).number == 1


def test_latest_is_the_newest_and_pages_go_down(runs: Runs, models: Models) -> None:
    for number in range(5):
        made(models, run_of(runs, f"r{number}"))

    first, token = models.list_versions("models/m", 3, "")
    rest, end = models.list_versions("models/m", 3, token)

    assert [version.number for version in (*first, *rest)] == [5, 4, 3, 2, 1]
    assert end == ""
    assert models.get_version("models/m/versions/latest").number == 5


@pytest.mark.parametrize(
    "number", ["0", "6", "-1", "x", "1.0", "²", "9" * 30, "9" * 5000], ids=lambda n: n[:9]
)
def test_a_version_that_is_not_there_is_told_with_those_that_are(
    number: str, runs: Runs, models: Models
) -> None:
    made(models, run_of(runs, "r"))

    with pytest.raises(NotFound, match="its versions: 1") as caught:
        models.get_version(f"models/m/versions/{number}")

    assert caught.value.reason == "MODEL_VERSION_NOT_FOUND"


def test_a_model_without_versions_says_so_for_latest(models: Models) -> None:
    with pytest.raises(NotFound, match="it has none yet"):
        models.get_version("models/m/versions/latest")


def test_a_change_needs_the_etag_that_was_read_last(runs: Runs, models: Models) -> None:
    before = models.get("models/m")

    after = models.update("models/m", before.etag, "second words", ["description"])

    assert after.description == "second words"
    for stale in (before.etag, "", "x"):
        with pytest.raises(Aborted) as caught:
            models.update("models/m", stale, "third words", ["description"])
        assert caught.value.metadata == {"etag": after.etag}
    made(models, run_of(runs, "r"))
    with pytest.raises(Aborted):
        models.update("models/m", after.etag, "third words", ["description"])


@pytest.mark.parametrize("paths", [[], ["name"], ["description", "latest_version"]])
def test_nothing_but_the_description_changes(paths: list[str], models: Models) -> None:
    with pytest.raises(InvalidArgument, match="only 'description' changes"):
        models.update("models/m", models.get("models/m").etag, "x", paths)


def test_an_id_is_taken_once_and_an_unknown_one_is_told_with_what_is_near(models: Models) -> None:
    models.create("flowers", "", ONCE)

    with pytest.raises(AlreadyExists):
        models.create("flowers", "", ONCE)
    with pytest.raises(NotFound, match="did you mean 'flowers'"):
        models.get("models/flower")
