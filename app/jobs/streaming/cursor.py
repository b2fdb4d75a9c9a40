"""How far a reader of a job's events is, and the ids that say so on the wire.

`7-5e1f0a` is the seventh row; `2.315-5e1f0a` is behind the 315th character that the second run
told. The end of each is of the job's own id, so that an id of another job is known as one.
"""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from app.errors import EventIdInvalid, EventIdMismatch
from app.jobs.store.delta_text import TextPosition, saved
from app.jobs.tables import event, transcription

MARK_CHARACTERS = 6

_ID = re.compile(r"(?:(\d{1,9})|(\d{1,9})\.(\d{1,9}))-([0-9a-f]{6})", re.ASCII)
_event = event.c
_JOB = sa.bindparam("job", type_=sa.String)
_EPOCH, _CHARS = (sa.bindparam(name, type_=sa.Integer) for name in ("epoch", "chars"))
_LAST_RUN = sa.select(transcription.c.run_epoch, transcription.c.status).where(
    transcription.c.id == _JOB
)
_PLACE_OF_ROW = sa.select(_event.epoch, _event.delta_chars).where(
    _event.transcription_id == _JOB, _event.seq == sa.bindparam("seq")
)
# Who cancels a job knows only what is saved of its text, which may be less than was read.
_ROWS_BEFORE = sa.select(sa.func.coalesce(sa.func.max(_event.seq), 0)).where(
    _event.transcription_id == _JOB,
    _event.type != "cancelled",
    sa.or_(
        _event.epoch < _EPOCH,
        sa.and_(_event.epoch == _EPOCH, _event.delta_chars < _CHARS),
    ),
)


@dataclass(frozen=True, slots=True)
class Position:
    """Behind the row `seq`, and behind the text up to `place`."""

    seq: int = 0
    place: TextPosition = (0, 0)


START = Position()


def row_id(job_id: str, seq: int) -> str:
    """Return the id of a row's event."""
    return f"{seq}-{_mark(job_id)}"


def text_id(job_id: str, place: TextPosition) -> str:
    """Return the id of an event that tells the text up to this place."""
    return f"{place[0]}.{place[1]}-{_mark(job_id)}"


def position_of(tx: sa.Connection, job_id: str, event_id: str) -> Position:
    """Return where a reader is whose last event had this id.

    Raises EventIdInvalid and EventIdForeign.
    """
    found = _ID.fullmatch(event_id)
    if found is None:
        raise EventIdInvalid
    seq, epoch, chars, mark = found.groups()
    if mark != _mark(job_id):
        raise EventIdMismatch
    if seq is not None:
        return _behind_row(tx, job_id, int(seq))
    return _behind_text(tx, job_id, (int(epoch), int(chars)))


def _behind_row(tx: sa.Connection, job_id: str, seq: int) -> Position:
    row = tx.execute(_PLACE_OF_ROW, {"job": job_id, "seq": seq}).one_or_none()
    if row is None:
        raise EventIdInvalid
    return Position(seq, (row.epoch, row.delta_chars))


def _behind_text(tx: sa.Connection, job_id: str, place: TextPosition) -> Position:
    epoch, chars = place
    last = tx.execute(_LAST_RUN, {"job": job_id}).one_or_none()
    if last is None or not (1 <= epoch <= last.run_epoch and chars):
        raise EventIdInvalid
    # A run that brought its job to an end has saved all it told; a lost or cancelled one may not.
    is_whole = epoch == last.run_epoch and last.status in {"completed", "failed"}
    if is_whole and place > saved(tx, job_id):
        raise EventIdInvalid
    seq = tx.scalar(_ROWS_BEFORE, {"job": job_id, "epoch": epoch, "chars": chars})
    return Position(seq or 0, place)


def _mark(job_id: str) -> str:
    return job_id[-MARK_CHARACTERS:]
