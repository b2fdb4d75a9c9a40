"""The one door to the network: only this file speaks httpx, so a move to another client is here."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

import httpx

from app.kit.redaction import redact_text

CONNECT_SECONDS = 5.0  # a black-holed network must not look like a slow one
SILENCE_SECONDS = 30.0  # longest gap between two reads
MAX_CONNECTIONS = 100
CHUNK_BYTES = 1 << 20

Client = httpx.AsyncClient
Response = httpx.Response
Timeout = httpx.Timeout
TransportError = httpx.TransportError

Sink = Callable[[bytes], Awaitable[None]]
Progress = Callable[[int], None]


class DownloadError(Exception):
    """A download that did not end well, in words for an operator; never holds a URL's query."""


def open_client(
    *,
    base_url: str = "",
    headers: Mapping[str, str] | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
    max_connections: int = MAX_CONNECTIONS,
    follow_redirects: bool = False,
    proxies: bool = True,
) -> Client:
    """Return a pooled client. Close it after use.

    The operator's proxy variables count unless `proxies` is off: no proxy leads to loopback.
    """
    return httpx.AsyncClient(
        base_url=base_url,
        headers=headers,
        timeout=httpx.Timeout(silence_seconds, connect=connect_seconds),
        limits=httpx.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections
        ),
        follow_redirects=follow_redirects,
        trust_env=proxies,
    )


async def download(
    client: Client,
    url: str,
    sink: Sink,
    *,
    max_bytes: int,
    deadline_seconds: float,
    on_progress: Progress | None = None,
) -> int:
    """Pour the body at `url` into `sink` and return its size; progress is told in bytes so far.

    Raises DownloadError. `deadline_seconds` bounds the whole: the client's own timeout only
    bounds the silence between two reads, and a dripping server never falls silent.
    """
    try:
        async with asyncio.timeout(deadline_seconds):
            return await _pour(client, url, sink, max_bytes, on_progress)
    except TimeoutError as error:
        raise DownloadError(f"not finished after {deadline_seconds:.0f} s") from error
    except httpx.InvalidURL as error:
        raise DownloadError("not a valid address") from error
    except httpx.HTTPError as error:
        raise DownloadError(_words(error)) from error


async def _pour(
    client: Client, url: str, sink: Sink, max_bytes: int, on_progress: Progress | None
) -> int:
    done = 0
    # A compressed body would make sizes and progress lie.
    async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
        if response.status_code != httpx.codes.OK:
            raise DownloadError(f"{response.url.host} answered {response.status_code}")
        async for chunk in response.aiter_bytes(CHUNK_BYTES):
            done += len(chunk)
            if done > max_bytes:
                raise DownloadError(f"more than the expected {max_bytes} bytes came")
            await sink(chunk)
            if on_progress:
                on_progress(done)
    return done


def _words(error: httpx.HTTPError) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time"
        case httpx.TimeoutException():
            return "the server fell silent"
        case httpx.ConnectError():
            return f"no connection: {redact_text(str(error))[:200]}"
        case httpx.RemoteProtocolError():
            return "the answer was cut off or broken"
        case httpx.TooManyRedirects():
            return "too many redirects"
        case _:
            return type(error).__name__


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it: httpx wraps what a library below it has raised."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
