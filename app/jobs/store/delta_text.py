"""Told text in the database, and where the events of a job stand in it.

Every event says how many characters of its run's text had been told before it, so that rows and
text have one order. Text is saved in pieces that are never changed; a piece begins where the one
before it ends.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from app.jobs.tables import delta_text, event

TextPosition = tuple[int, int]
"""An epoch, and so many characters of what its run told."""

BEGINNING: TextPosition = (0, 0)
BARRIERS = ("segment", "reset")  # what was told before these is either sure or void already

_text = delta_text.c
_event = event.c
_JOB = sa.bindparam("job", type_=sa.String)
_ADD = sa.insert(delta_text)
_LAST_PIECE = (
    sa.select(_text.epoch, _text.start, _text.text)
    .where(_text.transcription_id == _JOB)
    .order_by(_text.epoch.desc(), _text.start.desc())
    .limit(1)
)
_LAST_EVENT = (
    sa.select(_event.epoch, _event.delta_chars)
    .where(_event.transcription_id == _JOB)
    .order_by(_event.seq.desc())
    .limit(1)
)
_LAST_FIRM = _LAST_EVENT.where(_event.type.in_(BARRIERS))


@dataclass(frozen=True, slots=True)
class UnsavedText:
    """Text that begins at `start` and that has to be saved before anything stands behind it."""

    start: int = 0
    text: str = ""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def save(tx: sa.Connection, job_id: str, epoch: int, pledge: UnsavedText) -> None:
    """Save what of the text is not saved yet, by a commit of which we may not have heard."""
    if not pledge.text:
        return
    known = saved(tx, job_id)
    done = known[1] if known[0] == epoch else 0
    if pledge.end > done:
        piece = pledge.text[max(0, done - pledge.start) :]
        start = max(done, pledge.start)
        row = {"transcription_id": job_id, "epoch": epoch, "start": start, "text": piece}
        tx.execute(_ADD, row)


def saved(tx: sa.Connection, job_id: str) -> TextPosition:
    """Return up to where text is saved."""
    last = tx.execute(_LAST_PIECE, {"job": job_id}).one_or_none()
    return BEGINNING if last is None else (last.epoch, last.start + len(last.text))


def place_after(tx: sa.Connection, job_id: str) -> TextPosition:
    """Return a place behind all that is known to have been told."""
    last = tx.execute(_LAST_EVENT, {"job": job_id}).one_or_none()
    return max(BEGINNING if last is None else tuple(last), saved(tx, job_id))


def has_unconfirmed_text(tx: sa.Connection, job_id: str) -> bool:
    """Tell whether an earlier run told text that no segment stands for."""
    firm = tx.execute(_LAST_FIRM, {"job": job_id}).one_or_none()
    firmly = BEGINNING if firm is None else (firm.epoch, firm.delta_chars)
    last = place_after(tx, job_id)
    return last > firmly and last[1] > 0
