"""Fetches a file by a client's URL: redirects, limits, and continuation after a lost connection.

Errors repeat no text of the other server, and nothing of a URL but its host.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import httpx

from app.net.addresses import AddressNotAllowedError
from app.net.client import Client, causes_of
from app.net.content_range import FileVersion, continues, version_of
from app.net.guard import HostNotFoundError
from app.net.urls import NOT_PUBLIC, Url, UrlNotAllowedError, UrlRules, check_url

GRACE_SECONDS = 30.0  # before the minimum rate counts
MIN_BYTES_PER_SECOND = 8 * 1024
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt
OK, PARTIAL = httpx.codes.OK, httpx.codes.PARTIAL_CONTENT
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
NO_URL = "The URL redirects to an invalid URL."
DOWNGRADED = "The URL redirects from https to http, which is not followed."


class FetchFault(StrEnum):
    NOT_ALLOWED = "not_allowed"
    NO_NAME = "no_name"
    NO_CONNECTION = "no_connection"
    NO_TRUST = "no_trust"  # the certificate
    REDIRECTS = "redirects"
    STATUS = "status"
    ENCODED = "encoded"
    TOO_LARGE = "too_large"
    CUT = "cut"
    SILENT = "silent"
    SLOW = "slow"
    TIMEOUT = "timeout"


class FetchError(Exception):
    """A file could not be fetched. `words` are for the client; `host` is the failing server.

    `is_transient`: another attempt may succeed.
    """

    def __init__(
        self, fault: FetchFault, words: str = "", *, status: int = 0, is_transient: bool = False
    ) -> None:
        super().__init__(words or fault.value)
        self.fault = fault
        self.words = words
        self.status = status
        self.is_transient = is_transient
        self.host = ""


class Sink(Protocol):
    """Receives the bytes of the file in order."""

    async def write(self, data: bytes) -> None:
        """Receive more bytes."""

    async def restart(self) -> None:
        """Drop the bytes so far. The file is sent again from its first byte."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The limits of one fetch with all its attempts; `max_redirects` are those of one attempt."""

    max_bytes: int
    deadline_seconds: float
    max_redirects: int


async def fetch_file(
    client: Client, url: str, sink: Sink, *, rules: UrlRules, limits: FetchLimits
) -> int:
    """Write the file at `url` to the sink and return its size. Raises FetchError.

    `client` must be a guarded one. After a lost connection the fetch continues at the last byte if
    the server can prove that it still has the same file. Otherwise the sink is restarted.
    """
    fetching = _Fetching(client, sink, rules, limits)
    try:
        async with asyncio.timeout(limits.deadline_seconds):
            return await fetching.run(url)
    except TimeoutError:
        error = FetchError(FetchFault.TIMEOUT)
    except FetchError as failure:
        error = failure
    error.host = fetching.host
    raise error from None


class _Fetching:
    def __init__(self, client: Client, sink: Sink, rules: UrlRules, limits: FetchLimits) -> None:
        self.host = ""
        self._client = client
        self._sink = sink
        self._rules = rules
        self._limits = limits
        self._done = 0  # bytes of the file
        self._received = 0  # bytes in all attempts
        self._began = asyncio.get_running_loop().time()
        self._version: FileVersion | None = None

    async def run(self, text: str) -> int:
        url = self._checked(text)
        for pause in (*PAUSES, None):
            try:
                await self._attempt(url)
            except FetchError as error:
                if pause is None or not error.is_transient:
                    raise
                await asyncio.sleep(pause)
            else:
                break
        return self._done

    async def _attempt(self, url: Url) -> None:
        try:
            async with self._follow(url) as response:
                await self._begin(response)
                async for chunk in response.aiter_raw():
                    await self._take(chunk)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _fetch_error(error) from None
        except HostNotFoundError as error:
            raise FetchError(FetchFault.NO_NAME, is_transient=error.is_transient) from None
        except UrlNotAllowedError as error:
            raise FetchError(FetchFault.NOT_ALLOWED, str(error)) from None
        except AddressNotAllowedError:
            raise FetchError(FetchFault.NOT_ALLOWED, NOT_PUBLIC) from None
        if self._version is not None and self._version.total not in {None, self._done}:
            raise FetchError(FetchFault.CUT, is_transient=True)

    @asynccontextmanager
    async def _follow(self, url: Url) -> AsyncIterator[httpx.Response]:
        """Yield the response at the end of the redirects."""
        for _ in range(self._limits.max_redirects + 1):
            self.host = url.host
            request = self._client.build_request("GET", url, headers=self._range_headers())
            response = await self._client.send(request, stream=True)
            try:
                target = response.headers.get("location")
                if target is None or response.status_code not in REDIRECTS:
                    yield response
                    return
            finally:
                await response.aclose()
            try:
                joined = url.join(target)
            except (httpx.InvalidURL, ValueError):
                raise FetchError(FetchFault.NOT_ALLOWED, NO_URL) from None
            if url.scheme == "https" and joined.scheme == "http":
                raise FetchError(FetchFault.NOT_ALLOWED, DOWNGRADED)
            url = self._checked(str(joined))
        raise FetchError(FetchFault.REDIRECTS)

    def _checked(self, text: str) -> Url:
        try:
            return check_url(text, self._rules)
        except UrlNotAllowedError as error:
            raise FetchError(FetchFault.NOT_ALLOWED, str(error)) from None

    def _range_headers(self) -> Mapping[str, str]:
        if not self._done or self._version is None or not self._version.validator:
            return {}
        return {"Range": f"bytes={self._done}-", "If-Range": self._version.validator}

    async def _begin(self, response: httpx.Response) -> None:
        """Check the head of a response, and prepare for its body."""
        status = response.status_code
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if status in {OK, PARTIAL} and encoding not in {"", "identity"}:
            raise FetchError(FetchFault.ENCODED)
        if self._version is not None and self._range_headers() and status != OK:
            if continues(response, self._version, self._done):
                return
            if status in {PARTIAL, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE}:
                self._version = None  # the next attempt requests the whole file
                raise FetchError(FetchFault.CUT, is_transient=True)
        if status != OK:
            raise FetchError(FetchFault.STATUS, status=status, is_transient=status in TRANSIENT)
        if self._done:
            self._done = 0
            await self._sink.restart()
        self._version = version_of(response)
        if self._version.total is not None and self._version.total > self._limits.max_bytes:
            raise FetchError(FetchFault.TOO_LARGE)

    async def _take(self, chunk: bytes) -> None:
        if self._done + len(chunk) > self._limits.max_bytes:
            raise FetchError(FetchFault.TOO_LARGE)
        await self._sink.write(chunk)
        self._done += len(chunk)
        self._received += len(chunk)
        seconds = asyncio.get_running_loop().time() - self._began - GRACE_SECONDS
        if self._received < seconds * MIN_BYTES_PER_SECOND:
            raise FetchError(FetchFault.SLOW)


def _fetch_error(error: Exception) -> FetchError:
    match error:
        case httpx.ConnectError() if any(isinstance(e, ssl.SSLError) for e in causes_of(error)):
            return FetchError(FetchFault.NO_TRUST)
        case httpx.RemoteProtocolError() if any(
            isinstance(e, httpx.InvalidURL) for e in causes_of(error)
        ):  # httpx parses a Location although it does not follow it
            return FetchError(FetchFault.NOT_ALLOWED, NO_URL)
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return FetchError(FetchFault.NO_CONNECTION, is_transient=True)
        case httpx.TimeoutException():
            return FetchError(FetchFault.SILENT, is_transient=True)
        case httpx.TransportError():
            return FetchError(FetchFault.CUT, is_transient=True)
    return FetchError(FetchFault.CUT)
