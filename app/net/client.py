"""Clients on httpx: for the gateway's own API, for model files, and where a proxy is in between."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

import httpx

from app.kit.redaction import redact_text
from app.net.environment import NetworkEnvironmentError, environment_fault

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 30.0  # between two reads
MAX_CONNECTIONS = 100
CHUNK_BYTES = 1 << 20

Client = httpx.AsyncClient
Response = httpx.Response
TransportError = httpx.TransportError

ChunkSink = Callable[[bytes], Awaitable[None]]
Progress = Callable[[int], None]


class DownloadError(Exception):
    """A download failed. The message is for an operator and never contains a URL's query."""


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
    """Return a client with a connection pool. Close it after use.

    It uses the operator's proxy variables unless `proxies` is off, as it must be for loopback.
    Raises NetworkEnvironmentError if one of them is wrong.
    """
    try:
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
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        if fault := environment_fault():
            raise NetworkEnvironmentError(fault) from error
        raise


async def download(
    client: Client,
    url: str,
    sink: ChunkSink,
    *,
    max_bytes: int,
    deadline_seconds: float,
    on_progress: Progress | None = None,
) -> int:
    """Write the body at `url` to `sink` and return its size. Raises DownloadError.

    `on_progress` gets the bytes so far. `deadline_seconds` bounds the whole download. The client's
    own timeout bounds the gap between two reads only.
    """
    done = 0
    # The size of a compressed body would be unknown.
    headers = {"Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(deadline_seconds),
            client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise DownloadError(f"{response.url.host} answered {response.status_code}")
            async for chunk in response.aiter_bytes(CHUNK_BYTES):
                done += len(chunk)
                if done > max_bytes:
                    raise DownloadError(f"more than the expected {max_bytes} bytes came")
                await sink(chunk)
                if on_progress:
                    on_progress(done)
    except TimeoutError as error:
        raise DownloadError(f"not finished after {deadline_seconds:.0f} s") from error
    except httpx.InvalidURL as error:
        raise DownloadError("not a valid address") from error
    except httpx.HTTPError as error:
        raise DownloadError(_reason(error)) from error
    return done


def _reason(error: httpx.HTTPError) -> str:
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
    """Yield an error and its causes: httpx wraps the errors of the libraries below it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
