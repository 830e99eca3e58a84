"""What an event says of the call that was answered, and which inputs it keeps."""

import time
from typing import Any

import numpy as np
import pytest
from slipway.monitoring.v1 import monitoring_pb2 as pb
from slipway_inference.api.events import Call, EventMaker
from slipway_inference.domain import BatchReason, CapturePolicy, Signature, TensorSpec
from slipway_inference.engine.batcher import Outcome
from slipway_inference.usecases.slots import Answer

IMAGES = np.arange(3 * 4, dtype=np.uint8).reshape(3, 4)
SCORES = np.array([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8]], np.float32)
SIGNATURE = Signature(
    (TensorSpec("image", "UINT8", (-1, 4)),), (TensorSpec("probabilities", "FP32", (-1, 2)),), 8
)
LIVE, SHADOW, TESTER = pb.PredictionEvent.LIVE, pb.PredictionEvent.SHADOW, pb.PredictionEvent.TESTER


def answer() -> Answer:
    outcome = Outcome([SCORES.tobytes()], 3, 1, BatchReason.QUEUE_EMPTY, 0, 0, 0, None)
    return Answer(
        prediction_id="01890a5d-ac96-774b-bcce-b302099a8057-12345678",
        model="flowers",
        version="3",
        model_version="models/flowers/versions/3",
        rows=3,
        signature=SIGNATURE,
        outputs=[0],
        parts=[IMAGES.tobytes()],
        outcome=outcome,
    )


def made(policy: str = "none", max_bytes: int = 1 << 20, **metadata: str) -> Any:
    pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    call = Call.of(pairs, "4bf92f3577b34da6a3ce929d0e0e4736", time.monotonic_ns() - 5_000_000)
    record = EventMaker(CapturePolicy.parse(policy), max_bytes)(answer(), call)(7)
    (sequenced,) = pb.ReportEventsRequest.FromString(record).events
    assert sequenced.sequence == 7
    return sequenced.event


def test_an_event_names_prediction_endpoint_version_trace_request_and_time_in_the_front() -> None:
    began_ns, began = time.time_ns(), time.monotonic()
    event = made(x_request_id="8c1c8a9e")
    took_ms = (time.monotonic() - began) * 1000

    assert event.prediction_id == answer().prediction_id
    assert (event.endpoint, event.model_version) == ("endpoints/flowers", "models/flowers/versions/3")
    assert (event.trace_id, event.request_id) == ("4bf92f3577b34da6a3ce929d0e0e4736", "8c1c8a9e")
    assert 5 <= event.latency_ms <= 5 + took_ms
    assert began_ns <= event.time.ToNanoseconds() <= time.time_ns()


def test_each_row_has_its_part_of_every_output() -> None:
    event = made()

    rows = [np.frombuffer(row.outputs["probabilities"].data, "<f4") for row in event.rows]
    np.testing.assert_array_equal(rows, SCORES)
    tensor = event.rows[0].outputs["probabilities"]
    assert (tensor.datatype, list(tensor.shape)) == ("FP32", [2])


@pytest.mark.parametrize(
    ("metadata", "role"),
    [
        ({}, LIVE),
        ({"slipway_version": "v3"}, TESTER),
        ({"slipway_role": "shadow"}, SHADOW),
        ({"slipway_role": "shadow", "slipway_version": "v3"}, SHADOW),
    ],
)
def test_the_role_is_the_callers_a_testers_or_a_shadows(metadata: dict[str, str], role: int) -> None:
    assert made(**metadata).role == role


@pytest.mark.parametrize(
    ("policy", "max_bytes", "kept"),
    [
        ("none", 100, []),
        ("all", 100, [0, 1, 2]),
        ("all", 11, []),
        ("low_confidence:0.6", 100, [1]),
        ("sample:0", 100, []),
        ("sample:1", 100, [0, 1, 2]),
    ],
)
def test_the_inputs_of_the_rows_that_the_policy_names_are_kept(
    policy: str, max_bytes: int, kept: list[int]
) -> None:
    event = made(policy, max_bytes)

    found = {index: row.inputs["image"].data for index, row in enumerate(event.rows) if row.inputs}
    assert found == {index: IMAGES[index].tobytes() for index in kept}


def test_records_one_after_the_other_are_one_request_with_all_their_events() -> None:
    head = pb.ReportEventsRequest(spool="s", first_sequence=1, produced_sequence=2)
    call = Call.of([], "", time.monotonic_ns())
    maker = EventMaker(CapturePolicy.parse("none"), 0)
    records = [maker(answer(), call)(sequence) for sequence in (1, 2)]

    whole = pb.ReportEventsRequest.FromString(head.SerializeToString() + b"".join(records))

    assert (whole.spool, whole.produced_sequence) == ("s", 2)
    assert [one.sequence for one in whole.events] == [1, 2]


def test_a_request_id_of_any_length_is_cut_to_what_monitoring_takes() -> None:
    assert made(x_request_id="x" * 5000).request_id == "x" * 200
