"""A job's events as server-sent events: framed, kept alive, and ended in good order."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from app.api.parts import Parts
from app.api.shapes import transcription_out
from app.audio.intake import Received
from app.jobs.board import STREAM
from app.jobs.find import find_job
from app.jobs.follow import Follower, Item, Row
from app.jobs.position import START, Position, row_id, text_id

MEDIA_TYPE = "text/event-stream"
_NO_MODE: tuple[Any, ...] = (None, "", "auto", [""], ["auto"])
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def streaming(request: Request, received: Received) -> Received:
    """Let an Accept header ask for a stream where no `mode` says otherwise."""
    if MEDIA_TYPE not in request.headers.get("accept", "").lower():
        return received
    if received.options.get("mode") not in _NO_MODE:
        return received
    return replace(received, options={**received.options, "mode": STREAM})


def stream(
    parts: Parts, job_id: str, *, project_id: str, at: Position = START
) -> StreamingResponse:
    """Answer with a job's events from a position on, as they happen, until it has ended."""
    headers = {**_HEADERS, "Location": f"/v1/transcriptions/{job_id}"}
    frames = _frames(parts, job_id, project_id, at)
    return StreamingResponse(frames, media_type=MEDIA_TYPE, headers=headers)


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
