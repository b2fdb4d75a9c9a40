"""Whether a second answer goes on where the first one was cut off (RFC 9110 §13.1.5, §14.4)."""

import re
from dataclasses import dataclass
from datetime import timedelta

import httpx

from app.kit.clock import parse_http_date

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)
_SETTLED = timedelta(seconds=60)  # a file changed later than that before could change again unseen


@dataclass(frozen=True, slots=True)
class Version:
    """Which file an answer's bytes are of. An empty `validator`: the server cannot tell."""

    validator: str
    total: int | None


def version_of(response: httpx.Response) -> Version:
    """Return what a whole answer says of its file."""
    length = response.headers.get("content-length", "")
    total = int(length) if length.isascii() and length.isdecimal() else None
    return Version(_validator(response.headers), total)


def continues(response: httpx.Response, version: Version, done: int) -> bool:
    """Tell whether a 206 has the bytes of the same file from `done` on."""
    match = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if response.status_code != httpx.codes.PARTIAL_CONTENT or match is None:
        return False
    start, _, total = match.groups()
    etag = response.headers.get("etag")
    is_same = etag is None or not version.validator.startswith('"') or etag == version.validator
    is_whole = total == "*" or version.total in {None, int(total)}
    return int(start) == done and is_same and is_whole


def _validator(headers: httpx.Headers) -> str:
    """Return what tells this file from a later one: a strong ETag, or an old Last-Modified."""
    etag = headers.get("etag", "")
    if etag.startswith('"'):
        return str(etag)
    changed, answered = (
        parse_http_date(headers.get("last-modified", "")),
        parse_http_date(headers.get("date", "")),
    )
    if changed is None or answered is None or answered - changed < _SETTLED:
        return ""
    return str(headers["last-modified"])
