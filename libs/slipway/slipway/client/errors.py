"""What a refusal looks like to a user of the client."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status


@dataclass(frozen=True)
class Violation:
    """One field that was refused."""

    field: str
    description: str


class SlipwayError(Exception):
    """A call was refused, or did not reach anybody.

    Args:
        code: Name of the status code, such as `NOT_FOUND`.
        reason: Stable reason, such as `DATASET_NOT_FOUND`.
        message: One sentence: the thing, what is wrong, what to do.
        metadata: Facts for programs.
        violations: Fields that were refused.
        retry_after_s: When a retry makes sense.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after_s = retry_after_s

    @classmethod
    def from_rpc(cls, error: grpc.RpcError, target: str) -> "SlipwayError":
        """Return the error that a service, or the way to it, answered with."""
        status = rpc_status.from_call(error)
        code = error.code().name
        if status is not None and status.details:
            return cls.from_status(status)
        if code == "UNAVAILABLE":
            text = f"{target} cannot be reached; `slipway status` says why, `slipway up` starts it"
            return cls(code, code, text)
        return cls(code, code, str(error.details() or code))

    @classmethod
    def from_status(cls, status: Status) -> "SlipwayError":
        """Return the error that a google.rpc.Status describes."""
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, delay_s = error_details_pb2.RetryInfo(), None
        for detail in status.details:
            if detail.Unpack(retry):
                delay_s = retry.retry_delay.ToTimedelta().total_seconds()
            else:
                detail.Unpack(info) or detail.Unpack(bad)
        return cls(
            code_pb2.Code.Name(status.code),
            info.reason,
            status.message,
            metadata=dict(info.metadata),
            violations=tuple(Violation(v.field, v.description) for v in bad.field_violations),
            retry_after_s=delay_s,
        )
