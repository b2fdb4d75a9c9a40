"""The events of a job as Server-Sent Events."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from app.api.http.sse import KEEPALIVE, EventStream, event_frame, retry_frame
from app.api.services import Services
from app.api.v1.response.rendering import job_body
from app.jobs.queries import find_job
from app.jobs.store.events import created
from app.jobs.streaming.cursor import START, Position, event_id
from app.jobs.streaming.log import LogItem
from app.jobs.streaming.reader import EventReader

_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


def event_stream(
    services: Services,
    job_id: str,
    *,
    project_id: str,
    at: Position = START,
    new_with_model: str | None = None,
    listener_scope: AbstractContextManager[None] | None = None,
    on_disconnect: Callable[[], Awaitable[None]] | None = None,
) -> EventStream:
    """Return a response that streams a job's events after a position, until the final event.

    `new_with_model` is the model of a job that was created just now: its first event is known.
    `listener_scope` is entered while the client listens. `on_disconnect` is called if the client
    disconnects before the last event.
    """
    headers = {**_HEADERS, "Location": f"/v1/transcriptions/{job_id}"}
    frames = _frames(services, job_id, project_id, at, new_with_model)
    return EventStream(
        frames,
        headers=headers,
        listener_scope=listener_scope or nullcontext(),
        on_disconnect=on_disconnect,
    )


async def _frames(
    services: Services, job_id: str, project_id: str, at: Position, new_with_model: str | None
) -> AsyncIterator[bytes]:
    settings = services.settings.stream
    retry = round(settings.retry_seconds * 1000)
    first = retry_frame(retry)
    if new_with_model is not None:
        first += await _frame(services, job_id, project_id, LogItem(1, 0, *created(new_with_model)))
        at = Position(1)
    yield first
    with services.hub.subscribe(job_id) as subscription:
        reader = EventReader(
            services.db,
            services.hub,
            job_id,
            at,
            subscription=subscription,
            poll_seconds=settings.poll_seconds,
            is_new=new_with_model is not None,
        )
        while not reader.has_ended and not reader.is_closing:
            items = await reader.next(settings.heartbeat_seconds)
            if items:
                yield b"".join(
                    [
                        item.frame or await _frame(services, job_id, project_id, item)
                        for item in items
                    ]
                )
            elif not reader.has_ended and not reader.is_closing:
                yield KEEPALIVE
    if reader.is_erased:
        yield event_frame("cancelled", {"erased": True})
    elif not reader.has_ended:
        yield event_frame("closing", {"reason": "shutdown"}, retry=retry)


async def _frame(services: Services, job_id: str, project_id: str, item: LogItem) -> bytes:
    """Return the bytes of an item. They are kept for its other readers, but for `completed`."""
    data, its_id = item.data, event_id(job_id, item.seq, item.offset)
    if item.type == "completed":
        found = await services.db.read(find_job, project_id, job_id)
        if found is not None and found.erased_at is None:
            data = {**data, "transcription": job_body(found)}
        return event_frame(item.type, data, event_id=its_id)
    if item.type == "created":
        data = {"id": job_id, **data}
    item.frame = event_frame(item.type, data, event_id=its_id)
    return item.frame
