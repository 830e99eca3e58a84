"""Pages by key (AIP-158): a token holds the last key seen and is good for its own listing alone."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from slipway_runtime.errors import InvalidArgument

DEFAULT_PAGE = 50
MAX_PAGE = 1000
MAX_PAGE_BYTES = 8 << 20  # a quarter of what a message may have: rows are measured roughly

Row = TypeVar("Row")


def page_size(asked: int) -> int:
    """Return the rows of a page: 0 means 50, more than 1000 means 1000.

    Raises:
        InvalidArgument: The size is negative.
    """
    if asked < 0:
        raise InvalidArgument.field("page_size", f"is {asked}; send 0 for {DEFAULT_PAGE}, at most {MAX_PAGE}")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def page_of(rows: Sequence[Row], limit: int, max_bytes: int = MAX_PAGE_BYTES) -> list[Row]:
    """Return the rows of a page: `limit` at most, fewer when they are large, and one at least.

    Fewer than `rows` means that more follow, after the last one that is returned.
    """
    page: list[Row] = []
    size = 0
    for row in rows[:limit]:
        size += _about_bytes(row)
        if page and size > max_bytes:
            break
        page.append(row)
    return page


def _about_bytes(row: object) -> int:
    """Return what a row takes in a message, or more: a number of a Struct takes more than its text."""
    text = repr(row)
    return len(text.encode(errors="replace")) + 12 * text.count(",")


@dataclass(frozen=True)
class PageToken:
    """Turns keys into opaque tokens and back.

    Args:
        listing: What is listed, with parent and filters: a token of another listing is refused.
        key: Type of each part of the key, `str` or `int`; empty: any number of either.
    """

    listing: tuple[str, ...]
    key: tuple[type, ...] = ()

    def encode(self, *key: Any) -> str:
        """Return the token that goes on after `key` (JSON values)."""
        body = json.dumps([self._digest(), *key], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(body).decode().rstrip("=")

    def decode(self, token: str) -> list[Any] | None:
        """Return the key that a token holds, or None for the first page.

        Raises:
            InvalidArgument: The token is damaged or of another listing (INVALID_PAGE_TOKEN).
        """
        if not token:
            return None
        try:
            body = json.loads(base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4)))
            digest, *key = body
        except (ValueError, TypeError, RecursionError) as error:
            raise self._refused() from error
        kinds = self.key or tuple(map(type, key))
        fits = len(key) == len(kinds) and all(map(_fits, key, kinds))
        if digest != self._digest() or not fits:
            raise self._refused()
        return list(key)

    def _digest(self) -> str:
        return hashlib.sha256("\0".join(self.listing).encode()).hexdigest()[:12]

    def _refused(self) -> InvalidArgument:
        description = "is not one of this listing; repeat it without, from the first page"
        return InvalidArgument.field("page_token", description, reason="INVALID_PAGE_TOKEN")


def _fits(part: Any, kind: type) -> bool:
    """Say whether a part of a key is what the listing's query can compare with."""
    if kind is int:
        return type(part) is int and abs(part) < 2**63
    return kind is str and type(part) is str and "\0" not in part
