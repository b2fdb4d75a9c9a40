"""What every engine on a wire does alike: sound inside JSON, and failures without an answer."""

import json
import math
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pybase64

from app.kit.clock import parse_http_date
from app.net.http.exchange import Body, ExchangeError, Fault
from app.speech.engine import Billed, Encoded, EngineError, EngineRequest, ErrorKind

SLICE_BYTES = 192 << 10  # a multiple of 3, so that the slices' base64 can be joined
MOST_ANSWER_BYTES = 8 << 20
SHOWN_CHARACTERS = 200
CUT_AT_LENGTH = "The engine reached its longest answer: the end of this part's text is missing."

_KINDS = {
    Fault.UNREACHABLE: ErrorKind.NETWORK,
    Fault.BROKEN: ErrorKind.NETWORK,
    Fault.TIMEOUT: ErrorKind.TIMEOUT,
    Fault.TOO_LARGE: ErrorKind.MALFORMED,
}


class AudioPlaceholder:
    """A place in a JSON value where sound will be: it prints as a mark that nothing else has."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)


def json_with_audio(value: Mapping[str, Any], hole: AudioPlaceholder, sound: Encoded) -> Body:
    """Return a JSON body with the sound as a data: URI in its hole, made while it is sent."""
    before, after = json_bytes(value).split(hole.mark.encode())
    before += f"data:{sound.media_type};base64,".encode()

    def chunks() -> Iterator[bytes]:
        yield before
        view = memoryview(sound.data)
        for start in range(0, len(view), SLICE_BYTES):
            yield pybase64.b64encode(view[start : start + SLICE_BYTES])
        yield after

    return Body(len(before) + base64_size(len(sound.data)) + len(after), "application/json", chunks)


def file_of(request: EngineRequest) -> Encoded:
    """Return the part's sound as it is sent. Raises EngineError where nobody encoded it."""
    if not isinstance(request.audio, Encoded):
        raise EngineError(ErrorKind.INTERNAL, "the part was not encoded")
    return request.audio


def base64_size(size: int) -> int:
    """Return how many bytes so many become in base64."""
    return -(-size // 3) * 4


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return a value as JSON in UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False).encode()


def read_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body; None where it is anything else.

    Integers beyond 64 bits become floats: no provider sends one.
    """
    try:
        value = orjson.loads(body)
    except ValueError:
        # Python's own reader takes some texts that orjson does not, such as NaN.
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def no_answer(error: ExchangeError) -> EngineError:
    """Say what it means that no answer came: a request that was sent whole may be billed."""
    return EngineError(
        _KINDS[error.fault],
        f"{error.fault}: {error}",
        retryable=True,
        billed=Billed.MAYBE if error.was_sent else Billed.NO,
    )


def malformed_response(reason: str) -> EngineError:
    """Say that an answer came which nobody can read: it may be billed all the same."""
    return EngineError(ErrorKind.MALFORMED, reason, retryable=True, billed=Billed.MAYBE)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header, in either of its forms; None without one."""
    value = headers.get("retry-after", "").strip()
    try:
        return number(float(value))
    except ValueError:
        pass
    at = parse_http_date(value)
    return None if at is None else max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def number(value: Any) -> float | None:
    """Return a count as an upstream reports it; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        counted = float(value)
    except OverflowError:
        return None
    return counted if math.isfinite(counted) and counted >= 0 else None


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def member(value: Any, *path: str | int) -> Any:
    """Return what is at a path inside JSON; None where the path ends early."""
    for step in path:
        match value:
            case dict():
                value = value.get(step)
            case list() if isinstance(step, int) and step < len(value):
                value = value[step]
            case _:
                return None
    return value
