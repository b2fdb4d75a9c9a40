"""A stranger's file by its URL: redirects by hand, caps on size and time, cuts gone on from.

Nothing of the other side's words is ever repeated, and nothing of a URL but its host.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import httpx

from app.net.addresses import AddressRefusedError
from app.net.client import Client, causes_of
from app.net.content_range import Version, continues, version_of
from app.net.guard import NameUnknownError
from app.net.urls import Rules, Url, UrlRefusedError, judge_url

GRACE_SECONDS = 30.0  # before the least rate is asked for
LEAST_BYTES_A_SECOND = 8 * 1024
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each further try
OK, PARTIAL = httpx.codes.OK, httpx.codes.PARTIAL_CONTENT
REDIRECTS = frozenset({301, 302, 303, 307, 308})
NO_URL = "The URL redirects to something that is no URL."
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Fault(StrEnum):
    NOT_ALLOWED = "not_allowed"
    NO_NAME = "no_name"
    NO_CONNECTION = "no_connection"
    NO_TRUST = "no_trust"  # its certificate
    REDIRECTS = "redirects"
    STATUS = "status"
    ENCODED = "encoded"
    TOO_LARGE = "too_large"
    CUT = "cut"
    SILENT = "silent"
    SLOW = "slow"
    TIMEOUT = "timeout"


class FetchError(Exception):
    """Why a file could not be had, in words for its sender; `host` is whose fault it was."""

    def __init__(
        self, fault: Fault, words: str = "", *, status: int = 0, may_pass: bool = False
    ) -> None:
        super().__init__(words or fault.value)
        self.fault = fault
        self.words = words
        self.status = status
        self.may_pass = may_pass
        self.host = ""


class Sink(Protocol):
    """Where the bytes go, in their order."""

    async def write(self, data: bytes) -> None:
        """Take more bytes."""

    async def restart(self) -> None:
        """Forget what was written: the file comes from its first byte again."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What one file may take in all: bytes, seconds with all tries and pauses, redirects a try."""

    max_bytes: int
    deadline_seconds: float
    max_redirects: int


async def fetch(client: Client, url: str, sink: Sink, *, rules: Rules, caps: Caps) -> int:
    """Pour what is behind `url` into the sink and return its size. Raises FetchError.

    `client` must be a guarded one. What was cut off is asked for from where it broke, where the
    server can tell that it still has the same file; else the sink is told to begin anew.
    """
    fetching = _Fetching(client, sink, rules, caps)
    try:
        async with asyncio.timeout(caps.deadline_seconds):
            return await fetching.run(url)
    except TimeoutError:
        raise fetching.named(FetchError(Fault.TIMEOUT)) from None
    except FetchError as error:
        raise fetching.named(error) from None


class _Fetching:
    def __init__(self, client: Client, sink: Sink, rules: Rules, caps: Caps) -> None:
        self._client = client
        self._sink = sink
        self._rules = rules
        self._caps = caps
        self._done = 0
        self._came = 0
        self._began = asyncio.get_running_loop().time()
        self._version: Version | None = None
        self._host = ""

    def named(self, error: FetchError) -> FetchError:
        error.host = self._host
        return error

    async def run(self, text: str) -> int:
        url = self._judged(text)
        for pause in (*PAUSES, None):
            try:
                await self._try(url)
            except FetchError as error:
                if pause is None or not error.may_pass:
                    raise
                await asyncio.sleep(pause)
            else:
                break
        return self._done

    async def _try(self, url: Url) -> None:
        try:
            async with self._followed(url) as response:
                await self._begin(response)
                async for chunk in response.aiter_raw():
                    await self._take(chunk)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _told(error) from None
        except NameUnknownError as error:
            raise FetchError(Fault.NO_NAME, may_pass=error.may_pass) from None
        except UrlRefusedError as error:
            raise FetchError(Fault.NOT_ALLOWED, str(error)) from None
        except AddressRefusedError:
            words = "The URL leads to an address that is not public; such are not fetched."
            raise FetchError(Fault.NOT_ALLOWED, words) from None
        if self._version is not None and self._version.total not in {None, self._done}:
            raise FetchError(Fault.CUT, may_pass=True)

    @asynccontextmanager
    async def _followed(self, url: Url) -> AsyncIterator[httpx.Response]:
        """Lend the answer at the end of the redirects."""
        for _ in range(self._caps.max_redirects + 1):
            self._host = url.host
            request = self._client.build_request("GET", url, headers=self._rest())
            response = await self._client.send(request, stream=True)
            try:
                target = response.headers.get("location")
                if target is None or response.status_code not in REDIRECTS:
                    yield response
                    return
            finally:
                await response.aclose()
            url = self._redirected(url, target)
        raise FetchError(Fault.REDIRECTS)

    def _redirected(self, url: Url, target: str) -> Url:
        try:
            joined = url.join(target)
        except (httpx.InvalidURL, ValueError):
            raise FetchError(Fault.NOT_ALLOWED, NO_URL) from None
        if url.scheme == "https" and joined.scheme == "http":
            raise FetchError(
                Fault.NOT_ALLOWED, "The URL redirects from https to http; that is not followed."
            )
        return self._judged(str(joined))

    def _judged(self, text: str) -> Url:
        try:
            return judge_url(text, self._rules)
        except UrlRefusedError as error:
            raise FetchError(Fault.NOT_ALLOWED, str(error)) from None

    def _rest(self) -> Mapping[str, str]:
        if not self._done or self._version is None or not self._version.validator:
            return {}
        return {"Range": f"bytes={self._done}-", "If-Range": self._version.validator}

    async def _begin(self, response: httpx.Response) -> None:
        """Look at an answer's head, and make ready for its body."""
        status = response.status_code
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if status in {OK, PARTIAL} and encoding not in {"", "identity"}:
            raise FetchError(Fault.ENCODED)
        if self._version is not None and self._rest() and status != OK:
            if continues(response, self._version, self._done):
                return
            if status in {PARTIAL, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE}:
                self._version = None  # the next try asks for all of it
                raise FetchError(Fault.CUT, may_pass=True)
        if status != OK:
            raise FetchError(Fault.STATUS, status=status, may_pass=status in PASSING)
        if self._done:
            self._done = 0
            await self._sink.restart()
        self._version = version_of(response)
        if self._version.total is not None and self._version.total > self._caps.max_bytes:
            raise FetchError(Fault.TOO_LARGE)

    async def _take(self, chunk: bytes) -> None:
        if self._done + len(chunk) > self._caps.max_bytes:
            raise FetchError(Fault.TOO_LARGE)
        await self._sink.write(chunk)
        self._done += len(chunk)
        self._came += len(chunk)
        late = asyncio.get_running_loop().time() - self._began - GRACE_SECONDS
        if self._came < late * LEAST_BYTES_A_SECOND:
            raise FetchError(Fault.SLOW)


def _told(error: Exception) -> FetchError:
    match error:
        case httpx.ConnectError() if any(isinstance(e, ssl.SSLError) for e in causes_of(error)):
            return FetchError(Fault.NO_TRUST)
        case httpx.RemoteProtocolError() if any(
            isinstance(e, httpx.InvalidURL) for e in causes_of(error)
        ):  # httpx reads a Location although it does not follow it
            return FetchError(Fault.NOT_ALLOWED, NO_URL)
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return FetchError(Fault.NO_CONNECTION, may_pass=True)
        case httpx.TimeoutException():
            return FetchError(Fault.SILENT, may_pass=True)
        case httpx.TransportError():
            return FetchError(Fault.CUT, may_pass=True)
    return FetchError(Fault.CUT)
