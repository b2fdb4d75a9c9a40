"""The request headers that select the form of the response, unless the body sets it.

These are Prefer (RFC 7240), and Accept for a stream. Unknown preferences are ignored, as the RFC
requires. A known one with an invalid value, such as a wait of a year, is an error like that of the
option.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from app.audio.intake.receive import Received
from app.errors import InvalidParameter
from app.kit.records import dataclass
from app.speech.options import MAX_WAIT_SECONDS, STREAM, Options

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a grammar
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PREFERENCE = re.compile(
    rf"\s*(?P<name>{_TOKEN})\s*(?:=\s*(?P<value>{_TOKEN}|{_QUOTED})?\s*)?(?:;(?:{_QUOTED}|[^,\"])*)?"
    r"(?:,|$)"
)
_DIGITS = 9
_STREAM_TYPE = "text/event-stream"
_NO_WEIGHT = re.compile(r";\s*q\s*=\s*0(?:\.0{0,3})?\s*(?:;|$)")  # RFC 9110: not acceptable
_UNSET: tuple[Any, ...] = (None, "", [""])
_ANY_MODE = (*_UNSET, "auto", ["auto"])

_MAX_CHARS = 1_000
PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async`, or `wait=N` seconds (RFC 7240).",
    "schema": {"type": "string", "maxLength": _MAX_CHARS},
}
"""The parameter in the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Preference:
    """The preferences of the Prefer header; `wait` is in seconds."""

    respond_async: bool = False
    wait: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The preferences as options. With both, the response is 202 when the wait is over."""
        if self.wait is not None:
            return {"wait": self.wait}
        return {"mode": "async"} if self.respond_async else {}

    def applied(self, options: Options) -> dict[str, str]:
        """Return the response header that lists the preferences that were applied."""
        waits = self.wait is not None and self.wait == options.wait and options.mode != "async"
        is_async = self.respond_async and (options.mode == "async" or waits)
        applied = [
            *(["respond-async"] if is_async else []),
            *([f"wait={self.wait}"] if waits else []),
        ]
        return {"Preference-Applied": ", ".join(applied)} if applied else {}


def preference_of(headers: Collection[str]) -> Preference:
    """Read all Prefer headers of a request; the first of a repeated preference counts.

    Raises InvalidParameter if `wait` is not a possible time, or a header is too long.
    """
    if any(len(header) > _MAX_CHARS for header in headers):
        raise InvalidParameter(
            f"`Prefer` can have at most {_MAX_CHARS} characters.", parameter="Prefer"
        )
    values: dict[str, str] = {}
    for header in headers:
        for found in _PREFERENCE.finditer(header):
            values.setdefault(found["name"].lower(), (found["value"] or "").strip('"'))
    respond_async, value = "respond-async" in values, values.get("wait")
    if value is None:
        return Preference(respond_async)
    is_number = value.isascii() and value.isdigit() and len(value) <= _DIGITS
    if not is_number or int(value) > MAX_WAIT_SECONDS:
        raise InvalidParameter(
            f"`Prefer: wait` takes a whole number of seconds from 0 to {MAX_WAIT_SECONDS}.",
            parameter="Prefer",
        )
    return Preference(respond_async, int(value))


def apply_accept(accept: Iterable[str], received: Received) -> Received:
    """Set `mode=stream` if an Accept header names a stream and no option sets the mode."""
    options = received.options
    is_set = options.get("mode") not in _ANY_MODE or options.get("async") not in _UNSET
    if is_set or not any(map(_is_stream, ",".join(accept).lower().split(","))):
        return received
    return replace(received, options={**options, "mode": STREAM})


def _is_stream(media_range: str) -> bool:
    media_type, semicolon, parameters = media_range.partition(";")
    is_refused = _NO_WEIGHT.search(semicolon + parameters) is not None
    return media_type.strip() == _STREAM_TYPE and not is_refused
