"""Listings, page by page."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

PAGE_SIZE = 1000


def pages(method: Callable[..., Any], request: Any, field: str, limit: int | None = None) -> Iterator[Any]:
    """Yield the rows of a listing, page by page, as they are asked for.

    Args:
        method: The listing's RPC, such as `client.registry.ListModels`.
        request: What is asked; it stays as it is.
        field: Of the response that holds the rows, such as `models`.
        limit: Rows at most; all when None.
    """
    asked = type(request)()
    asked.CopyFrom(request)
    left = sys.maxsize if limit is None else limit
    while left > 0:
        asked.page_size = min(left, PAGE_SIZE)
        page = method(asked)
        for row in list(getattr(page, field))[:left]:
            yield row
            left -= 1
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token


__all__ = ["PAGE_SIZE", "pages"]
