"""Events of a job, numbered from 1."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.jobs.store import delta_text
from app.jobs.store.delta_text import TextPosition
from app.jobs.tables import event


class Event(NamedTuple):
    """Something a client is told of a job.

    It stands behind the first `told` characters of its run's text; None is behind all of it.
    """

    type: str
    data: Mapping[str, Any]
    told: int | None = None


_ADD_EVENTS = Prepared(sa.insert(event))


def add_events(
    tx: sa.Connection,
    job_id: str,
    events: Sequence[Event],
    *,
    first: int,
    now: datetime,
    place: TextPosition | None = None,
) -> None:
    """Append events, numbered from `first`, to what a client can read of the job.

    Without a `place` they stand behind all that is known to have been told.
    """
    if not events:
        return
    if place is None:
        place = delta_text.place_after(tx, job_id) if first > 1 else delta_text.BEGINNING
    same = {"transcription_id": job_id, "created_at": now}
    epoch, end = place
    rows = [
        {
            "seq": seq,
            "type": one.type,
            "data": one.data,
            "epoch": epoch,
            "delta_chars": end if one.told is None else one.told,
            **same,
        }
        for seq, one in enumerate(events, first)
    ]
    _ADD_EVENTS.add_many(tx, rows)
