"""The bytes of a Range header (RFC 9110 §14): one range, or the whole file."""

import re

from app.errors import RangeNotSatisfiable

# 18 digits are enough for every file size; a longer number is answered with the whole file.
_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE | re.ASCII)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the requested bytes as [start, end), or None for the whole file.

    Several ranges, other units and invalid ranges mean the whole file, as §14.2 allows.
    Raises RangeNotSatisfiable when no byte of the range exists.
    """
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise RangeNotSatisfiable(size=size)
    return start, end
