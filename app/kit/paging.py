"""Keyset paging with an opaque cursor, which holds the last id of a page.

Ids sort by time, so new rows do not shift the pages after a cursor.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

CURSOR_MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, newest first. `next_cursor` is None on the last page."""

    items: Sequence[T]
    next_cursor: str | None


def encode_cursor(last_id: str) -> str:
    """Return the cursor that continues after `last_id`."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Return the id inside a cursor. Raises ValueError for text that is no cursor."""
    padding = "=" * (-len(cursor) % 4)
    try:
        return base64.b64decode(cursor + padding, altchars=b"-_", validate=True).decode("ascii")
    except ValueError as error:  # also binascii.Error and UnicodeError
        raise ValueError("not a cursor") from error
