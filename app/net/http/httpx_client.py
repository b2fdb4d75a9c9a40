"""An HttpClient on httpx, for everything that DirectClient leaves out: proxies, guards, cookies."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import httpx

from app.net.client import Client
from app.net.http.exchange import OK, Answer, Body, ExchangeError, Fault, Take

LEFTOVER_SECONDS = 1.0  # for the end of a stream whose rest does not matter
_NOT_CONNECTED = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError),
    *(httpx.InvalidURL, httpx.UnsupportedProtocol),
)


class HttpxClient:
    """An HttpClient; see there. It closes the httpx client that it is given."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(
        self, path: str, *, headers: Mapping[str, str], deadline_seconds: float, max_bytes: int
    ) -> Answer:
        """Send a GET request; see HttpClient."""
        async with self._answering(path, None, headers, deadline_seconds) as response:
            return await _read_answer(response, max_bytes)

    async def post(
        self,
        path: str,
        body: Body,
        *,
        headers: Mapping[str, str],
        deadline_seconds: float,
        max_bytes: int,
    ) -> Answer:
        """Send a POST request; see HttpClient."""
        async with self._answering(path, body, headers, deadline_seconds) as response:
            return await _read_answer(response, max_bytes)

    async def post_streamed(
        self,
        path: str,
        body: Body,
        take: Take,
        *,
        headers: Mapping[str, str],
        deadline_seconds: float,
        silence_seconds: float,
        max_bytes: int,
    ) -> Answer:
        """Send a POST request whose answer is a stream; see HttpClient."""
        async with self._answering(path, body, headers, deadline_seconds) as response:
            if response.status_code != OK or "json" in response.headers.get("content-type", ""):
                return await _read_answer(response, max_bytes)
            size, chunks, is_enough = 0, response.aiter_raw(), False
            while not is_enough:
                try:
                    async with asyncio.timeout(silence_seconds):
                        chunk = await anext(chunks, None)
                except TimeoutError:
                    words = f"the server fell silent for {silence_seconds:.1f} s"
                    raise ExchangeError(Fault.TIMEOUT, words, was_sent=True) from None
                if chunk is None:
                    break
                size += len(chunk)
                if size > max_bytes:
                    raise _answer_too_large(max_bytes)
                is_enough = take(chunk)
            # The answer is whole however its stream ends. The rest is read, so that the connection
            # can be used again.
            with suppress(TimeoutError, httpx.HTTPError, httpx.StreamError):
                async with asyncio.timeout(LEFTOVER_SECONDS):
                    async for _ in chunks:
                        pass
            return Answer(response.status_code, dict(response.headers), b"", was_streamed=True)

    async def close(self) -> None:
        """Close all connections; see HttpClient."""
        await self._client.aclose()

    @asynccontextmanager
    async def _answering(
        self, path: str, body: Body | None, headers: Mapping[str, str], deadline_seconds: float
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and yield the response. Raises ExchangeError for errors in the block too.

        httpx's own timeout bounds the gap between two reads only, and a server that sends a byte
        now and then never reaches it. The deadline is a second clock over the whole block.
        """
        framing, content = {"Accept-Encoding": "identity"}, None
        if body is not None:
            framing |= {"Content-Type": body.media_type, "Content-Length": str(body.length)}
            content = _Content(body)
        try:
            async with (
                asyncio.timeout(deadline_seconds),
                self._client.stream(
                    "GET" if body is None else "POST",
                    path,
                    content=content,
                    headers={**framing, **headers},
                ) as response,
            ):
                yield response
        except TimeoutError:
            words = f"no whole answer after {deadline_seconds:.1f} s"
            was_sent = content is None or content.is_done
            raise ExchangeError(Fault.TIMEOUT, words, was_sent=was_sent) from None
        except _NOT_CONNECTED as error:
            words = type(error).__name__
            raise ExchangeError(Fault.UNREACHABLE, words, was_sent=False) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            fault = Fault.TIMEOUT if isinstance(error, httpx.TimeoutException) else Fault.BROKEN
            was_sent = content is None or content.is_done
            raise ExchangeError(fault, type(error).__name__, was_sent=was_sent) from error


class _Content(httpx.AsyncByteStream):
    """The body on its way. `is_done`: all of it was handed to httpx."""

    def __init__(self, body: Body) -> None:
        self.is_done = body.length == 0
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._body.length
        chunks = self._body.chunks()
        if not isinstance(chunks, AsyncIterable):
            for chunk in chunks:
                left -= len(chunk)
                self.is_done = left <= 0  # before the last chunk goes: from then on it may arrive
                yield chunk
            return
        async for chunk in chunks:
            left -= len(chunk)
            self.is_done = left <= 0
            yield chunk


async def _read_answer(response: httpx.Response, max_bytes: int) -> Answer:
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_bytes:
                raise _answer_too_large(max_bytes)
    except httpx.TransportError:
        if not response.is_error:
            raise
    return Answer(response.status_code, dict(response.headers), bytes(body))


def _answer_too_large(max_bytes: int) -> ExchangeError:
    return ExchangeError(
        Fault.TOO_LARGE, f"an answer of more than {max_bytes} bytes", was_sent=True
    )
