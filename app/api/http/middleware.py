"""The middleware of every request: id, log line, safe headers, body rate, answer to a crash.

Pure ASGI: Starlette's BaseHTTPMiddleware buffers streams and hides disconnects.
"""

import re
import time
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.body_rate import BodyRate, RatedBody
from app.api.http.problems import problem_response
from app.kit.ids import new_id
from app.kit.log import log, set_log_context

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_EXCHANGE = "asr_gateway.exchange"
SERVER_SEND = "server_send"  # key in scope["state"]: the server's own `send`


def route_template(scope: Scope) -> str:
    """Return the template of the matched route: a path or query may hold private data."""
    # FastAPI 0.165 puts the route as it was declared into scope["route"], without the prefix it
    # was included under; only the effective context knows the whole template.
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path", None) or "-"


class RequestMiddleware:
    """Wraps the application, and the CORS middleware where one is given.

    CORS is applied to the response after a crash as well, so that a page may read it.
    """

    def __init__(
        self, app: ASGIApp, *, rate: BodyRate, cors: Callable[[ASGIApp], ASGIApp] | None = None
    ) -> None:
        self._app, self._rate = app, rate
        self._inner = cors(self._answer_crashes) if cors else self._answer_crashes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope[_EXCHANGE] = _Exchange(scope, receive, send, self._rate)
        state = scope.setdefault("state", {})
        state["request_id"], state[SERVER_SEND] = exchange.request_id, send
        # uvicorn starts a pipelined request inside the context of the one before it.
        set_log_context(request_id=exchange.request_id)
        began = time.perf_counter()
        try:
            await self._inner(scope, exchange.receive, exchange.send)
        finally:
            log.info(
                "http.request",
                method=scope["method"],
                route=route_template(scope),
                status=exchange.status,
                ms=round((time.perf_counter() - began) * 1000, 1),
            )
            set_log_context()

    async def _answer_crashes(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as problem:  # noqa: BLE001  # nothing outside could answer
            exchange: _Exchange = scope[_EXCHANGE]
            response = problem_response(problem, exchange.request_id)
            if exchange.status is None:
                await response(scope, receive, send)


class _Exchange:
    """One request and its response: `status` is None until the response has started."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, rate: BodyRate) -> None:
        given = b""
        declares_body = False
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = given or value
            elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
                declares_body = True
        text = given.decode("latin-1")
        self.request_id = text if _REQUEST_ID.fullmatch(text) else new_id("req")
        self.status: int | None = None
        self._send = send
        self._body = RatedBody(receive, rate) if declares_body else None
        self.receive = self._body.receive if self._body else receive

    async def send(self, message: Message) -> None:
        """Send a message of the response; add the request's id and the safe headers to its head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._completed(message.get("headers", ()))
        await self._send(message)

    def _completed(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        sent = [*headers, (b"x-request-id", self.request_id.encode())]
        names = {name for name, _ in sent}
        sent += [header for header in _SAFE_HEADERS if header[0] not in names]
        if self._body is not None and not self._body.is_complete:
            # The rest of the body would be taken for the next request; serve.py reads some of it
            # so that the client gets this answer.
            sent = [header for header in sent if header[0] != b"connection"]
            sent.append((b"connection", b"close"))
        return sent
