"""HTTP/1.1 of uvicorn with limits for request heads, upgrade offers and answers nobody reads.

Faults of a connection are answered as problems, like all other errors.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any

import httptools
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.http.lingering import Lingering
from app.api.http.problems import MEDIA_TYPE, problem_of, problem_response
from app.errors import GatewayError
from app.kit.ids import new_id
from app.server_errors import (
    InvalidRequest,
    RequestHeadTooLarge,
    RequestHeadTooSlow,
    TooManyConnections,
    WebSocketNotSupported,
)
from app.settings import ServerSettings

BUSY_KEEP_ALIVE_SECONDS = 5  # while more than half of the allowed connections are open
_OFFER = frozenset({b"upgrade", b"http2-settings"})
# RFC 3986 §3.2: a host, and a port. User names and paths do not belong in it.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


class _Refusal:
    """An ASGI application that answers every request with one error and ends the connection."""

    def __init__(self, error: GatewayError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id("req")
        headers = {"x-request-id": request_id, "connection": "close"}
        await problem_response(self._error, request_id, headers)(scope, receive, send)


class GuardedHttp(HttpToolsProtocol):
    """One connection.

    A request head is counted and timed from its first byte to its last one, also while an answer
    is under way.
    """

    transport: Lingering
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0  # of the incomplete head
    _heads_begun = 0  # in the current read
    _in_message = False
    _in_head = False
    _refused = False
    _is_websocket = False
    _fault: GatewayError | None = None  # of the head that the parser has just refused
    url = b""

    def __init__(self, config: Any, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._limits: ServerSettings = config.limits
        self._max_connections: int = config.max_connections
        self._max_open_connections: int = config.max_open_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(
            Lingering(
                transport,
                loop=self.loop,
                sending=lambda: self._refused or (bool(self.cycle) and self.cycle.more_body),
                write_timeout_seconds=self._limits.write_timeout_seconds,
            )
        )
        if len(self.connections) > self._max_open_connections:
            self._refuse(TooManyConnections(), lingers=False)
        else:
            self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        if self.transport.lingers:
            self.transport.throw_away(data)
            return
        self._unset_keepalive_if_required()
        was_between = not self._in_message
        self._heads_begun = 0
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._fault or InvalidRequest())
            return
        # The read in which a body ends and a head begins is not counted: its shares are unknown.
        if self._in_head or (was_between and not self._heads_begun):
            if self._heads_begun == 0 or (was_between and self._heads_begun == 1):
                self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_header_bytes:
                self._refuse(RequestHeadTooLarge())
            elif self._head_timer is None:
                self._start_head_timer()

    def on_message_begin(self) -> None:
        self._heads_begun += 1
        self._head_bytes = 0
        self._in_message = self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        self._check_head()
        if self.parser.should_upgrade():
            return  # `_parse` feeds the head again without the offer
        if self._is_websocket:
            self.app = _Refusal(WebSocketNotSupported())
        elif len(self.connections) > self._max_connections:
            self.app = _Refusal(TooManyConnections(retry_after=1))
        super().on_headers_complete()
        self.app = self.config.loaded_app

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._in_message = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        # uvicorn would read, and throw away, the rest of an unwanted body for as long as it comes.
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()
        is_busy = len(self.connections) * 2 > self._max_connections
        self.timeout_keep_alive = self._limits.keep_alive_seconds
        if is_busy:
            self.timeout_keep_alive = min(self.timeout_keep_alive, BUSY_KEEP_ALIVE_SECONDS)
        super().on_response_complete()

    def pause_writing(self) -> None:
        self.transport.watch_reader()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.transport.stop_watching()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self.transport.lost()
        super().connection_lost(exc)

    def _parse(self, data: bytes) -> None:
        """Parse a read. An upgrade that is offered is not taken, as if it had not been offered.

        httptools takes what follows an offer for another protocol and skips the body (RFC 9110
        §7.8 lets a server ignore the offer). So the head is parsed again without it.
        """
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            else:
                return
            version = self.parser.get_http_version().encode()
            lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
            for name, value in self.headers:
                if name == b"connection":
                    options = [option.strip() for option in value.split(b",")]
                    kept = [option for option in options if option.lower() not in _OFFER]
                    lines.append(b"connection: " + b", ".join(kept))
                elif name not in _OFFER:
                    lines.append(b"%s: %s" % (name, value))
                elif name == b"upgrade":
                    self._is_websocket |= b"websocket" in value.lower()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
            self._is_websocket = False

    def _check_head(self) -> None:
        """Set `_fault` and raise if the complete head is too large or names no single host."""
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + 4  # the colon, the space and the line end
        if size > self._limits.max_header_bytes:
            self._fault = RequestHeadTooLarge()
            raise self._fault
        hosts = [value for name, value in self.headers if name == b"host"]
        if self.parser.get_method() == b"CONNECT":
            self._fault = InvalidRequest("The gateway is no proxy: it does not support CONNECT.")
        elif len(hosts) > 1:
            self._fault = InvalidRequest("The request has more than one Host header. Send one.")
        elif not hosts and self.parser.get_http_version() == "1.1":
            self._fault = InvalidRequest("The request has no Host header. Send one.")
        elif not all(map(_HOST.fullmatch, hosts)):
            self._fault = InvalidRequest("The Host header is not a host name with a port.")
        elif self.url[:1] != b"/" and (absolute := _ABSOLUTE.match(self.url)):
            # RFC 9112 §3.2.2: the host of the target counts, not the header's.
            fields = [field for field in self.headers if field[0] != b"host"]
            self.headers[:] = [*fields, (b"host", absolute[1])]
            if not absolute[1] or not _HOST.fullmatch(absolute[1]):
                self._fault = InvalidRequest("The request target has no valid host.")
        if self._fault is not None:
            raise self._fault

    def _start_head_timer(self) -> None:
        def end_late_head() -> None:
            self._head_timer = None
            if self._in_head or self._head_bytes:
                self._refuse(RequestHeadTooSlow(), lingers=False)
            else:
                self.transport.close()

        self._head_timer = self.loop.call_later(self._limits.header_timeout_seconds, end_late_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: GatewayError, *, lingers: bool = True) -> None:
        """Answer with an error and close. An answer that has begun is cut off instead."""
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        self._refused = lingers
        request_id = new_id("req")
        body = to_json(problem_of(error, request_id))
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\nx-request-id: %s\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s"
            % (
                error.status,
                HTTPStatus(error.status).phrase.encode(),
                MEDIA_TYPE.encode(),
                request_id.encode(),
                len(body),
                body,
            )
        )
        self.transport.close()
