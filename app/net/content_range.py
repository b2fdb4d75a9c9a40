"""Checks whether a response continues a file at a byte (RFC 9110 §13.1.5, §14.4)."""

import re
from dataclasses import dataclass
from datetime import timedelta

import httpx

from app.kit.clock import parse_http_date

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)
# A file that changed less than that before the response could change again with the same time.
_SETTLED = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class FileVersion:
    """The version of a file.

    `validator` is a strong ETag, or a Last-Modified that is old enough. If it is empty, the server
    cannot identify the version.
    """

    validator: str
    total: int | None


def version_of(response: httpx.Response) -> FileVersion:
    """Return the version of the file in a complete response."""
    length = response.headers.get("content-length", "")
    total = int(length) if length.isascii() and length.isdecimal() else None
    etag = response.headers.get("etag", "")
    if etag.startswith('"'):  # a strong one
        return FileVersion(etag, total)
    changed = parse_http_date(response.headers.get("last-modified", ""))
    answered = parse_http_date(response.headers.get("date", ""))
    if changed is None or answered is None or answered - changed < _SETTLED:
        return FileVersion("", total)
    return FileVersion(response.headers["last-modified"], total)


def continues(response: httpx.Response, version: FileVersion, done: int) -> bool:
    """Return whether a response has the bytes of the same file from `done` on."""
    match = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if response.status_code != httpx.codes.PARTIAL_CONTENT or match is None:
        return False
    start, _, total = match.groups()
    etag = response.headers.get("etag")
    is_same = etag is None or not version.validator.startswith('"') or etag == version.validator
    is_complete = total == "*" or version.total in {None, int(total)}
    return int(start) == done and is_same and is_complete
