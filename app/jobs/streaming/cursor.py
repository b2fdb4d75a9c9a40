"""The position of a reader in a job's events, and its encoding as an SSE event id.

`7-5e1f0a` is the seventh event; `7.35-5e1f0a` is 35 characters of live text behind it. The last six
digits are those of the job's id, so that an id of another job is recognised.
"""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from app.errors import EventIdInvalid, EventIdMismatch
from app.jobs.store.events import DELTA
from app.jobs.tables import OPEN, event, transcription

MARK_CHARACTERS = 6
DELTAS_CHECKED = 100  # more than any text that was read before it was stored

_ID = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?-([0-9a-f]{6})", re.ASCII)
_event = event.c
_JOB = sa.bindparam("job", type_=sa.String)
_STATE = sa.select(transcription.c.event_count, transcription.c.status).where(
    transcription.c.id == _JOB
)
_NEXT_EVENTS = (
    sa.select(_event.type, _event.data)
    .where(_event.transcription_id == _JOB, _event.seq > sa.bindparam("seq"))
    .order_by(_event.seq)
    .limit(DELTAS_CHECKED)
)


@dataclass(frozen=True, slots=True)
class Position:
    """Behind the event `seq`, and behind `offset` characters of the live text that follows it.

    The text is counted over the `delta` events behind `seq`, whether they are stored by now or not.
    """

    seq: int = 0
    offset: int = 0


START = Position()


def event_id(job_id: str, seq: int, offset: int = 0) -> str:
    """Return the id of an event that ends at this position."""
    return f"{seq}.{offset}-{_mark(job_id)}" if offset else f"{seq}-{_mark(job_id)}"


def position_of(tx: sa.Connection, job_id: str, given_id: str) -> Position:
    """Return the position of a reader whose last event had this id.

    Raises EventIdInvalid and EventIdMismatch.
    """
    found = _ID.fullmatch(given_id)
    if found is None:
        raise EventIdInvalid
    seq, offset, mark = found.groups()
    if mark != _mark(job_id):
        raise EventIdMismatch
    at = Position(int(seq), int(offset or 0))
    state = tx.execute(_STATE, {"job": job_id}).one_or_none()
    if (
        state is None
        or not 1 <= at.seq <= state.event_count
        or (offset is not None and not at.offset)
    ):
        raise EventIdInvalid
    if at.offset and not _may_be_published(tx, job_id, at, is_open=state.status in OPEN):
        raise EventIdInvalid
    return at


def _may_be_published(tx: sa.Connection, job_id: str, at: Position, *, is_open: bool) -> bool:
    """Whether so much text can have been read behind an event.

    Text that was never stored is lost with its run: the job was cancelled, or its next run has
    added a `reset`. Otherwise a job that has ended has stored all text that a client can have read.
    """
    missing = at.offset
    if not missing:
        return False
    for row in tx.execute(_NEXT_EVENTS, {"job": job_id, "seq": at.seq}):
        if row.type != DELTA:
            return missing <= 0 or row.type in {"reset", "cancelled"}
        missing -= len(row.data["text"])
    return missing <= 0 or is_open


def _mark(job_id: str) -> str:
    return job_id[-MARK_CHARACTERS:]
