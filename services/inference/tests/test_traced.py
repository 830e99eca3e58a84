"""Which calls of a front have a span."""

from types import SimpleNamespace
from typing import Any

import pytest
from slipway_inference.main import is_traced

INFER, PROBE = "/inference.GRPCInferenceService/ModelInfer", "/grpc.health.v1.Health/Check"
FROM_OUTSIDE = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)


@pytest.mark.parametrize(
    ("method", "metadata", "exported", "traced"),
    [
        (INFER, (), True, True),
        (INFER, FROM_OUTSIDE, False, True),
        (INFER, (), False, False),
        (PROBE, (), True, False),
        (PROBE, FROM_OUTSIDE, True, False),
    ],
)
def test_probes_have_no_span_and_without_an_exporter_only_traces_from_outside_go_on(
    method: str, metadata: Any, exported: bool, traced: bool
) -> None:
    details: Any = SimpleNamespace(method=method, invocation_metadata=metadata)

    assert is_traced(details, exported=exported) is traced
