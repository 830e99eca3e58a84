"""The one table between errors and gRPC status codes, both ways (AIP-193)."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from slipway_runtime import errors

_CODES: dict[type[errors.SlipwayError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
_CLASSES = {code: kind for kind, code in _CODES.items()}


def grpc_code(error: errors.SlipwayError) -> grpc.StatusCode:
    """Return the status code of an error: that of the nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return grpc.StatusCode.INTERNAL


def to_status(error: errors.SlipwayError, domain: str) -> status_pb2.Status:
    """Return the status with ErrorInfo, and BadRequest or RetryInfo where the error has them."""
    status = status_pb2.Status(code=grpc_code(error).value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=error.metadata)
    status.details.add().Pack(info)
    if error.violations:
        bad = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                for v in error.violations
            ]
        )
        status.details.add().Pack(bad)
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_rpc_error(error: grpc.RpcError) -> errors.SlipwayError:
    """Return the error that another service answered with, reason and details restored."""
    code = error.code()
    kind = _CLASSES.get(code, errors.Internal)
    status = rpc_status.from_call(error)
    if status is None:
        return kind(code.name, str(error.details() or code.name))
    return _restore(kind, status)


@contextmanager
def our_errors() -> Iterator[None]:
    """Turn what another service answered inside the block into our errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def _restore(kind: type[errors.SlipwayError], status: status_pb2.Status) -> errors.SlipwayError:
    info = error_details_pb2.ErrorInfo(reason=kind.__name__.upper())
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    delay_s: float | None = None
    for detail in status.details:
        if detail.Unpack(retry):
            delay_s = retry.retry_delay.ToTimedelta().total_seconds()
        else:
            detail.Unpack(info) or detail.Unpack(bad)
    return kind(
        info.reason,
        status.message,
        metadata=dict(info.metadata),
        violations=[errors.Violation(v.field, v.description) for v in bad.field_violations],
        retry_after_s=delay_s,
    )
