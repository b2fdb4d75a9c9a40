"""What every request passes: an id, one log line, safe headers, a last answer, a body's least rate.

Pure ASGI: Starlette's BaseHTTPMiddleware buffers streams and hides disconnects.
"""

import asyncio
import re
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.problems import problem_response
from app.errors import BodyTooSlow
from app.kit.ids import new_id

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
SERVER_SEND = "server_send"  # key in scope["state"]: the server's own `send`

_log = structlog.get_logger()


def request_id_of(scope: Scope) -> str:
    """Return the caller's own id where it is harmless in a log, else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else new_id("req")


def route_of(scope: Scope) -> str:
    """Return the template of the route that was taken: a path or query may hold what is private."""
    # FastAPI 0.165 puts the route as it was declared into scope["route"], without the prefix it
    # was included under; only the effective context knows the whole template.
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path", None) or "-"


class RequestContext:
    """Gives a request its id, its safe headers and its line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        state = scope.setdefault("state", {})
        state["request_id"], state[SERVER_SEND] = request_id, send
        # uvicorn starts a pipelined request inside the context of the one before it.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status: int | None = None
        started = time.perf_counter()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = _headers_to_change(message)
                headers["X-Request-Id"] = request_id
                for name, value in _SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_marked)
        finally:
            _log.info(
                "http.request",
                method=scope["method"],
                route=route_of(scope),
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )
            structlog.contextvars.clear_contextvars()


class LastResort:
    """Answers where all else fails. It stands inside CORS: a page may read that answer, too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False

        async def send_noted(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except Exception as problem:  # noqa: BLE001  # the last one who could answer
            response = problem_response(problem, scope["state"]["request_id"])
            if not has_started:
                await response(scope, receive, send)


class BodyRate:
    """Raises BodyTooSlow out of receive() when a body stalls or trickles.

    Only time spent waiting for the client counts, so a slow disk of ours fails nobody.
    """

    def __init__(
        self, app: ASGIApp, *, idle_seconds: float, grace_seconds: float, least_rate: int
    ) -> None:
        """Take the longest pause, the time before a rate is asked for, and that rate in bytes/s."""
        self.app = app
        self.idle_seconds = idle_seconds
        self.grace_seconds = grace_seconds
        self.least_rate = least_rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(self, receive, is_declared=_declares_body(scope))

        async def send_closing(message: Message) -> None:
            # The rest of the body would be taken for the next request; serve.py reads some of it
            # so that the client gets this answer.
            if message["type"] == "http.response.start" and not body.is_complete:
                _headers_to_change(message)["Connection"] = "close"
            await send(message)

        await self.app(scope, body.receive, send_closing)


class _Body:
    def __init__(self, limits: BodyRate, receive: Receive, *, is_declared: bool) -> None:
        self._limits, self._receive = limits, receive
        self._got_bytes = 0
        self._waited_seconds = 0.0
        self.is_complete = not is_declared

    async def receive(self) -> Message:
        if self.is_complete:
            return await self._receive()
        asked = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._waited_seconds += time.monotonic() - asked
        self._got_bytes += len(message.get("body", b""))
        self.is_complete = not message.get("more_body", False)
        if not self.is_complete and self._is_too_slow():
            raise BodyTooSlow
        return message

    def _is_too_slow(self) -> bool:
        return (
            self._waited_seconds > self._limits.grace_seconds
            and self._got_bytes < self._limits.least_rate * self._waited_seconds
        )


def _headers_to_change(message: Message) -> MutableHeaders:
    message["headers"] = list(message.get("headers", []))
    return MutableHeaders(raw=message["headers"])


def _declares_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
