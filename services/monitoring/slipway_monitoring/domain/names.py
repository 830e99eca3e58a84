"""Resource names and the checks that all parts share."""

import re

from slipway_runtime.errors import InvalidArgument

MAX_TEXT = 4_000
_ENDPOINT = re.compile(r"endpoints/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"models/[a-z0-9-]{1,63}/versions/[0-9]{1,18}")
_MONITOR = re.compile(r"monitors/([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)")
_PREDICTION = re.compile(r"predictions/([A-Za-z0-9_-]{1,100})(?:\.([0-9]{1,9}))?")
_PREDICTION_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_DATASET = re.compile(r"datasets/[a-z0-9-]{1,63}")
_SPOOL = re.compile(r"[A-Za-z0-9-]{8,64}")
_CAPTURE_IMPORT = re.compile(r"captureImports/([0-9a-f]{32})")
_ALERT = re.compile(r"alerts/([0-9a-f]{32})")
_DRIFT_REPORT = re.compile(r"(monitors/[^/]+)/driftReports/([0-9]{1,18})")


def check_endpoint(field_name: str, value: str) -> str:
    """Return the resource name of an endpoint, checked."""
    return _check(_ENDPOINT, field_name, value, "endpoints/{endpoint}")


def check_version(field_name: str, value: str) -> str:
    """Return the resource name of a model version, checked."""
    return _check(_VERSION, field_name, value, "models/{model}/versions/{number}")


def check_dataset(field_name: str, value: str) -> str:
    """Return the resource name of a data set, checked."""
    return _check(_DATASET, field_name, value, "datasets/{dataset}")


def check_spool(field_name: str, value: str) -> str:
    """Return the identity of a spool, checked."""
    return _check(_SPOOL, field_name, value, "the UUID that was made with the spool's folder")


def check_prediction_id(field_name: str, value: str) -> str:
    """Return the id of a request's prediction, checked."""
    return _check(_PREDICTION_ID, field_name, value, "a-z, A-Z, 0-9, _ and -, 1 to 100 of them, and no row")


def check_text(field_name: str, value: str, *, longest: int = MAX_TEXT, needed: bool = False) -> str:
    """Return the text, checked for length."""
    if len(value) > longest or "\0" in value:
        raise InvalidArgument.field(field_name, f"has {len(value)} characters; at most {longest}, no NUL")
    if needed and not value.strip():
        raise InvalidArgument.field(field_name, "is empty; say it in a few words")
    return value


def prediction_row(name: str, field_name: str = "name") -> tuple[str, int]:
    """Return id and row of `predictions/{prediction id}.{row}`; without a row, row 0.

    Raises:
        InvalidArgument: The name has another form.
    """
    match = _PREDICTION.fullmatch(name)
    if match is None:
        raise InvalidArgument.field(
            field_name, f"is {name[:200]!r}; write predictions/{{prediction id}}.{{row}}"
        )
    return match[1], int(match[2] or 0)


def prediction_name(prediction_id: str, row: int) -> str:
    """Return the resource name of a predicted row."""
    return f"predictions/{prediction_id}.{row}"


def endpoint_of_monitor(name: str, field_name: str = "name") -> str:
    """Return `endpoints/{endpoint}` of `monitors/{endpoint}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    match = _MONITOR.fullmatch(name)
    if match is None:
        raise InvalidArgument.field(field_name, f"is {name[:200]!r}; write monitors/{{endpoint}}")
    return f"endpoints/{match[1]}"


def endpoint_id_of_monitor(name: str, field_name: str = "name") -> str:
    """Return `{endpoint}` of `monitors/{endpoint}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    return endpoint_of_monitor(name, field_name).partition("/")[2]


def alert_of(name: str, field_name: str = "name") -> str:
    """Return the id in `alerts/{alert}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    match = _ALERT.fullmatch(name)
    if match is None:
        raise InvalidArgument.field(field_name, f"is {name[:200]!r}; write alerts/{{alert}}")
    return match[1]


def drift_report_of(name: str, field_name: str = "name") -> tuple[str, int]:
    """Return endpoint id and number of `monitors/{endpoint}/driftReports/{n}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    match = _DRIFT_REPORT.fullmatch(name)
    if match is None:
        wanted = "write monitors/{endpoint}/driftReports/{n}"
        raise InvalidArgument.field(field_name, f"is {name[:200]!r}; {wanted}")
    return endpoint_id_of_monitor(match[1], field_name), int(match[2])


def capture_import_of(name: str, field_name: str = "name") -> str:
    """Return the id in `captureImports/{capture import}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    match = _CAPTURE_IMPORT.fullmatch(name)
    if match is None:
        raise InvalidArgument.field(field_name, f"is {name[:200]!r}; write captureImports/{{capture import}}")
    return match[1]


def _check(pattern: re.Pattern[str], field_name: str, value: str, wanted: str) -> str:
    if not pattern.fullmatch(value):
        raise InvalidArgument.field(field_name, f"is {value[:200]!r}; write {wanted}")
    return value
