"""One request and its whole answer, with a deadline for both and a word on how far it came.

What matters of a call that failed is whether the other side can have acted on it: it cannot
before it has the last byte of the request.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import httpx

from app.net.client import Client


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body whose size is known before it is made. `chunks` begins it anew each time."""

    length: int
    media_type: str
    chunks: Callable[[], Iterable[bytes] | AsyncIterable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` have lower-case names. An error's body may be cut short: its status is enough."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fault(StrEnum):
    UNREACHABLE = "unreachable"  # no connection came about
    TIMEOUT = "timeout"
    BROKEN = "broken"  # cut off, or not HTTP
    TOO_LARGE = "too_large"


class ExchangeError(Exception):
    """No answer came. `was_sent`: the other side may have had the whole request."""

    def __init__(self, fault: Fault, words: str, *, was_sent: bool) -> None:
        super().__init__(words)
        self.fault = fault
        self.was_sent = was_sent


async def post(
    client: Client,
    url: str,
    body: Body,
    *,
    headers: Mapping[str, str],
    deadline_seconds: float,
    max_bytes: int,
) -> Answer:
    """Send the body and return the answer, whatever its status. Raises ExchangeError.

    The client's own timeout bounds the silence between two reads only; a server that drips
    never falls silent, so the deadline is a second clock over all of it.
    """
    framed = {"Content-Type": body.media_type, "Content-Length": str(body.length), **headers}
    asking = _Asking("POST", url, framed, _Sending(body))
    return await _exchanged(client, asking, deadline_seconds, max_bytes)


async def get(
    client: Client,
    url: str,
    *,
    headers: Mapping[str, str],
    deadline_seconds: float,
    max_bytes: int,
) -> Answer:
    """Ask and return the answer, whatever its status. Raises ExchangeError."""
    return await _exchanged(client, _Asking("GET", url, headers), deadline_seconds, max_bytes)


async def _exchanged(
    client: Client, asking: "_Asking", deadline_seconds: float, max_bytes: int
) -> Answer:
    sending = asking.sending
    content = None if sending is None else sending.chunks()
    # A compressed answer would make its size a lie.
    headers = {"Accept-Encoding": "identity", **asking.headers}
    try:
        async with (
            asyncio.timeout(deadline_seconds),
            client.stream(asking.method, asking.url, content=content, headers=headers) as response,
        ):
            return await _read(response, max_bytes)
    except _TooLargeError:
        words = f"an answer of more than {max_bytes} bytes"
        raise ExchangeError(Fault.TOO_LARGE, words, was_sent=True) from None
    except TimeoutError:
        words = f"no whole answer after {deadline_seconds:.1f} s"
        raise ExchangeError(Fault.TIMEOUT, words, was_sent=asking.was_sent) from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        fault = _fault(error)
        was_sent = asking.was_sent and fault is not Fault.UNREACHABLE
        raise ExchangeError(fault, type(error).__name__, was_sent=was_sent) from error


class _TooLargeError(Exception):
    pass


class _Sending:
    """Hands the body over and remembers whether all of it has gone."""

    def __init__(self, body: Body) -> None:
        self.is_done = False
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        left = self._body.length
        async for chunk in _each(self._body.chunks()):
            left -= len(chunk)
            self.is_done = left <= 0  # before the last chunk goes: from then on it may arrive
            yield chunk


@dataclass(frozen=True, slots=True)
class _Asking:
    """A request, whose body there may be none of."""

    method: str
    url: str
    headers: Mapping[str, str]
    sending: _Sending | None = None

    @property
    def was_sent(self) -> bool:
        return self.sending is None or self.sending.is_done


async def _each(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


async def _read(response: httpx.Response, max_bytes: int) -> Answer:
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_bytes:
                raise _TooLargeError
    except httpx.TransportError:
        if not response.is_error:
            raise
    return Answer(response.status_code, dict(response.headers), bytes(body))


def _fault(error: Exception) -> Fault:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return Fault.UNREACHABLE
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.ProxyError():
            return Fault.UNREACHABLE
        case httpx.TimeoutException():
            return Fault.TIMEOUT
    return Fault.BROKEN
