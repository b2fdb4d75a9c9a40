"""Server-Sent Events: the frames, and the ASGI response that carries them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.http.disconnect import run_unless_disconnected
from app.api.http.middleware import SERVER_SEND
from app.kit.json_bytes import json_bytes

MEDIA_TYPE = "text/event-stream"
KEEPALIVE = b": ping\n\n"


def event_frame(
    name: str, data: Mapping[str, Any], *, event_id: str = "", retry: int = -1
) -> bytes:
    """Return the bytes of one event. `retry` is in milliseconds."""
    named = f"id: {event_id}\n" if event_id else ""
    end = f"\n{named}{_retry_line(retry)}\n".encode()
    return b"event: %b\ndata: %b%b" % (name.encode(), json_bytes(data), end)


def retry_frame(retry: int) -> bytes:
    """Return the bytes that set the delay before a client reconnects, in milliseconds."""
    return f"{_retry_line(retry)}\n".encode()


def _retry_line(retry: int) -> str:
    return f"retry: {retry}\n" if retry >= 0 else ""


class EventStream(StreamingResponse):
    """A response that sends frames until the last one, or until the client disconnects.

    Each item of `frames` is one write. `listener_scope` is entered while the client listens.
    `on_disconnect` is called if the client disconnects before the last frame.
    """

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str],
        listener_scope: AbstractContextManager[None],
        on_disconnect: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(frames, media_type=MEDIA_TYPE, headers=headers)
        self._frames = frames
        self._listener_scope, self._on_disconnect = listener_scope, on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._listener_scope:
            is_over = await run_unless_disconnected(receive, self._send_frames(scope, send))
        if not is_over and self._on_disconnect is not None:
            await self._on_disconnect()

    async def _send_frames(self, scope: Scope, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        # No middleware changes a body, so frames do not pass through their coroutines.
        send_body: Send = scope.get("state", {}).get(SERVER_SEND, send)
        async with aclosing(self._frames) as frames:  # type: ignore[type-var]
            async for frame in frames:
                await send_body({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
