"""Windows against a reference: how often nothing is called drift, how fast drift is found, and what it is."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from slipway.task.profile import image_features as training_features
from slipway.task.profile import reference_profile
from slipway_monitoring.domain.drift import Comparison, DriftSettings, Kind, Streak, Verdict
from slipway_monitoring.engine.images import image_features
from slipway_monitoring.engine.reference import ProfileError, Reference
from slipway_monitoring.engine.window import Window, compare

CLASSES = [f"class {i}" for i in range(10)]
REFERENCE_ROWS, WINDOW_ROWS = 600, 500


class World:
    """Images whose contrast can fade, and a model whose answers can go soft."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def rows(self, count: int, fade: float = 1.0, soft: float = 0.0) -> tuple[Any, Any, Any]:
        """Return images (N, 8, 8, 1), probabilities (N, 10), embedding (N, 64)."""
        spread = 40 * self._random.uniform(0.7, 1.3, (count, 1, 1, 1))
        noise = self._random.normal(0, 1, (count, 8, 8, 1))
        images = np.clip(128 + spread * noise * fade, 0, 255).astype(np.uint8)
        label = self._random.integers(0, 10, count)
        embedding = self._random.normal(0, 1, (count, 64)).astype(np.float32)
        embedding[np.arange(count), label] += 4 * fade
        logits = self._random.normal(0, 1, (count, 10))
        logits[np.arange(count), label] += 5 - soft
        odds = np.exp(logits)
        return images, odds / odds.sum(axis=1, keepdims=True), embedding

    def profile(self, rows: int = REFERENCE_ROWS) -> dict[str, Any]:
        images, probabilities, embedding = self.rows(rows)
        made = reference_profile(
            images=images, probabilities=probabilities, embedding=embedding, classes=CLASSES, split="test"
        )
        return dict(json.loads(json.dumps(made)))

    def window(
        self, reference: Reference, captured: bool = True, count: int = WINDOW_ROWS, **how: float
    ) -> Window:
        images, probabilities, embedding = self.rows(count, **how)
        columns = {
            "predictions": np.array(CLASSES)[probabilities.argmax(axis=1)],
            "confidence": np.round(probabilities.max(axis=1), 4),
        }
        if captured:
            columns |= {f"inputs/image/{name}": v for name, v in image_features(images).items()}
        return Window.of(reference, columns, embedding, [f"{self._random.integers(1 << 60)}" for _ in images])


def compared(world: World, settings: DriftSettings, **how: Any) -> Comparison:
    reference = Reference.from_profile(world.profile())
    return compare(world.window(reference, **how), reference, settings)


def test_windows_without_drift_are_called_drifted_no_more_often_than_alpha_says() -> None:
    at_a_twentieth = DriftSettings(alpha=0.05, min_effect=0.0)
    drifted = alerts = by_default = 0

    for seed in range(30):
        world = World(seed)
        reference = Reference.from_profile(world.profile())
        streak = Streak()
        for _ in range(10):
            window = world.window(reference)
            drifted += compare(window, reference, at_a_twentieth).verdict is Verdict.DRIFTED
            found = compare(window, reference, DriftSettings()).verdict is Verdict.DRIFTED
            by_default += found
            streak = streak.after(found)
            alerts += streak.found == DriftSettings().raise_after

    print(f"300 windows without drift: {drifted} drifted at 0.05, {by_default} by default, {alerts} alerts")
    assert drifted <= 0.05 * 300
    assert binomtest(by_default, 300, 0.01, alternative="greater").pvalue > 0.05
    assert alerts == 0


@pytest.mark.parametrize(("fade", "within"), [(0.92, 4), (0.85, 2), (0.5, 2)])
def test_a_fading_lamp_raises_an_alert_within_a_few_windows(fade: float, within: int) -> None:
    settings, needed = DriftSettings(), []

    for seed in range(10):
        world = World(seed + 1000)
        reference = Reference.from_profile(world.profile())
        streak, windows = Streak(), 0
        while streak.found < settings.raise_after and windows < 50:
            result = compare(world.window(reference, fade=fade), reference, settings)
            streak, windows = streak.after(result.kind is Kind.INPUT), windows + 1
        needed.append(windows)

    print(f"contrast times {fade}: alert after {np.median(needed):.0f} windows, at most {max(needed)}")
    assert max(needed) <= within


def test_the_same_images_have_the_same_features_in_training_and_in_monitoring() -> None:
    for shape in ((40, 8, 8, 1), (25, 33, 17, 3), (3, 1, 1, 3), (0, 8, 8, 1)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

        ours, theirs = image_features(images), training_features(images)

        assert ours.keys() == theirs.keys()
        for name in ours:
            assert np.array_equal(ours[name], theirs[name]), (name, shape)


def test_the_examples_of_the_profile_are_no_drift_from_it() -> None:
    images, probabilities, _ = World(5).rows(REFERENCE_ROWS)
    reference = Reference.from_profile(World(5).profile())
    columns = {f"inputs/image/{name}": values for name, values in image_features(images).items()}
    columns["confidence"] = np.round(probabilities.max(axis=1), 4)

    result = compare(Window.of(reference, columns), reference, DriftSettings())

    assert [test.effect for test in result.tests] == [0.0] * 4


def test_windows_can_be_counted_in_parts() -> None:
    world = World(6)
    reference = Reference.from_profile(world.profile())
    one, two = world.window(reference), world.window(reference, captured=False)

    whole = one.merged(two)

    assert whole.histograms["confidence"].total == whole.classes["predictions"].total == 2 * WINDOW_ROWS
    assert whole.histograms["inputs/image/contrast"].total == WINDOW_ROWS
    assert whole.embedding is not None
    assert whole.embedding.seen == 2 * WINDOW_ROWS


def test_other_answers_to_the_same_inputs_point_at_the_model() -> None:
    result = compared(World(7), DriftSettings(), soft=1.5)

    assert (result.verdict, result.kind) == (Verdict.DRIFTED, Kind.MODEL)
    assert "the compared inputs do not: look at the model" in result.summary


def test_other_inputs_point_at_the_world_however_much_answers_differ() -> None:
    result = compared(World(8), DriftSettings(), fade=0.5, soft=1.5)

    assert result.kind is Kind.INPUT
    assert {test.subject for test in result.tests if test.drifted} >= {"inputs/image/contrast", "confidence"}


def test_without_captured_inputs_the_embedding_stands_in_for_them() -> None:
    moved = compared(World(9), DriftSettings(), captured=False, fade=0.2)
    soft = compared(World(9), DriftSettings(), captured=False, soft=1.5)

    assert moved.kind is Kind.INPUT
    assert soft.kind is Kind.MODEL
    assert "no inputs were captured" in soft.summary


def test_a_difference_smaller_than_the_smallest_effect_is_none() -> None:
    sure = compared(World(10), DriftSettings(min_effect=0.0), soft=0.6)
    small = compared(World(10), DriftSettings(min_effect=0.6), soft=0.6)

    assert (sure.verdict, small.verdict) == (Verdict.DRIFTED, Verdict.STABLE)


def test_too_few_rows_give_no_verdict() -> None:
    result = compared(World(11), DriftSettings(), count=99, fade=0.2)

    assert (result.verdict, result.kind, len(result.tests)) == (Verdict.TOO_FEW, Kind.NONE, 0)
    assert "99 rows" in result.summary


def test_a_profile_of_the_first_format_is_read() -> None:
    edges = np.linspace(0, 128, 33)
    old = {
        "format": 1,
        "inputs": {"image": {"contrast": {"edges": edges.tolist(), "counts": [10] * 32}}},
        "confidence": {"edges": np.linspace(0, 1, 21).tolist(), "counts": [16] * 20},
        "predictions": {"a": 200, "b": 120},
        "embedding": {"mean": [0.0], "std": [1.0], "norm": {}, "dimensions": []},
    }
    reference = Reference.from_profile(old)
    contrast = np.random.default_rng(0).uniform(0, 128, 500)

    same = compare(Window.of(reference, {"inputs/image/contrast": contrast}), reference, DriftSettings())
    faded = compare(Window.of(reference, {"inputs/image/contrast": contrast / 2}), reference, DriftSettings())

    assert (same.verdict, faded.kind) == (Verdict.STABLE, Kind.INPUT)
    assert reference.embedding is None


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ({}, "has format None"),
        ({"format": 3}, "has format 3"),
        ({"format": 2}, "KeyError 'confidence'"),
        ({"format": 2, "confidence": {"edges": [0, 1], "counts": [1, 2]}}, "one more ascending edge"),
    ],
)
def test_a_profile_that_cannot_be_read_is_refused_by_what_is_wrong(profile: dict[str, Any], why: str) -> None:
    with pytest.raises(ProfileError, match=why):
        Reference.from_profile(profile)


def test_a_streak_begins_anew_with_the_other_verdict() -> None:
    assert Streak().after(True).after(True) == Streak(found=2)
    assert Streak(found=2).after(False).after(False) == Streak(clean=2)
