"""Captured inputs become examples: chosen once, sent again after any death, in one commit."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from event_maker import ENDPOINT, VERSION, FakeRegistry, batch, event, image, row
from PIL import Image
from slipway_monitoring.clients import PredictedItem, PredictionsImported
from slipway_monitoring.domain.captures import CaptureImport, ImportSpec, check_import
from slipway_monitoring.domain.events import Role, Tensor
from slipway_monitoring.engine.pictures import png
from slipway_monitoring.usecases.captures import CaptureImports
from slipway_monitoring.usecases.errands import Errands
from slipway_monitoring.usecases.events import Events
from slipway_monitoring.usecases.lineage import Lineage
from slipway_monitoring.usecases.retention import Retention
from slipway_runtime.db import Database, Repeat
from slipway_runtime.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from sqlalchemy import text

DATASET = "datasets/flowers"
COMMIT = "datasets/flowers/commits/" + "0" * 64


class FakeIngestion:
    """Makes one commit per request_id, and can fail before it or after it."""

    def __init__(self) -> None:
        self.commits: dict[str, list[PredictedItem]] = {}
        self.errors: list[Exception] = []
        self.dies_after = False
        self.calls: list[tuple[str, str, str]] = []

    def check_dataset(self, dataset: str) -> None:
        if dataset != DATASET:
            raise NotFound.of("DATASET_NOT_FOUND", "data set", dataset)

    def import_predictions(
        self,
        dataset: str,
        branch: str,
        message: str,
        request_id: str,
        items: Iterable[PredictedItem],
        *,
        on_behalf_of: str = "",
    ) -> PredictionsImported:
        self.calls.append((dataset, branch, on_behalf_of))
        sent = list(items)
        if self.errors:
            raise self.errors.pop(0)
        assert self.commits.setdefault(request_id, sent) == sent
        if self.dies_after:
            self.dies_after = False
            raise KeyboardInterrupt
        return PredictionsImported(COMMIT, len(sent), 0, "")


@pytest.fixture
def ingestion() -> FakeIngestion:
    return FakeIngestion()


@pytest.fixture
def imports(database: Database, ingestion: Any) -> CaptureImports:
    return CaptureImports(database=database, ingestion=ingestion)


@pytest.fixture
def errands(database: Database, ingestion: Any) -> Errands:
    return Errands(database=database, ingestion=ingestion, lease_s=60)


def asked(imports: CaptureImports, request_id: str = "", **fields: Any) -> CaptureImport:
    spec = ImportSpec(ENDPOINT, DATASET, **fields)
    return imports.create(spec, Repeat("CreateCaptureImport", request_id, repr(spec).encode()))


def captured(events: Events, *confidences: float, **fields: Any) -> Sequence[str]:
    """Report one captured row per confidence; return their names."""
    sent = [
        event(number, row("tulip", confidence, captured=image(number)), **fields)
        for number, confidence in enumerate(confidences, 1)
    ]
    events.report(batch(sent))
    return [f"predictions/{made.prediction_id}.0" for made in sent]


def wait_no_more(database: Database) -> None:
    """Let leases and waits of imports be over."""
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE capture_imports SET next_time = now() - interval '1 day', lease_until = next_time")
        )


def test_the_least_confident_rows_become_examples_with_their_origin(
    events: Events, imports: CaptureImports, errands: Errands, ingestion: FakeIngestion
) -> None:
    names = captured(events, 0.9, 0.5, 0.7)

    made = asked(imports, max_count=2, attributes={"reason": "drift"})
    errands.sweep()

    done = imports.get(made.name)
    (items,) = ingestion.commits.values()
    assert (made.state, made.spec.branch) == ("PENDING", "main")
    assert (done.state, done.commit, done.example_count) == ("SUCCEEDED", COMMIT, 2)
    assert sorted(item.key for item in items) == sorted([names[1], names[2]])
    by_key = {item.key: item for item in items}
    assert by_key[names[1]].attributes == {
        "endpoint": ENDPOINT,
        "model_version": VERSION,
        "predicted_label": "tulip",
        "confidence": "0.5",
        "reason": "drift",
    }
    assert Image.open(io.BytesIO(by_key[names[1]].data)).getpixel((3, 3)) == 2


def test_only_live_rows_of_the_time_and_confidence_are_chosen(
    events: Events, imports: CaptureImports, errands: Errands, ingestion: FakeIngestion
) -> None:
    now = datetime.now(UTC)
    old = int((now - timedelta(hours=2)).timestamp() * 1e6)
    captured(events, 0.5, time_us=old)
    captured(events, 0.5, role=Role.SHADOW)
    events.report(batch([event(1)]))
    names = captured(events, 0.5, 0.9)

    asked(imports, start_time=now - timedelta(hours=1), end_time=now + timedelta(hours=1), max_confidence=0.6)
    errands.sweep()

    (items,) = ingestion.commits.values()
    assert [item.key for item in items] == [names[0]]


def test_without_a_captured_image_an_import_is_refused(events: Events, imports: CaptureImports) -> None:
    table = row(captured=Tensor("FP32", (4,), b"\0" * 16))
    events.report(batch([event(1), event(2, table)]))

    with pytest.raises(FailedPrecondition) as refused:
        asked(imports)

    assert refused.value.reason == "NOTHING_CAPTURED"


def test_unknown_endpoints_data_sets_and_imports_are_not_found(
    events: Events, imports: CaptureImports
) -> None:
    captured(events, 0.5)
    repeat = Repeat("CreateCaptureImport", "", b"")
    for spec, reason in (
        (ImportSpec("endpoints/none", DATASET), "MONITOR_NOT_FOUND"),
        (ImportSpec(ENDPOINT, "datasets/none"), "DATASET_NOT_FOUND"),
    ):
        with pytest.raises(NotFound) as refused:
            imports.create(spec, repeat)
        assert refused.value.reason == reason

    with pytest.raises(NotFound) as unknown:
        imports.get("captureImports/" + "0" * 32)
    assert unknown.value.reason == "CAPTURE_IMPORT_NOT_FOUND"


def test_a_repeat_of_a_request_is_the_first_import(events: Events, imports: CaptureImports) -> None:
    captured(events, 0.5)

    assert asked(imports, "r-1") == asked(imports, "r-1")
    with pytest.raises(InvalidArgument) as refused:
        asked(imports, "r-1", max_count=5)
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_an_attempt_that_died_after_the_commit_is_made_again_to_the_same_answer(
    events: Events, imports: CaptureImports, errands: Errands, ingestion: FakeIngestion, database: Database
) -> None:
    captured(events, 0.5, 0.6)
    made = asked(imports)
    ingestion.dies_after = True
    with pytest.raises(KeyboardInterrupt):
        errands.sweep()
    captured(events, 0.1)  # later rows do not slip in

    errands.sweep()
    leased = imports.get(made.name).state
    wait_no_more(database)
    errands.sweep()

    assert leased == "RUNNING"
    assert (imports.get(made.name).state, imports.get(made.name).example_count) == ("SUCCEEDED", 2)
    assert len(ingestion.commits) == 1


def test_an_attempt_that_was_overtaken_has_no_effect(
    events: Events, imports: CaptureImports, errands: Errands, ingestion: FakeIngestion, database: Database
) -> None:
    captured(events, 0.5)
    made = asked(imports)
    overtaken = ingestion.import_predictions

    def slow(*args: Any, **kwargs: Any) -> PredictionsImported:
        ingestion.import_predictions = overtaken  # type: ignore[method-assign]
        wait_no_more(database)
        errands.run(made.id)
        return replace(overtaken(*args, **kwargs), commit="from the overtaken one")

    ingestion.import_predictions = slow  # type: ignore[method-assign]
    errands.run(made.id)

    assert imports.get(made.name).commit == COMMIT


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unavailable("INGESTION_UNAVAILABLE", "away"), "PENDING"),
        (Internal("INTERNAL", "odd"), "PENDING"),
        (NotFound("DATASET_NOT_FOUND", "gone"), "FAILED"),
    ],
    ids=["away", "odd", "gone"],
)
def test_errors_that_pass_are_waited_out_and_others_end_the_import(
    events: Events,
    imports: CaptureImports,
    errands: Errands,
    ingestion: FakeIngestion,
    database: Database,
    error: Exception,
    state: str,
) -> None:
    captured(events, 0.5)
    made = asked(imports)
    ingestion.errors.append(error)

    errands.sweep()
    after = imports.get(made.name)
    wait_no_more(database)
    errands.sweep()

    assert (after.state, after.error.partition(":")[0]) == (state, getattr(error, "reason", ""))
    assert imports.get(made.name).state == ("SUCCEEDED" if state == "PENDING" else "FAILED")


def test_retention_spares_what_an_import_waits_for_until_it_ends(
    events: Events, imports: CaptureImports, errands: Errands, ingestion: FakeIngestion, database: Database
) -> None:
    captured(events, 0.5)
    made = asked(imports)
    captured(events, 0.6, 0.7)
    sweep = Retention(database=database, hours=1, max_rows=2, max_captured_bytes=0).sweep

    sweep()
    spared = images(database)
    errands.sweep()

    assert spared == 1
    assert imports.get(made.name).example_count == 1
    assert images(database) == 0


def images(database: Database) -> int:
    with database.transaction() as connection:
        return int(connection.execute(text("SELECT count(*) FROM captures")).scalar_one())


def test_rows_know_their_commits_and_their_origin_after_their_event_is_forgotten(
    events: Events, imports: CaptureImports, errands: Errands, database: Database
) -> None:
    (name,) = captured(events, 0.5)
    (other,) = captured(events, 0.9)
    lineage = Lineage(database=database)
    asked(imports, max_count=1)
    before = lineage.children(name, 0, "")
    errands.sweep()

    Retention(database=database, hours=0, max_rows=0, max_captured_bytes=0).sweep()

    assert before == ([], "")
    assert lineage.children(name, 0, "") == ([COMMIT], "")
    assert lineage.parents(name, 0, "") == ([VERSION, ENDPOINT], "")
    first, token = lineage.parents(name, 1, "")
    assert [*first, *lineage.parents(name, 1, token)[0]] == [VERSION, ENDPOINT]
    for verb in (lineage.children, lineage.parents):
        with pytest.raises(NotFound) as refused:
            verb(other, 0, "")
        assert refused.value.reason == "PREDICTION_NOT_FOUND"


def test_pages_of_commits_go_on_where_they_ended(
    events: Events, imports: CaptureImports, errands: Errands, database: Database
) -> None:
    (name,) = captured(events, 0.5)
    for _ in range(3):
        asked(imports)
    errands.sweep()

    first, token = Lineage(database=database).children(name, 2, "")
    rest, end = Lineage(database=database).children(name, 2, token)

    assert (len(first), len(rest), end) == (2, 1, "")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"endpoint": "flowers"}, "capture_import.endpoint"),
        ({"dataset": "flowers"}, "capture_import.dataset"),
        ({"branch": "x" * 101}, "capture_import.branch"),
        ({"max_confidence": 1.5}, "capture_import.max_confidence"),
        ({"max_count": -1}, "capture_import.max_count"),
        ({"max_count": 10_001}, "capture_import.max_count"),
        ({"attributes": {str(n): "" for n in range(51)}}, "capture_import.attributes"),
        ({"attributes": {"endpoint": "mine"}}, "capture_import.attributes['endpoint']"),
        ({"attributes": {"a": "x" * 501}}, "capture_import.attributes['a']"),
        (
            {"start_time": datetime(2026, 2, 1, tzinfo=UTC), "end_time": datetime(2026, 1, 1, tzinfo=UTC)},
            "capture_import.end_time",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_import_is_refused_by_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_import(replace(ImportSpec(ENDPOINT, DATASET), **fields))

    assert [violation.field for violation in refused.value.violations] == [named]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_an_image_of_bytes_becomes_a_png_and_back(channels: int, mode: str) -> None:
    data = bytes(range(5 * 3 * channels))

    opened = Image.open(io.BytesIO(png(Tensor("UINT8", (5, 3, channels), data))))

    assert (opened.mode, opened.size, opened.tobytes()) == (mode, (3, 5), data)


def test_two_channels_are_no_image() -> None:
    with pytest.raises(ValueError, match="not 2"):
        png(Tensor("UINT8", (1, 1, 2), b"ab"))


def test_the_registry_is_asked_once_per_version(events: Events, registry: FakeRegistry) -> None:
    captured(events, 0.5)
    captured(events, 0.5)

    assert registry.asked == [VERSION]
