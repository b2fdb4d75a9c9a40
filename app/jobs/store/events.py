"""The event log of a job: its events, numbered from 1 without gaps.

Clients read a log in order. Live text is in it as `delta` events: the run collects the text that
arrives, and stores it as one event each second or each two kilobytes, and in front of every other
event that the run adds.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.jobs.tables import event
from app.speech.merge import PartText

DELTA = "delta"


class Event(NamedTuple):
    """One event, before it has a number."""

    type: str
    data: Mapping[str, Any]


_event = event.c
_ADD_EVENTS = Prepared(sa.insert(event))
_LAST_OF_TEXT = (
    sa.select(_event.type)
    .where(
        _event.transcription_id == sa.bindparam("job", type_=sa.String),
        _event.type.in_((DELTA, "segment", "reset")),
    )
    .order_by(_event.seq.desc())
    .limit(1)
)


def created(model: str) -> Event:
    """Return the first event of every job."""
    return Event("created", {"model": model})


def delta(text: str) -> Event:
    """Return the event of a piece of live text."""
    return Event(DELTA, {"text": text})


def segment(number: int, text: PartText) -> Event:
    """Return the event of a part's final text; `number` counts the parts with speech from 0."""
    data = {
        "index": number,
        "start": text.start_ms / 1000,
        "end": text.end_ms / 1000,
        "text": text.text.strip(),
        "language": text.language,
        "emotion": text.emotion,
    }
    return Event("segment", data if text.done else {**data, "gap": True})


def add_events(
    tx: sa.Connection, job_id: str, events: Sequence[Event], *, first: int, now: datetime
) -> None:
    """Append events to the log of a job. `first` is the number of the first of them."""
    same = {"transcription_id": job_id, "created_at": now}
    rows = [
        {"seq": seq, "type": one.type, "data": one.data, **same}
        for seq, one in enumerate(events, first)
    ]
    _ADD_EVENTS.add_many(tx, rows)


def has_unconfirmed_text(tx: sa.Connection, job_id: str) -> bool:
    """Tell whether the log ends with live text that no segment confirms."""
    return tx.scalar(_LAST_OF_TEXT, {"job": job_id}) == DELTA
