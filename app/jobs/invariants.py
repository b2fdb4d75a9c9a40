"""The invariants of the database, as queries that must return no row.

Jobs that run are left out: their calls are open and their holds are reserved. A crash violates no
invariant, as each is kept by one transaction. A violation comes from a manual change, a disk error
or a defect of the gateway.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from app.db.statement_timeout import statement_timeout
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

    law: str
    count: int
    examples: tuple[str, ...]


def find_violations(tx: sa.Connection, seconds: float) -> list[Violation]:
    """Return the invariants that do not hold. Raises TookTooLongError."""
    with statement_timeout(tx, seconds):
        return [found for law, query in INVARIANTS.items() if (found := _breach(tx, law, query))]


def kept_recordings(tx: sa.Connection, most: int) -> list[tuple[str, str]]:
    """Return id and key of the newest audio whose bytes must be in the store."""
    query = (
        sa.select(_audio.id, _audio.blob_key)
        .where(_audio.erased_at.is_(None))
        .order_by(_audio.id.desc())
        .limit(most)
    )
    return [(row.id, row.blob_key) for row in tx.execute(query)]


def _breach(tx: sa.Connection, law: str, query: sa.Select[tuple[str]]) -> Violation | None:
    found = query.subquery()
    count = tx.scalar(sa.select(sa.func.count()).select_from(found)) or 0
    if not count:
        return None
    first = tx.scalars(sa.select(found.c.id).order_by(found.c.id).limit(EXAMPLES))
    return Violation(law, count, tuple(first))


def _sum_of(kind: str) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((_line.kind == kind, _line.nano), else_=0))


def _count_of(kind: str) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((_line.kind == kind, 1), else_=0))


def _lives(*broken: sa.ColumnElement[bool]) -> sa.Select[tuple[str]]:
    """Select the jobs with a retry epoch that has ended and that meets all these conditions."""
    return (
        sa.select(_line.transcription_id.label("id"))
        .join(transcription, _job.id == _line.transcription_id)
        .where(sa.or_(_has_ended, _line.retry_epoch < _job.retry_epoch), _line.kind != "adjust")
        .group_by(_line.transcription_id, _line.retry_epoch)
        .having(sa.and_(*broken))
    )


def _left() -> sa.ColumnElement[int]:
    """The amount by which the holds exceed the settled cost, at least 0."""
    held, settled = _sum_of("hold"), _sum_of("settle")
    return sa.case((held > settled, held - settled), else_=0)


def _laws() -> Iterator[tuple[str, sa.Select[tuple[str]]]]:
    job = sa.select(_job.id)
    lines = billing_tables.ledger_line
    words = sa.exists().where(transcript.c.transcription_id == _job.id)
    settled = sa.exists().where(_line.kind == "settle", _line.call_id == _call.id)
    told = sa.select(sa.func.count()).where(event.c.transcription_id == _job.id).scalar_subquery()
    yield (
        "an ended transcription has no open call",
        job.where(
            _has_ended,
            sa.exists().where(_call.transcription_id == _job.id, _call.state == "open"),
        ),
    )
    yield "what was held and not used is released once", _lives(_count_of("release") != 1)
    yield (
        "what was held is settled or released",
        _lives(_count_of("release") == 1, _sum_of("release") != _left()),
    )
    # A failed call costs money where the provider bills it. An open call, and one in doubt, costs
    # nothing yet: the provider's bill decides, by an `adjust` entry. `billed` may be NULL.
    is_billed_failure = sa.and_(
        _call.state == "failed", sa.func.coalesce(_call.billed, Billed.NO) == Billed.YES
    )
    is_charged = sa.or_(_call.state == "answered", is_billed_failure)
    yield (
        "a call that was answered or billed is settled",
        sa.select(_call.id).where(is_charged, ~settled),
    )
    yield (
        "only a call that was answered or billed is settled",
        sa.select(_line.id)
        .join(upstream_call, _call.id == _line.call_id)
        .where(_line.kind == "settle", ~is_charged),
    )
    yield (
        "a line is of a call of its own transcription",
        sa.select(_line.id)
        .select_from(lines.join(upstream_call, _call.id == _line.call_id))
        .where(_call.transcription_id != _line.transcription_id),
    )
    yield (
        "a completed transcription has words",
        job.where(_job.status == "completed", _job.erased_at.is_(None), ~words),
    )
    yield (
        "words are of a completed transcription",
        sa.select(transcript.c.transcription_id.label("id"))
        .outerjoin(transcription, _job.id == transcript.c.transcription_id)
        .where(sa.or_(_job.id.is_(None), _job.status != "completed", _job.erased_at.is_not(None))),
    )
    yield (
        "every event is kept",
        job.where(_has_ended, _job.erased_at.is_(None), told != _job.event_count),
    )


INVARIANTS: Mapping[str, sa.Select[tuple[str]]] = dict(_laws())
