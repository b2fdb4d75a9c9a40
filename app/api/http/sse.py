"""The ASGI response of an event stream (Server-Sent Events)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "text/event-stream"


class EventStream(StreamingResponse):
    """Frames on their way to a caller, who may go before the last of them."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str],
        listener_scope: AbstractContextManager[None],
        on_disconnect: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(frames, media_type=MEDIA_TYPE, headers=headers)
        self._listener_scope, self._on_disconnect = listener_scope, on_disconnect
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._listener_scope, suppress(ClientDisconnect):
            await super().__call__(scope, receive, send)
        if not self._is_over:
            await self._on_disconnect()

    async def stream_response(self, send: Send) -> None:
        await super().stream_response(send)
        self._is_over = True
