"""Evaluations on a real database and bucket: kept once and whole; refused by the index of the first fault."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from judged import BESIDE, CLASSES, COMMIT, HEADER, examples
from slipway_registry.domain import Bundle, BundleFile, NewRun
from slipway_registry.domain.evaluations import Evaluation, Example
from slipway_registry.engine import examples as packed
from slipway_registry.store import Store
from slipway_registry.usecases.evaluations import Evaluations
from slipway_registry.usecases.models import Models
from slipway_registry.usecases.runs import Repeat, Runs
from slipway_runtime.db import Database
from slipway_runtime.errors import AlreadyExists, InvalidArgument, NotFound
from slipway_runtime.objects import ObjectStore

ONCE = Repeat("", b"")
LABELS = np.arange(30) % 3
RIGHT = np.arange(30) % 7 > 0


@pytest.fixture(autouse=True)
def _two_versions(database: Database, runs: Runs, models: Models) -> None:
    bundle = Bundle(
        "0a" * 32,
        (BundleFile("model.onnx", 100, "11" * 32),),
        {},
        {"classes": list(CLASSES)},
        datetime.now(UTC),
    )
    with database.transaction() as connection:
        Store(connection).add_bundle(bundle)
    runs.create_experiment("e", "", ONCE)
    models.create("m", "", ONCE)
    for id in ("a", "b"):
        new = NewRun(id, "", "trainingJobs/j", COMMIT, "taskCode/x", {}, {}, 0, "")
        run = runs.create_run("experiments/e", new, ONCE).name
        models.create_version("models/m", run, bundle.name, 0, ONCE)


def recorded(evaluations: Evaluations, **changes: Any) -> Evaluation:
    return evaluations.record(replace(HEADER, **changes), examples(LABELS, RIGHT))


def test_an_evaluation_comes_back_with_its_figures_rows_and_pictures(evaluations: Evaluations) -> None:
    made = evaluations.record(BESIDE, examples(LABELS, RIGHT, ~RIGHT))

    kept = evaluations.get("models/m/versions/2/evaluations/e")

    assert kept == made
    assert kept.report.metrics["accuracy"] == pytest.approx(RIGHT.mean())
    assert kept.report.champion_metrics["accuracy"] == pytest.approx(1 - RIGHT.mean())
    assert (kept.latency_ratio.median, kept.latency_ratio.low, kept.latency_ratio.high) == (1.1, 1.0, 1.2)
    assert evaluations.picture(kept.name, "roc").startswith(b"\x89PNG")
    rows = evaluations.rows(kept.name)
    assert rows.keys == tuple(sorted(f"{row:06}.png" for row in range(30)))
    assert (rows.labels == LABELS).all()


def test_the_same_content_in_another_order_is_the_same_evaluation(evaluations: Evaluations) -> None:
    first = recorded(evaluations)

    again = evaluations.record(HEADER, reversed(list(examples(LABELS, RIGHT))))

    assert again == first


def test_other_content_under_the_same_id_is_refused(evaluations: Evaluations) -> None:
    recorded(evaluations)

    with pytest.raises(AlreadyExists, match="evaluations/e is there already with other content"):
        evaluations.record(HEADER, examples(LABELS, ~RIGHT))
    with pytest.raises(AlreadyExists):
        recorded(evaluations, latency_ms=(2.0,))


def test_evaluations_are_listed_newest_first_without_curves(evaluations: Evaluations) -> None:
    for id in ("a", "b", "c"):
        recorded(evaluations, evaluation_id=id)

    first, token = evaluations.list("models/m/versions/1", 2, "")
    rest, end = evaluations.list("models/m/versions/1", 2, token)

    assert [made.header.evaluation_id for made in (*first, *rest)] == ["c", "b", "a"]
    assert (first[0].report.curves, first[0].report.confusion_matrix, end) == ((), (), "")
    assert first[0].report.metrics["accuracy"] == pytest.approx(RIGHT.mean())


def test_what_is_not_there_is_named_with_near_matches(evaluations: Evaluations) -> None:
    made = recorded(evaluations, evaluation_id="nightly")

    with pytest.raises(NotFound, match="did you mean 'nightly'"):
        evaluations.get("models/m/versions/1/evaluations/nightl")
    with pytest.raises(NotFound, match="its pictures: confusion, roc"):
        evaluations.picture(made.name, "heatmap")
    with pytest.raises(NotFound, match="no version '9'"):
        recorded(evaluations, parent="models/m/versions/9")
    with pytest.raises(NotFound, match="no version '8'"):
        recorded(evaluations, champion_version="models/m/versions/8", champion_classes=CLASSES)


def damaged(index: int, **changes: Any) -> list[Example]:
    rows = list(examples(LABELS, RIGHT))
    rows[index] = replace(rows[index], **changes)
    return rows


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"label": "orchid"}, r"examples\[7\].label: is 'orchid', which is none of .*rose, tulip, daisy"),
        ({"key": "000002.png"}, r"examples\[7\].key: is '000002.png' again, first at examples\[2\]"),
        ({"key": ""}, r"examples\[7\].key: is empty"),
        ({"probabilities": (0.5, 0.5)}, r"examples\[7\].probabilities: has 2 values for 3 classes"),
        ({"probabilities": (float("nan"), 0.5, 0.5)}, r"examples\[7\].probabilities: has a NaN"),
        (
            {"probabilities": (float("inf"), 0.0, 0.0)},
            r"examples\[7\].probabilities: has a NaN or an infinity",
        ),
        ({"probabilities": (3.0, -2.0, 0.0)}, r"examples\[7\].probabilities: goes from -2 to 3"),
        ({"probabilities": (0.5, 0.1, 0.1)}, r"examples\[7\].probabilities: sums to 0.7"),
        ({"champion_probabilities": (1.0, 0, 0)}, r"examples\[7\].champion_probabilities: are there, yet"),
        ({"attributes": {"a=b": "c"}}, r"examples\[7\].attributes\['a=b'\]: .*has '='"),
        ({"attributes": {"a": "\0"}}, r"examples\[7\].attributes\['a'\]: .*no NUL"),
    ],
)
def test_a_damaged_example_is_refused_by_its_index(
    evaluations: Evaluations, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text) as caught:
        evaluations.record(HEADER, damaged(7, **changes))

    assert caught.value.reason == "EVALUATION_REFUSED"
    assert evaluations.list("models/m/versions/1", 0, "") == ([], "")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dataset_commit": "flowers"}, "header.dataset_commit: is 'flowers'"),
        ({"classes": ("rose",)}, "header.classes: names 1 classes"),
        ({"classes": ("rose", "rose")}, "names 'rose' twice"),
        ({"classes": ("tulip", "rose", "daisy")}, "are not the version's, in its order: rose, tulip, daisy"),
        ({"champion_classes": CLASSES}, "header.champion_version: is empty, yet"),
        ({"latency_ms": (1.0, 0.0)}, r"header.latency_ms\[1\]: is 0.0"),
        ({"golden_max_abs_diff": float("nan")}, "header.golden_max_abs_diff: is nan"),
        (
            {"champion_version": "models/m/versions/2", "champion_classes": CLASSES, "latency_ms": (1.0, 2.0),
             "champion_latency_ms": (1.0,)},
            "header.champion_latency_ms: has 1 passes, the version 2",
        ),
    ],
)  # fmt: skip
def test_a_header_that_does_not_fit_is_refused_by_its_field(
    evaluations: Evaluations, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text) as caught:
        recorded(evaluations, **changes)

    assert caught.value.reason == "EVALUATION_REFUSED"


def test_an_evaluation_without_examples_or_with_too_many_is_refused(
    evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgument, match="are none"):
        evaluations.record(HEADER, [])

    monkeypatch.setattr(packed, "MAX_EXAMPLES", 29)
    with pytest.raises(InvalidArgument, match="are more than 29; evaluate on a sample"):
        recorded(evaluations)


class Crash(Exception):
    """The process dies here."""


@pytest.mark.parametrize("dies_at", ["put", "row"])
def test_a_crash_leaves_no_name_without_its_objects_and_the_next_try_succeeds(
    evaluations: Evaluations, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    def die(*args: Any, **kwargs: Any) -> None:
        raise Crash

    with monkeypatch.context() as dying:
        if dies_at == "put":
            put: Callable[..., None] = objects.put
            dying.setattr(objects, "put", lambda key, *rest: die() if "roc" in key else put(key, *rest))
        else:
            dying.setattr(Store, "add_evaluation", die)
        with pytest.raises(Crash):
            recorded(evaluations)

    assert objects.list("evaluations/") != []
    assert evaluations.list("models/m/versions/1", 0, "") == ([], "")
    made = recorded(evaluations)
    assert all(evaluations.picture(made.name, kind) for kind in made.pictures)
    assert len(evaluations.rows(made.name).keys) == 30


def test_rows_are_packed_without_pickles_and_damage_is_seen() -> None:
    rows = packed.gather(BESIDE, examples(LABELS, RIGHT, ~RIGHT))

    data = packed.pack(BESIDE, rows)

    back = packed.unpack(data)
    assert (back.keys, back.groups, back.attributes) == (rows.keys, rows.groups, rows.attributes)
    assert packed.digest_of(BESIDE, back) == packed.digest_of(BESIDE, rows)
    with pytest.raises(ValueError):
        packed.unpack(data[: len(data) // 2])


def test_two_writers_of_one_id_at_once_keep_one_evaluation(evaluations: Evaluations) -> None:
    with ThreadPoolExecutor(4) as pool:
        same = list(pool.map(lambda _: recorded(evaluations, evaluation_id="same"), range(4)))
        answers = (RIGHT, ~RIGHT, np.ones(30, bool), np.zeros(30, bool))
        other = list(pool.map(lambda mine: _outcome(evaluations, mine), answers))

    assert len({made.create_time for made in same}) == 1
    assert sorted(other) == ["ALREADY_EXISTS", "ALREADY_EXISTS", "ALREADY_EXISTS", "kept"]
    assert len(evaluations.list("models/m/versions/1", 0, "")[0]) == 2


def _outcome(evaluations: Evaluations, mine: Any) -> str:
    try:
        evaluations.record(replace(HEADER, evaluation_id="race"), examples(LABELS, mine))
    except AlreadyExists as error:
        return error.reason
    return "kept"
