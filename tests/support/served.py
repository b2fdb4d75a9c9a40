"""A small application behind the gateway's server in a thread, and raw sockets to it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from fastapi import FastAPI, Request

from app.api.http import problems
from app.api.http.body_rate import BodyRate
from app.api.http.middleware import RequestMiddleware
from app.errors import KeyMissing
from app.serve import GuardedConfig, GuardedServer, bind
from app.settings import ServerSettings

HEAD_SECONDS = 0.5
HEAD_BYTES = 32 * 1024
SLACK_SECONDS = 1.0
TIMEOUT_SECONDS = 15.0
MIB = 1 << 20
SHORT = b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n"


def tiny_app() -> FastAPI:
    app = FastAPI()
    problems.install_error_handlers(app)
    rate = BodyRate(idle_seconds=0.3, grace_seconds=0.5, min_bytes_per_second=8192)
    app.add_middleware(RequestMiddleware, rate=rate)

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    @app.post("/count")
    async def count(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @app.post("/locked")
    async def locked() -> None:
        raise KeyMissing

    return app


class Served:
    """A server in a thread, on a free port."""

    def __init__(self, app: FastAPI | None = None, **limits: Any) -> None:
        defaults = {
            "port": 0,
            "header_timeout_seconds": HEAD_SECONDS,
            "max_header_bytes": HEAD_BYTES,
            "shutdown_seconds": 3,
        }
        settings = ServerSettings(**defaults | limits)
        self._bound = bind(settings)
        self.address: tuple[str, int] = self._bound.getsockname()
        self.server = GuardedServer(GuardedConfig(app or tiny_app(), settings))
        self._thread = threading.Thread(target=self.server.run, args=([self._bound],), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(TIMEOUT_SECONDS)
        self._bound.close()
        assert not self._thread.is_alive()

    @contextmanager
    def socket(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, TIMEOUT_SECONDS) as client:
            yield client

    def connections(self) -> int:
        return len(self.server.server_state.connections)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes or resets the connection."""
    answer = b""
    try:
        while chunk := client.recv(65536):
            answer += chunk
    except ConnectionError:
        pass
    return answer


def read_one(client: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65536)
    return answer


def post(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n".encode()
