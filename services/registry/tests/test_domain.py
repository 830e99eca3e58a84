"""Names, points, attempts: what the registry lets in, and what it says when it does not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from slipway_registry import domain
from slipway_registry.domain import NewRun, Point, Run, RunState
from slipway_runtime.errors import FailedPrecondition, InvalidArgument

NEW = NewRun("", "", "", "", "", {}, {}, 0, "")
RUN = Run(
    "e",
    "r",
    "",
    "",
    "",
    "",
    {},
    {},
    0,
    "",
    RunState.RUNNING,
    "",
    3,
    datetime(2026, 1, 1, tzinfo=UTC),
    None,
    "",
)


@pytest.mark.parametrize("id", ["a", "7", "a-b", "a" * 63])
def test_an_id_is_a_lower_case_name(id: str) -> None:
    assert domain.check_id("x", id) == id


@pytest.mark.parametrize("id", ["", "-a", "a-", "A", "a_b", "a/b", "..", "a" * 64, "ä", "a\n", "a\0"])
def test_an_id_of_another_form_is_refused_by_field(id: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        domain.check_id("model_id", id)

    assert caught.value.violations[0].field == "model_id"


def test_a_name_is_taken_apart_by_its_collections() -> None:
    assert domain.name_part("models/m", "models") == ("m",)
    assert domain.name_part("experiments/e/runs/r", "experiments", "runs") == ("e", "r")


@pytest.mark.parametrize(
    "name", ["", "models", "models/", "model/m", "models/m/versions/1", "runs/m", "/models/m", "models/m\0"]
)
def test_a_name_of_another_form_is_refused_with_the_right_one(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"write models/\{model\}"):
        domain.name_part(name, "models")


@pytest.mark.parametrize(
    "name",
    ["bundles/" + "a" * 63, "bundles/" + "A" * 64, "bundles/" + "g" * 64, "bundles/../" + "a" * 61, "a" * 64],
)
def test_a_bundles_name_is_its_digest(name: str) -> None:
    assert domain.check_digest("bundles/" + "0a" * 32) == "0a" * 32
    with pytest.raises(InvalidArgument):
        domain.check_digest(name)


@pytest.mark.parametrize(
    ("field", "run"),
    [
        ("run_id", replace(NEW, id="A")),
        ("run.display_name", replace(NEW, display_name="x" * 4001)),
        ("run.display_name", replace(NEW, display_name="\0")),
        ("run.dataset_commit", replace(NEW, dataset_commit="datasets/d/commits/main")),
        ("run.dataset_commit", replace(NEW, dataset_commit="datasets/D/commits/" + "0" * 64)),
        ("run.job", replace(NEW, job="\0")),
        ("run.code_digest", replace(NEW, code_digest="a\0")),
        ("run.host", replace(NEW, host="x" * 4001)),
        ("run.params", replace(NEW, params={"a": ["b\0"]})),
        ("run.params", replace(NEW, params={"lr": float("nan")})),
        ("run.environment", replace(NEW, environment={"a\0": "b"})),
    ],
    ids=lambda value: value if isinstance(value, str) else "run",
)
def test_a_run_that_could_not_be_kept_is_refused_by_field(field: str, run: NewRun) -> None:
    assert domain.check_run(NEW) == NEW

    with pytest.raises(InvalidArgument) as caught:
        domain.check_run(run)

    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(
    ("field", "point"),
    [
        ("points[1].key", Point("", 0, 1.0, None)),
        ("points[1].key", Point("x" * 201, 0, 1.0, None)),
        ("points[1].key", Point("a\0", 0, 1.0, None)),
        ("points[1].step", Point("a", -1, 1.0, None)),
    ],
    ids=["none", "long", "nul", "negative"],
)
def test_a_point_that_is_wrong_is_refused_by_its_place(field: str, point: Point) -> None:
    with pytest.raises(InvalidArgument) as caught:
        domain.check_points([Point("a", 0, 1.0, None), point])

    assert caught.value.violations[0].field == field


def test_a_batch_of_points_has_a_bound() -> None:
    points = [Point("a", step, 1.0, None) for step in range(domain.MAX_POINTS)]

    domain.check_points(points)
    with pytest.raises(InvalidArgument, match="send it in parts"):
        domain.check_points([*points, points[0]])


def test_the_fence_lets_the_newest_attempt_write_and_no_earlier_one() -> None:
    domain.fence(RUN, 3)
    with pytest.raises(FailedPrecondition) as caught:
        domain.fence(RUN, 2)

    assert caught.value.reason == "STALE_ATTEMPT"
    assert caught.value.metadata == {"attempt": "3"}


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_a_run_that_has_ended_lets_nobody_write_and_says_how_it_ended(state: RunState) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        domain.fence(replace(RUN, state=state), 3)

    assert caught.value.reason == "RUN_FINISHED"
    assert caught.value.metadata == {"state": state}


@pytest.mark.parametrize(
    ("manifest", "difference"),
    [
        ({"parity": {"max_abs_diff": 2e-6}}, 2e-6),
        ({"parity": {"max_abs_diff": 1}}, 1.0),
        ({"parity": {"max_abs_diff": "small"}}, 0.0),
        ({"parity": 3}, 0.0),
        ({}, 0.0),
    ],
    ids=["number", "whole", "text", "no-object", "none"],
)
def test_the_parity_of_a_manifest_is_a_number_whatever_it_says(
    manifest: dict[str, object], difference: float
) -> None:
    assert domain.parity_of(manifest) == difference
