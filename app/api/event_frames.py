"""A job's events as server-sent events: framed, kept alive, and ended in good order."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.api.parts import Parts
from app.api.shapes import transcription_out
from app.jobs.find import find_job
from app.jobs.follow import Follower, Item, Row
from app.jobs.position import START, Position, row_id, text_id

MEDIA_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def _nobody_minds() -> None:
    pass


class EventStream(StreamingResponse):
    """Frames on their way to a caller, who may go before the last of them."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str],
        attended: AbstractContextManager[None],
        left: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(frames, media_type=MEDIA_TYPE, headers=headers)
        self._attended, self._left = attended, left
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._attended, suppress(ClientDisconnect):
            await super().__call__(scope, receive, send)
        if not self._is_over:
            await self._left()

    async def stream_response(self, send: Send) -> None:
        await super().stream_response(send)
        self._is_over = True


def stream(
    parts: Parts,
    job_id: str,
    *,
    project_id: str,
    at: Position = START,
    attended: AbstractContextManager[None] | None = None,
    left: Callable[[], Awaitable[None]] = _nobody_minds,
) -> EventStream:
    """Answer with a job's events from a position on, as they happen, until it has ended.

    `attended` lasts for as long as the caller listens; `left` is called if they go before the end.
    """
    headers = {**_HEADERS, "Location": f"/v1/transcriptions/{job_id}"}
    frames = _frames(parts, job_id, project_id, at)
    return EventStream(frames, headers=headers, attended=attended or nullcontext(), left=left)


async def _frames(parts: Parts, job_id: str, project_id: str, at: Position) -> AsyncIterator[bytes]:
    settings = parts.settings.stream
    retry = round(settings.retry_seconds * 1000)
    yield format_sse_event(retry=retry)
    with parts.board.watched(job_id) as news:
        follower = Follower(
            parts.db, parts.board, job_id, at, news=news, poll_seconds=settings.poll_seconds
        )
        while not follower.has_ended and not follower.is_closing:
            items = await follower.next(settings.heartbeat_seconds)
            for item in items:
                yield await _frame(parts, job_id, project_id, item)
            if not items and not follower.has_ended and not follower.is_closing:
                yield KEEPALIVE_COMMENT
    if follower.is_erased:
        yield _event("cancelled", {"erased": True})
    elif not follower.has_ended:
        yield _event("closing", {"reason": "shutdown"}, retry=retry)


async def _frame(parts: Parts, job_id: str, project_id: str, item: Item) -> bytes:
    if not isinstance(item, Row):
        return _event("delta", {"text": item.text}, id=text_id(job_id, item.place))
    data = item.data
    if item.type == "created":
        data = {"id": job_id, **data}
    elif item.type == "completed":
        found = await parts.db.read(find_job, project_id, job_id)
        if found is not None and found.erased_at is None:
            shown = transcription_out(found).model_dump(mode="json")
            data = {**data, "transcription": shown}
    return _event(item.type, data, id=row_id(job_id, item.seq))


def _event(name: str, data: Mapping[str, Any], **fields: Any) -> bytes:
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return format_sse_event(event=name, data_str=said, **fields)
