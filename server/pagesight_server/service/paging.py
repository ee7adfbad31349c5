"""Pages of listings: how many rows each has, and the token that says where the next begins."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from pagesight_server.common.errors import InvalidRequestError

DEFAULT_PAGE, MAX_PAGE = 100, 1_000


def page_size(asked: int, default: int = DEFAULT_PAGE) -> int:
    """How many rows a page has.

    Raises:
        InvalidRequestError: a negative size.
    """
    if asked < 0:
        raise InvalidRequestError(f"page_size must not be negative; 0 means {default}")
    return min(asked or default, MAX_PAGE)


def page_token(*position: int | str) -> str:
    """Where the next page begins, opaque to callers."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def position_of(token: str, *types: type[int] | type[str]) -> tuple[Any, ...] | None:
    """Reads a token back; None for the first page.

    Raises:
        InvalidRequestError: not a token of this listing.
    """
    if not token:
        return None
    try:
        position = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError):
        position = None
    if (
        not isinstance(position, list)
        or [type(part) for part in position] != list(types)
        or not all(map(_storable, position))
    ):
        raise InvalidRequestError("page_token is not one that this listing gave out")
    return tuple(position)


def _storable(value: int | str) -> bool:
    """Whether SQLite can compare with it: 64 bits, no lone surrogates."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value.isprintable() or not any("\ud800" <= c <= "\udfff" for c in value)
