"""Errors as JSON: google.rpc.Status in the HTTP form of AIP-193."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import to_status
from starlette.responses import JSONResponse

from slipway_gateway.clients import Answered

DOMAIN = "gateway.slipway"
# google/rpc/code.proto says these.
HTTP_STATUS = {
    "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401, "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500,
    "UNAVAILABLE": 503, "DATA_LOSS": 500,
}  # fmt: skip


def problem(
    error: SlipwayError, *, status_code: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the response for an error; `status_code` where HTTP knows a finer one (405, 413)."""
    document = problem_document(error, status_code=status_code)
    chosen = dict(headers or {})
    if error.retry_after_s is not None:
        chosen["Retry-After"] = str(max(1, round(error.retry_after_s)))
    code = document["error"]["code"]
    if code == 401:
        chosen["WWW-Authenticate"] = f'Bearer error="invalid_token", error_description="{error.reason}"'
    return JSONResponse(document, status_code=code, headers=chosen)


def problem_document(error: SlipwayError, *, status_code: int | None = None) -> dict[str, dict[str, Any]]:
    """Return the JSON of an error."""
    status = error.status if isinstance(error, Answered) else to_status(error, DOMAIN)
    name = code_pb2.Code.Name(status.code)
    return {
        "error": {
            "code": status_code or HTTP_STATUS[name],
            "status": name,
            "message": status.message,
            "details": [json_format.MessageToDict(detail) for detail in status.details],
        }
    }


# The detail messages must be in the pool to be written as JSON.
assert error_details_pb2.ErrorInfo
