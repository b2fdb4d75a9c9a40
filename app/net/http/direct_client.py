"""An HTTP client for many short exchanges with one server, on asyncio's transports and httptools.

It needs a third of the CPU time of httpx (docs/decisions/0012-http-transport.md). It knows no
proxies, redirects, cookies or compression; see `open_client` for the cases left to httpx.
"""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from app.kit.priority_semaphore import PrioritySemaphore
from app.net.http.answer_reader import AnswerReader
from app.net.http.connection import Connection, Limits
from app.net.http.dial import dial
from app.net.http.exchange import Answer, Body, ExchangeError, Fault, Take

IDLE_SECONDS = 5.0  # servers close idle connections, too; soon is safer than late
DEFAULT_PORTS = {"https": 443, "http": 80}
_COMMON = "Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: asr-gateway\r\n"
_ENDS_OF_LINES = frozenset("\r\n\0")


class DirectClient:
    """An HttpClient. `base_url` has a scheme, a host, and perhaps a port and a path, in ASCII."""

    def __init__(
        self,
        base_url: str,
        *,
        connect_seconds: float,
        silence_seconds: float,
        max_connections: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Keep the settings. `tls` is needed for https."""
        parts = urlsplit(base_url)
        default_port = DEFAULT_PORTS[parts.scheme]
        self._host, self._port = parts.hostname or "", parts.port or default_port
        authority = f"[{self._host}]" if ":" in self._host else self._host
        if self._port != default_port:
            authority += f":{self._port}"
        self._tls = tls if parts.scheme == "https" else None
        self._before = parts.path.rstrip("/")
        self._common = f" HTTP/1.1\r\nHost: {authority}\r\n{_COMMON}"
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        self._slots = PrioritySemaphore(max_connections)
        self._connections: set[Connection] = set()
        self._idle: deque[Connection] = deque()  # the newest last
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def get(
        self, path: str, *, headers: Mapping[str, str], deadline_seconds: float, max_bytes: int
    ) -> Answer:
        """Send a GET request; see HttpClient."""
        head = self._head("GET", path, headers)
        return await self._exchange(head, None, AnswerReader(max_bytes), deadline_seconds)

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
        head = self._head("POST", path, headers, body)
        return await self._exchange(head, body, AnswerReader(max_bytes), deadline_seconds)

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
        head = self._head("POST", path, headers, body)
        reader = AnswerReader(max_bytes, take)
        return await self._exchange(head, body, reader, deadline_seconds, silence_seconds)

    async def close(self) -> None:
        """Close all connections; see HttpClient."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in self._connections:
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in self._connections))

    def _head(
        self, method: str, path: str, headers: Mapping[str, str], body: Body | None = None
    ) -> bytes:
        lines = [f"{method} {self._before}{path}{self._common}"]
        if body is not None:
            lines.append(f"Content-Type: {body.media_type}\r\nContent-Length: {body.length}\r\n")
        for name, value in headers.items():
            if not _ENDS_OF_LINES.isdisjoint(value):
                raise ExchangeError(Fault.UNREACHABLE, f"{name} has two lines", was_sent=False)
            lines.append(f"{name}: {value}\r\n")
        lines.append("\r\n")
        try:
            return "".join(lines).encode("latin-1")
        except UnicodeEncodeError:
            words = "a header has characters that HTTP cannot carry"
            raise ExchangeError(Fault.UNREACHABLE, words, was_sent=False) from None

    async def _exchange(
        self,
        head: bytes,
        body: Body | None,
        reader: AnswerReader,
        deadline_seconds: float,
        stream_silence_seconds: float = math.inf,
    ) -> Answer:
        limits = Limits(
            asyncio.get_running_loop().time() + deadline_seconds,
            deadline_seconds,
            self._silence_seconds,
            stream_silence_seconds,
        )
        if not self._slots.try_acquire():
            await self._wait_for_slot(limits)
        try:
            connection = await self._connect(limits)
            return await connection.exchange(head, body, reader, limits)
        finally:
            self._slots.release()

    async def _wait_for_slot(self, limits: Limits) -> None:
        try:
            async with asyncio.timeout_at(limits.deadline):
                await self._slots.acquire()
        except TimeoutError:
            words = "all connections are in use"
            raise ExchangeError(Fault.TIMEOUT, words, was_sent=False) from None

    async def _connect(self, limits: Limits) -> Connection:
        """Return the connection that was idle for the shortest time, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._connect_seconds
        try:
            async with asyncio.timeout_at(min(until, limits.deadline)):
                sock = await dial(self._host, self._port)
                try:
                    _, connection = await loop.create_connection(
                        lambda: Connection(self._note_change),
                        sock=sock,
                        ssl=self._tls,
                        server_hostname=self._host if self._tls else None,
                    )
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError:
            if limits.deadline < until:
                raise ExchangeError(Fault.TIMEOUT, limits.passed, was_sent=False) from None
            raise ExchangeError(Fault.UNREACHABLE, "ConnectTimeout", was_sent=False) from None
        except (OSError, UnicodeError) as error:
            raise ExchangeError(Fault.UNREACHABLE, type(error).__name__, was_sent=False) from error
        self._connections.add(connection)
        if self._is_closed:
            connection.abort()
            raise ExchangeError(Fault.UNREACHABLE, "the client is closed", was_sent=False)
        return connection

    def _note_change(self, connection: Connection) -> None:
        if connection.is_lost:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
        elif self._is_closed:
            connection.abort()
        else:
            self._idle.append(connection)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._drop_old)

    def _drop_old(self) -> None:
        """Close connections that were idle for too long; they are the first of the queue."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._idle and loop.time() - self._idle[0].idle_since >= IDLE_SECONDS:
            self._idle.popleft().abort()
        if self._idle:
            when = self._idle[0].idle_since + IDLE_SECONDS
            self._timer = loop.call_at(when, self._drop_old)
