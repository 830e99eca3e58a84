"""Errors cross gRPC with reason, metadata, violations and retry hint."""

import grpc
import pytest
from grpc_status import rpc_status
from slipway_runtime import errors
from slipway_runtime.rpc import grpc_code, to_status
from slipway_runtime.rpc.status import _CLASSES, _restore

KINDS = [kind for kind in errors.SlipwayError.__subclasses__() if kind.__module__ == errors.__name__]


def test_every_error_class_has_a_status_code_of_its_own() -> None:
    codes = {grpc_code(kind("REASON", "text")) for kind in KINDS}

    assert len(codes) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_out_of_a_status_as_it_went_in(kind: type[errors.SlipwayError]) -> None:
    error = kind(
        "SOME_REASON",
        "the thing is wrong; do this",
        metadata={"name": "thing"},
        violations=[errors.Violation("field", "is bad")],
        retry_after_s=1.5,
    )

    status = to_status(error, "test.slipway")
    again = _restore(_CLASSES[grpc_code(error)], status)

    assert type(again) is kind
    assert (again.reason, again.message, again.metadata) == ("SOME_REASON", error.message, {"name": "thing"})
    assert again.violations == error.violations
    assert again.retry_after_s == 1.5


def test_an_unknown_name_is_answered_with_near_matches() -> None:
    error = errors.NotFound.of("BRANCH_NOT_FOUND", "branch", "mian", ["main", "relabel"])

    assert error.metadata == {"name": "mian", "near": "main"}
    assert "did you mean 'main'?" in error.message


def test_a_subclass_has_the_code_of_its_parent() -> None:
    class Odd(errors.NotFound):
        pass

    assert grpc_code(Odd("X", "x")) is grpc.StatusCode.NOT_FOUND
    assert rpc_status.to_status(to_status(Odd("X", "x"), "d")).code is grpc.StatusCode.NOT_FOUND
