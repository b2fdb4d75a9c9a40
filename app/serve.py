"""Starts uvicorn with the gateway's protocol and limits, and with notice of shutdown.

`python -m app.serve` serves with the environment's settings.
"""

import asyncio
import errno
import math
import socket
import sys
from types import FrameType

from fastapi import FastAPI
from pydantic import ValidationError
from uvicorn import Config, Server

from app.api.http.protocol import GuardedHttp
from app.kit.log import configure, log
from app.kit.memory import open_files_limit, raise_open_files_limit, tune_collector, tune_malloc
from app.lifespan import StartRefusedError, preflight
from app.main import create_app
from app.settings import ServerSettings, Settings, faults_of

BACKLOG = 2048  # connections that the kernel queues while the event loop is busy
RESERVED_FILES = 200  # descriptors for everything but connections
FAILED = 1
WRONG_SETTING = 2


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
            backlog=BACKLOG,
            timeout_graceful_shutdown=math.ceil(limits.shutdown_seconds),
        )
        self.limits = limits
        files = open_files_limit()
        # Of the descriptors that connections leave, the database, audio and decoders have use.
        room = max(files - RESERVED_FILES, files // 4)
        self.max_connections = min(limits.max_connections, room)
        # Those between the two limits receive a complete 503; others are closed at once.
        self.max_open_connections = max(files - RESERVED_FILES // 2, files // 2)


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
    """Bind the address before anything is opened; `::` takes IPv4 as well. Raises OSError."""
    family = socket.AF_INET6 if ":" in limits.host else socket.AF_INET
    return socket.create_server(
        (limits.host, limits.port),
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=limits.host == "::" and socket.has_dualstack_ipv6(),
    )


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
    raise_open_files_limit()
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
