"""A job's events as server-sent events: framed, kept alive, and ended in good order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from app.api.http.sse import KEEPALIVE, EventStream, event_frame, retry_frame
from app.api.services import Services
from app.api.v1.rendering import job_body
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
    yield retry_frame(retry)
    with services.hub.subscribe(job_id) as news:
        follower = EventReader(
            services.db, services.hub, job_id, at, news=news, poll_seconds=settings.poll_seconds
        )
        while not follower.has_ended and not follower.is_closing:
            items = await follower.next(settings.heartbeat_seconds)
            if items:
                frames = [await _frame(services, job_id, project_id, item) for item in items]
                yield b"".join(frames)
            elif not follower.has_ended and not follower.is_closing:
                yield KEEPALIVE
    if follower.is_erased:
        yield event_frame("cancelled", {"erased": True})
    elif not follower.has_ended:
        yield event_frame("closing", {"reason": "shutdown"}, retry=retry)


async def _frame(services: Services, job_id: str, project_id: str, item: Item) -> bytes:
    if not isinstance(item, StoredEvent):
        return event_frame("delta", {"text": item.text}, event_id=text_id(job_id, item.place))
    data = item.data
    if item.type == "created":
        data = {"id": job_id, **data}
    elif item.type == "completed":
        found = await services.db.read(find_job, project_id, job_id)
        if found is not None and found.erased_at is None:
            data = {**data, "transcription": job_body(found)}
    return event_frame(item.type, data, event_id=row_id(job_id, item.seq))
