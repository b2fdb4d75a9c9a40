"""The request headers that select the form of the answer, unless the body sets it.

That is Prefer (RFC 7240), and Accept where it names a stream. Preferences that are not known here
are ignored, as the RFC wants it; one that is known and cannot be meant so, such as a wait of a
year, is an error like that of the option.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.audio.intake.receive import Received
from app.errors import InvalidParameter
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
_UNSAID: tuple[Any, ...] = (None, "", [""])
_ANY_MODE = (*_UNSAID, "auto", ["auto"])

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
        """The same as options. Both together: answer 202 when the wait is over, as always."""
        if self.wait is not None:
            return {"wait": self.wait}
        return {"mode": "async"} if self.respond_async else {}

    def applied(self, options: Options) -> dict[str, str]:
        """Return the response header that lists the preferences that were applied."""
        waits = self.wait is not None and self.wait == options.wait and options.mode != "async"
        is_async = self.respond_async and (options.mode == "async" or waits)
        said = [
            *(["respond-async"] if is_async else []),
            *([f"wait={self.wait}"] if waits else []),
        ]
        return {"Preference-Applied": ", ".join(said)} if said else {}


def preference_of(headers: Collection[str]) -> Preference:
    """Read all Prefer headers of a request; the first of a repeated preference counts.

    Raises InvalidParameter where `wait` is not a time that can be waited, or a header is too long.
    """
    if any(len(header) > _MAX_CHARS for header in headers):
        raise InvalidParameter(
            f"`Prefer` takes at most {_MAX_CHARS} characters.", parameter="Prefer"
        )
    said: dict[str, str] = {}
    for name, value in _preferences(headers):
        said.setdefault(name.lower(), value)
    return Preference("respond-async" in said, _seconds(said["wait"]) if "wait" in said else None)


def streaming(accept: Iterable[str], received: Received) -> Received:
    """Let Accept headers ask for a stream where neither `mode` nor `async` says otherwise."""
    says = received.options
    is_said = says.get("mode") not in _ANY_MODE or says.get("async") not in _UNSAID
    if is_said or not any(map(_is_stream, ",".join(accept).lower().split(","))):
        return received
    return replace(received, options={**says, "mode": STREAM})


def _is_stream(media_range: str) -> bool:
    media_type, semicolon, parameters = media_range.partition(";")
    is_refused = _NO_WEIGHT.search(semicolon + parameters) is not None
    return media_type.strip() == _STREAM_TYPE and not is_refused


def _preferences(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    for header in headers:
        for found in _PREFERENCE.finditer(header):
            yield found["name"], (found["value"] or "").strip('"')


def _seconds(value: str) -> int:
    is_number = value.isascii() and value.isdigit() and len(value) <= _DIGITS
    if not is_number or int(value) > MAX_WAIT_SECONDS:
        raise InvalidParameter(
            f"`Prefer: wait` takes a whole number of seconds from 0 to {MAX_WAIT_SECONDS}.",
            parameter="Prefer",
        )
    return int(value)
