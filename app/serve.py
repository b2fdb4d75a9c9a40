"""Starts uvicorn with request head limits, complete early answers, and notice of shutdown.

`python -m app.serve` serves with the environment's settings.
"""

import asyncio
import errno
import math
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from types import FrameType
from typing import Any

from fastapi import FastAPI
from pydantic import ValidationError
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.kit.log import configure, log
from app.kit.memory import tune_collector, tune_malloc
from app.lifespan import StartRefusedError, preflight
from app.main import create_app
from app.settings import ServerSettings, Settings, faults_of

BACKLOG = 2048  # connections that the kernel queues while the event loop is busy
KEEP_ALIVE_SECONDS = 5
LINGER_BYTES = 1 << 20  # of an unwanted upload, read so that its sender receives the answer
LINGER_SECONDS = 2.0
FAILED = 1
WRONG_SETTING = 2


class Lingering(asyncio.Transport):
    """A transport whose close(), while the client is still sending, lets it read the answer first.

    Closing a socket that holds unread bytes sends RST, and the client may lose the answer behind it
    (RFC 9112 §9.6). So the transport ends its own side, discards at most LINGER_BYTES, and then
    only waits.
    """

    def __init__(
        self,
        inner: asyncio.Transport,
        *,
        loop: asyncio.AbstractEventLoop,
        sending: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._inner, self._loop, self._sending = inner, loop, sending
        self._timer: asyncio.TimerHandle | None = None
        self._thrown_away = 0
        self._is_lost = False
        self._head: bytes | bytearray | memoryview | None = None

    @property
    def lingers(self) -> bool:
        return self._timer is not None

    def close(self) -> None:
        if self.lingers:
            return
        self._flush()
        if self._is_lost or self._inner.is_closing() or not self._sending():
            self._inner.close()
            return
        self._timer = self._loop.call_later(LINGER_SECONDS, self._inner.close)
        self._inner.resume_reading()
        self._inner.write_eof()

    def throw_away(self, data: bytes) -> None:
        self._thrown_away += len(data)
        # Past the bound the sender blocks instead: one that reads while it sends has its answer.
        if self._thrown_away > LINGER_BYTES:
            self._inner.pause_reading()

    def lost(self) -> None:
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()

    def is_closing(self) -> bool:
        return self.lingers or self._inner.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write; the head of a response waits for the first bytes of its body, in one send."""
        if self.lingers:
            return
        if self._head is not None:
            self._inner.writelines((self._head, data))
            self._head = None
        elif data[:5] == b"HTTP/":
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._inner.write(data)

    def _flush(self) -> None:
        if self._head is not None and not self._is_lost:
            self._inner.write(self._head)
        self._head = None

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)


class _HeadTooLarge(Exception):
    pass


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, closed on a client whose request head is late or too large."""

    config: "GuardedConfig"
    transport: Lingering
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _refused = False
    url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(
            Lingering(
                transport,
                loop=self.loop,
                sending=lambda: self._refused or (bool(self.cycle) and self.cycle.more_body),
            )
        )
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.lingers:
            self.transport.throw_away(data)
            return
        if self._head_timer is None and self._is_idle():
            self._expect_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > self.config.limits.max_header_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        # A head that came in one read is complete before its bytes could be counted from outside.
        if self._size_of_head() > self.config.limits.max_header_bytes:
            raise _HeadTooLarge
        self._stop_head_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if not self._is_idle() and self.cycle.response_started:
            self.transport.close()
            return
        too_large = self._size_of_head() > self.config.limits.max_header_bytes
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST, msg
        )

    def on_response_complete(self) -> None:
        # uvicorn would read, and throw away, the rest of an unwanted body for as long as it comes.
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self.transport.lost()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _size_of_head(self) -> int:
        # 4: the colon, the space and the line end of each field.
        size = len(self.url)
        for name, value in self.headers or ():
            size += len(name) + len(value) + 4
        return size

    def _expect_head(self) -> None:
        def end_late_head() -> None:
            if self._head_bytes and not self.transport.is_closing():
                self._answer(HTTPStatus.REQUEST_TIMEOUT)
            self.transport.close()

        self._head_bytes = 0
        seconds = self.config.limits.header_timeout_seconds
        self._head_timer = self.loop.call_later(seconds, end_late_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: HTTPStatus, text: str = "") -> None:
        self._stop_head_timer()
        self._refused = True
        self._answer(status, text)
        self.transport.close()

    def _answer(self, status: HTTPStatus, text: str = "") -> None:
        body = (text or status.phrase).encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, status.phrase.encode(), len(body), body)
        )


class GuardedConfig(Config):
    """uvicorn's configuration with the gateway's limits, where the protocol finds them."""

    def __init__(self, app: FastAPI, limits: ServerSettings) -> None:
        super().__init__(
            app,
            host=limits.host,
            port=limits.port,
            loop="uvloop",
            http=GuardedHttp,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            # X-Forwarded-* from a local peer would let a web page pose as this machine.
            proxy_headers=False,
            server_header=False,
            date_header=True,
            workers=1,
            limit_concurrency=limits.max_connections + 1,  # uvicorn counts the asking one, too
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(limits.shutdown_seconds),
        )
        self.limits = limits


class GuardedServer(Server):
    """A uvicorn server that notifies the application of its shutdown, and ends without a signal."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        tune_collector()
        for bound in sockets or []:
            host, port = bound.getsockname()[:2]
            log.info("server.listening", host=host, port=port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # uvicorn would raise the captured signals at the end: exit status 143 after a clean drain.
        self._captured_signals.clear()
        self._begin_shutdown()

    def _begin_shutdown(self) -> None:
        # uvicorn 0.45 does not notify open streams of a shutdown.
        begin = getattr(getattr(self.config.app, "state", None), "begin_shutdown", None)
        if begin is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(begin)


def bind(limits: ServerSettings) -> socket.socket:
    """Bind the address before anything is opened. Raises OSError."""
    family = socket.AF_INET6 if ":" in limits.host else socket.AF_INET
    return socket.create_server((limits.host, limits.port), family=family, backlog=BACKLOG)


def run_server(app: FastAPI, limits: ServerSettings, bound: socket.socket) -> int:
    """Serve until a shutdown is requested; return the exit code."""
    server = GuardedServer(GuardedConfig(app, limits))
    try:
        server.run(sockets=[bound])
    except SystemExit:  # uvicorn's way out of a failed lifespan, whose error it has logged
        return FAILED
    return 0 if server.started else FAILED


def serve(settings: Settings) -> int:
    """Serve the gateway until SIGTERM or SIGINT; return the exit code."""
    configure(level=settings.log.level, line_format=settings.log.format)
    tune_malloc()
    try:
        bound = bind(settings.server)
    except OSError as problem:
        host, port = settings.server.host, settings.server.port
        reason = f"Cannot listen on {host} port {port}: {problem}."
        if problem.errno == errno.EADDRINUSE:
            reason = (
                f"Port {port} on {host} is taken by another program. Stop that program, "
                "or set GATEWAY_SERVER__PORT to a free port."
            )
        sys.stderr.write(f"{reason}\n")
        return FAILED
    with bound:
        try:
            asyncio.run(preflight(settings))
        except StartRefusedError as refusal:
            sys.stderr.write(f"{refusal}\n")
            return FAILED
        return run_server(create_app(settings), settings.server, bound)


def main() -> int:
    """Serve with the environment's settings; a wrong setting is reported in one sentence."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.writelines(f"{sentence}\n" for sentence in faults_of(error))
        return WRONG_SETTING
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
