"""Reads typed fields out of JSON objects that somebody else wrote."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_STAMP_LENGTH = len("2026-01-31T12:00:00.000000Z")
_MAX_INT = 2**53
Json = Mapping[str, Any]


class FieldError(ValueError):
    """A field has the wrong type; the text names field, value and remedy."""


def record(value: Any, what: str) -> Json:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise FieldError(f"{what} is {_short(value)}; write a JSON object")
    return value


def items(source: Json, name: str, *, needed: bool = False) -> list[Any]:
    """Return a list; absent or null means an empty one unless it is needed."""
    value = source.get(name)
    if value is None and not needed:
        return []
    if not isinstance(value, list):
        raise FieldError(f"{name} is {_short(value)}; write a list")
    return value


def text(source: Json, name: str) -> str:
    """Return a text; absent or null means an empty one."""
    value = source.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise FieldError(f"{name} is {_short(value)}; write a text")
    if value.isascii():
        return value
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise FieldError(f"{name} has half a surrogate pair; write whole characters")
    return value


def integer(source: Json, name: str, default: int = 0) -> int:
    """Return a whole number; absent or null means the default."""
    value = source.get(name)
    if value is None:
        return default
    if type(value) is not int or not -_MAX_INT < value < _MAX_INT:
        raise FieldError(f"{name} is {_short(value)}; write a whole number")
    return value


def number(source: Json, name: str) -> float:
    """Return a finite number; absent or null means 0."""
    value = source.get(name)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FieldError(f"{name} is {_short(value)}; write a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise FieldError(f"{name} is {_short(value)}; write a finite number")
    return found


def flag(source: Json, name: str) -> bool:
    """Return a truth value; absent or null means false."""
    value = source.get(name)
    if value is not None and not isinstance(value, bool):
        raise FieldError(f"{name} is {_short(value)}; write true or false")
    return bool(value)


def labels(source: Json, name: str) -> tuple[str, ...] | None:
    """Return labels; absent or null means that there is no answer."""
    value = source.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise FieldError(f"{name} is {_short(value)}; write a list of labels")
    for label in value:
        if type(label) is not str:
            raise FieldError(f"{name} holds {_short(label)}; write a list of labels")
    return tuple(value)


def moment(source: Json, name: str) -> str | None:
    """Return a time as RFC 3339 in UTC, to the microsecond; absent, null or empty means unknown."""
    value = source.get(name)
    if value is None or value == "":
        return None
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return value if _is_stamp(value) else _stamp(found)
    except (TypeError, ValueError, OverflowError):
        pass
    raise FieldError(f"{name} is {_short(value)}; write RFC 3339, such as 2026-01-31T12:00:00Z")


def _is_stamp(value: str) -> bool:
    return len(value) == _STAMP_LENGTH and value[-1] == "Z" and value[10] == "T" and value[19] == "."


def _stamp(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _short(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    shown = repr(value[:80] if isinstance(value, str) else value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
