"""One request and its answer, whole or streamed, with a deadline and a word on how far it came.

What matters of a call that failed is whether the other side can have acted on it: it cannot
before it has the last byte of the request.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

import httpx

from app.net.client import Client

LEFTOVER_SECONDS = 1.0  # for the end of a stream behind its last word

Take = Callable[[bytes], bool]
"""Takes a chunk in and tells whether that was all there is to know."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body whose size is known before it is made. `chunks` begins it anew each time."""

    length: int
    media_type: str
    chunks: Callable[[], Iterable[bytes] | AsyncIterable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` have lower-case names. An error's body may be cut short: its status is enough.

    `was_streamed`: the body was handed on as it came, and is empty here.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    was_streamed: bool = False

    @property
    def has_an_end(self) -> bool:
        """Whether its end is told, so that a connection that was cut is no end."""
        return "transfer-encoding" in self.headers or "content-length" in self.headers


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
    async with _answering(client, _posting(url, body, headers), deadline_seconds) as response:
        return await _read(response, max_bytes)


async def get(
    client: Client,
    url: str,
    *,
    headers: Mapping[str, str],
    deadline_seconds: float,
    max_bytes: int,
) -> Answer:
    """Ask and return the answer, whatever its status. Raises ExchangeError."""
    asking = _Asking("GET", url, headers)
    async with _answering(client, asking, deadline_seconds) as response:
        return await _read(response, max_bytes)


async def post_streamed(
    client: Client,
    url: str,
    body: Body,
    take: Take,
    *,
    headers: Mapping[str, str],
    deadline_seconds: float,
    silence_seconds: float,
    max_bytes: int,
) -> Answer:
    """Send the body and hand the stream that answers it to `take`, chunk by chunk, as it comes.

    What is no stream is returned whole: an error, or JSON from a server that does not stream.
    `silence_seconds` bounds the gap between two chunks. Raises ExchangeError, and what `take`
    raises.
    """
    async with _answering(client, _posting(url, body, headers), deadline_seconds) as response:
        if response.status_code != httpx.codes.OK or _is_json(response):
            return await _read(response, max_bytes)
        await _pass_on(response, take, silence_seconds, max_bytes)
        return Answer(response.status_code, dict(response.headers), b"", was_streamed=True)


async def _pass_on(
    response: httpx.Response, take: Take, silence_seconds: float, max_bytes: int
) -> None:
    size = 0
    chunks = response.aiter_raw()
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise _SilentError(silence_seconds) from None
        if chunk is None:
            return
        size += len(chunk)
        if size > max_bytes:
            raise _TooLargeError(max_bytes)
        if take(chunk):
            await _finish(chunks)
            return


async def _finish(chunks: AsyncIterator[bytes]) -> None:
    """Read what is left of a stream that has said all, so that its connection can be used again.

    However that goes, the answer is whole.
    """
    with suppress(TimeoutError, httpx.HTTPError, httpx.StreamError):
        async with asyncio.timeout(LEFTOVER_SECONDS):
            async for _ in chunks:
                pass


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("content-type", "")


def _posting(url: str, body: Body, headers: Mapping[str, str]) -> "_Asking":
    framed = {"Content-Type": body.media_type, "Content-Length": str(body.length), **headers}
    return _Asking("POST", url, framed, _Sending(body))


@asynccontextmanager
async def _answering(
    client: Client, asking: "_Asking", deadline_seconds: float
) -> AsyncIterator[httpx.Response]:
    """Lend the answer, all of it within the deadline; what fails is an ExchangeError."""
    content = None if asking.sending is None else asking.sending.chunks()
    # A compressed answer would make its size a lie.
    headers = {"Accept-Encoding": "identity", **asking.headers}
    try:
        async with (
            asyncio.timeout(deadline_seconds),
            client.stream(asking.method, asking.url, content=content, headers=headers) as response,
        ):
            yield response
    except _TooLargeError as error:
        raise ExchangeError(Fault.TOO_LARGE, str(error), was_sent=True) from None
    except _SilentError as error:
        raise ExchangeError(Fault.TIMEOUT, str(error), was_sent=True) from None
    except TimeoutError:
        words = f"no whole answer after {deadline_seconds:.1f} s"
        raise ExchangeError(Fault.TIMEOUT, words, was_sent=asking.was_sent) from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        fault = _fault(error)
        was_sent = asking.was_sent and fault is not Fault.UNREACHABLE
        raise ExchangeError(fault, type(error).__name__, was_sent=was_sent) from error


class _TooLargeError(Exception):
    def __init__(self, most: int) -> None:
        super().__init__(f"an answer of more than {most} bytes")


class _SilentError(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__(f"the stream fell silent for {seconds:.1f} s")


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
                raise _TooLargeError(max_bytes)
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
