"""Invariants: statements about the database that always hold, as queries that return no row.

Each invariant is kept by a single transaction, so a crash violates none. A violation points to a
manual change, a damaged disk, or a defect of the gateway. Open jobs are left out where their calls
may be open and their holds unused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from app.db.time_limits import statement_timeout
from app.jobs.tables import (
    ENDED,
    audio_tables,
    billing_tables,
    event,
    transcript,
    transcription,
    upstream_call,
)
from app.speech.engine import Billed

EXAMPLES = 3

_job, _call = transcription.c, upstream_call.c
_line = billing_tables.ledger_line.c
_audio = audio_tables.audio.c
_has_ended = _job.status.in_(ENDED)


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant: the number of rows that violate it, and the ids of the first few."""

    invariant: str
    count: int
    examples: tuple[str, ...]


def find_violations(
    tx: sa.Connection, seconds: float, names: Iterable[str] | None = None
) -> list[Violation]:
    """Return the violated invariants among these, or among all. Raises StatementTimeoutError."""
    violations = []
    with statement_timeout(tx, seconds):
        for name in INVARIANTS if names is None else names:
            rows = INVARIANTS[name].subquery()
            if count := tx.scalar(sa.select(sa.func.count()).select_from(rows)) or 0:
                first = tx.scalars(sa.select(rows.c.id).order_by(rows.c.id).limit(EXAMPLES))
                violations.append(Violation(name, count, tuple(first)))
    return violations


def stored_audio(tx: sa.Connection, most: int) -> list[tuple[str, str]]:
    """Return id and blob key of the newest audio whose bytes must be in the store."""
    query = (
        sa.select(_audio.id, _audio.blob_key)
        .where(_audio.erased_at.is_(None))
        .order_by(_audio.id.desc())
        .limit(most)
    )
    return [(row.id, row.blob_key) for row in tx.execute(query)]


def _amount_of(kind: str) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((_line.kind == kind, _line.nano), else_=0))


def _count_of(kind: str) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((_line.kind == kind, 1), else_=0))


def _ended_periods(*violated: sa.ColumnElement[bool]) -> sa.Select[tuple[str]]:
    """Select the jobs with an ended period for which all these conditions hold.

    The periods of a job lie between its creation, its retries and its end; each has a hold.
    """
    return (
        sa.select(_line.transcription_id.label("id"))
        .join(transcription, _job.id == _line.transcription_id)
        .where(sa.or_(_has_ended, _line.retry_epoch < _job.retry_epoch), _line.kind != "adjust")
        .group_by(_line.transcription_id, _line.retry_epoch)
        .having(sa.and_(*violated))
    )


_held, _settled = _amount_of("hold"), _amount_of("settle")
_unused_hold = sa.case((_held > _settled, _held - _settled), else_=0)
_has_transcript = sa.exists().where(transcript.c.transcription_id == _job.id)
_is_settled = sa.exists().where(_line.kind == "settle", _line.call_id == _call.id)
_stored_events = (
    sa.select(sa.func.count()).where(event.c.transcription_id == _job.id).scalar_subquery()
)
# A failed call costs money where the provider bills it. An open call, and one in doubt, costs
# nothing yet: the provider's bill decides, by an `adjust` entry. `billed` may be NULL.
_is_charged = sa.or_(
    _call.state == "answered",
    sa.and_(_call.state == "failed", sa.func.coalesce(_call.billed, Billed.NO) == Billed.YES),
)
INVARIANTS: Mapping[str, sa.Select[tuple[str]]] = {
    "an ended transcription has no open call": sa.select(_job.id).where(
        _has_ended,
        sa.exists().where(_call.transcription_id == _job.id, _call.state == "open"),
    ),
    "each ended period of a transcription has one release": _ended_periods(
        _count_of("release") != 1
    ),
    "the release is the hold less the settled amount": _ended_periods(
        _count_of("release") == 1, _amount_of("release") != _unused_hold
    ),
    "an answered or billed call is settled": sa.select(_call.id).where(_is_charged, ~_is_settled),
    "only answered or billed calls are settled": sa.select(_line.id)
    .join(upstream_call, _call.id == _line.call_id)
    .where(_line.kind == "settle", ~_is_charged),
    "a ledger entry names a call of its own transcription": sa.select(_line.id)
    .join(upstream_call, _call.id == _line.call_id)
    .where(_call.transcription_id != _line.transcription_id),
    "a completed transcription has a transcript": sa.select(_job.id).where(
        _job.status == "completed", _job.erased_at.is_(None), ~_has_transcript
    ),
    "a transcript belongs to a completed transcription": sa.select(
        transcript.c.transcription_id.label("id")
    )
    .outerjoin(transcription, _job.id == transcript.c.transcription_id)
    .where(sa.or_(_job.id.is_(None), _job.status != "completed", _job.erased_at.is_not(None))),
    "an ended transcription has all its events": sa.select(_job.id).where(
        _has_ended, _job.erased_at.is_(None), _stored_events != _job.event_count
    ),
}
