"""Late labels in parts, ids of rows, and a key's bucket."""

from typing import Any

import numpy as np
import pytest
from slipway.client import Prediction, SlipwayError, bucket_of
from slipway.client.feedback import record_feedback
from slipway.client.prediction import infer
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway_gateway.domain.buckets import bucket_of as of_the_gateway


class Monitoring:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.asked: list[mon.RecordFeedbackRequest] = []

    def RecordFeedback(self, request: mon.RecordFeedbackRequest) -> mon.RecordFeedbackResponse:
        self.asked.append(request)
        count = len(request.feedback)
        return mon.RecordFeedbackResponse(recorded_count=count, waiting_count=1, unknown_labels=["weed"])


def test_labels_go_in_parts_that_may_each_be_repeated_and_are_counted_together() -> None:
    monitoring = Monitoring()
    labels = [(f"0198-ab.{row}", "rose") for row in range(10_001)]

    total = record_feedback(monitoring, labels, "annotations/7", "once")

    assert [len(part.feedback) for part in monitoring.asked] == [10_000, 1]
    assert [part.request_id for part in monitoring.asked] == ["once", "once.1"]
    assert monitoring.asked[0].feedback[3].prediction == "predictions/0198-ab.3"
    assert (total.recorded_count, total.waiting_count) == (10_001, 2)
    assert list(total.unknown_labels) == ["weed"]


def test_a_call_without_a_request_id_gets_one_so_that_it_may_be_sent_again() -> None:
    monitoring = Monitoring()

    record_feedback(monitoring, [("predictions/0198-ab.0", "rose")])

    assert monitoring.asked[0].request_id
    assert monitoring.asked[0].feedback[0].prediction == "predictions/0198-ab.0"


def test_a_prediction_names_each_of_its_rows() -> None:
    found = Prediction("0198-ab", "2", {"probabilities": np.zeros((3, 10))}, "", {})

    assert found.rows == ["0198-ab.0", "0198-ab.1", "0198-ab.2"]


def test_a_key_has_the_same_bucket_here_and_at_the_gateway() -> None:
    keys = [f"user-{number}" for number in range(1000)] + ["", "ä", "a/b"]

    assert [bucket_of("endpoints/flowers", key) for key in keys] == [
        of_the_gateway("flowers", key) for key in keys
    ]


def test_a_key_that_no_header_takes_is_refused() -> None:
    rest: Any = None

    with pytest.raises(SlipwayError, match="printable ASCII"):
        infer(rest, "", "flowers", {"x": np.zeros((1, 1), np.float32)}, key="ä")
