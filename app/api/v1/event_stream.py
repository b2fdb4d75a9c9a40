"""A job's events as server-sent events: framed, kept alive, and ended in good order."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from app.api.http.sse import EventStream
from app.api.services import Services
from app.api.v1.schemas import transcription_out
from app.jobs.queries import find_job
from app.jobs.streaming.cursor import START, Position, row_id, text_id
from app.jobs.streaming.reader import EventReader, Item, StoredEvent

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def _do_nothing() -> None:
    pass


def stream(
    services: Services,
    job_id: str,
    *,
    project_id: str,
    at: Position = START,
    listener_scope: AbstractContextManager[None] | None = None,
    on_disconnect: Callable[[], Awaitable[None]] = _do_nothing,
) -> EventStream:
    """Answer with a job's events from a position on, as they happen, until it has ended.

    `listener_scope` is entered while the client listens. `on_disconnect` is called if the client
    disconnects before the last event.
    """
    headers = {**_HEADERS, "Location": f"/v1/transcriptions/{job_id}"}
    frames = _frames(services, job_id, project_id, at)
    return EventStream(
        frames,
        headers=headers,
        listener_scope=listener_scope or nullcontext(),
        on_disconnect=on_disconnect,
    )


async def _frames(
    services: Services, job_id: str, project_id: str, at: Position
) -> AsyncIterator[bytes]:
    settings = services.settings.stream
    retry = round(settings.retry_seconds * 1000)
    yield format_sse_event(retry=retry)
    with services.hub.subscribe(job_id) as news:
        follower = EventReader(
            services.db, services.hub, job_id, at, news=news, poll_seconds=settings.poll_seconds
        )
        while not follower.has_ended and not follower.is_closing:
            items = await follower.next(settings.heartbeat_seconds)
            for item in items:
                yield await _frame(services, job_id, project_id, item)
            if not items and not follower.has_ended and not follower.is_closing:
                yield KEEPALIVE_COMMENT
    if follower.is_erased:
        yield _event("cancelled", {"erased": True})
    elif not follower.has_ended:
        yield _event("closing", {"reason": "shutdown"}, retry=retry)


async def _frame(services: Services, job_id: str, project_id: str, item: Item) -> bytes:
    if not isinstance(item, StoredEvent):
        return _event("delta", {"text": item.text}, id=text_id(job_id, item.place))
    data = item.data
    if item.type == "created":
        data = {"id": job_id, **data}
    elif item.type == "completed":
        found = await services.db.read(find_job, project_id, job_id)
        if found is not None and found.erased_at is None:
            shown = transcription_out(found).model_dump(mode="json")
            data = {**data, "transcription": shown}
    return _event(item.type, data, id=row_id(job_id, item.seq))


def _event(name: str, data: Mapping[str, Any], **fields: Any) -> bytes:
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return format_sse_event(event=name, data_str=said, **fields)
