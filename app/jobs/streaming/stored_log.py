"""The event log of a job as the database holds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.jobs.store.events import DELTA
from app.jobs.streaming.cursor import Position
from app.jobs.streaming.log import LogItem
from app.jobs.tables import ENDED, event, transcription

MOST_EVENTS = 100  # that are read at once

_event, _row = event.c, transcription.c
_JOB = sa.bindparam("job", type_=sa.String)
_STATE = Prepared(sa.select(_row.status, _row.erased_at, _row.event_count).where(_row.id == _JOB))
_EVENTS_AFTER = Prepared(
    sa.select(_event.seq, _event.type, _event.data)
    .where(_event.transcription_id == _JOB, _event.seq > sa.bindparam("seq", type_=sa.Integer))
    .order_by(_event.seq)
    .limit(MOST_EVENTS)
)


@dataclass(slots=True)
class EventBatch:
    """Events behind a position, in order, and the position behind them."""

    at: Position
    items: list[LogItem] = field(default_factory=list)
    is_all: bool = True
    has_ended: bool = False
    is_erased: bool = False


def read_events(tx: sa.Connection, job_id: str, at: Position) -> EventBatch:
    """Return the next events behind a position, at most MOST_EVENTS."""
    state = _STATE.first(tx, {"job": job_id})
    if state is None or state.erased_at is not None:
        return EventBatch(at, has_ended=True, is_erased=True)
    rows = _EVENTS_AFTER.all(tx, {"job": job_id, "seq": at.seq})
    found = unread_events(rows, at, last_seq=state.event_count)
    found.is_all = len(rows) < MOST_EVENTS
    found.has_ended = found.is_all and state.status in ENDED
    return found


def unread_events(rows: Sequence[Any], at: Position, *, last_seq: int) -> EventBatch:
    """Return the events in these rows that a reader at this position has not read. Pure.

    A final event before the job's `last_seq` is left out: a retry has removed it.
    """
    found = EventBatch(at)
    read = at.offset  # characters that were read before they were stored
    for row in rows:
        data = row.data
        if row.type == DELTA:
            text = data["text"]
            data, read = {"text": text[read:]}, max(0, read - len(text))
            is_shown = bool(data["text"])
        else:
            read = 0  # a run that was lost has not stored them
            is_shown = row.type not in ENDED or row.seq >= last_seq
        if is_shown:
            found.items.append(LogItem(row.seq, 0, row.type, data))
        found.at = Position(row.seq, read)
    return found
