"""Counts of the failed calls of a part, from its stored calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.jobs.tables import transcription, upstream_call
from app.speech.engine import Billed, ErrorKind

MOST_TRIES = 3  # calls for one part, on one engine, that fail and may be tried again

# With nothing billed these say that nobody took the part up: so many more calls do it no harm.
_ABSENT = (ErrorKind.UNAVAILABLE, ErrorKind.NETWORK)
# A refusal is of the form it was sent in; of the recording itself it ends the job at once.
_NO_TRIES = (*_ABSENT, ErrorKind.RATE_LIMITED, ErrorKind.ACCOUNT, ErrorKind.REFUSED)

_call = upstream_call.c
# Whoever tries a job anew has its tries counted anew.
_LIFE = (
    sa.select(transcription.c.life)
    .where(transcription.c.id == sa.bindparam("job"))
    .scalar_subquery()
)
_FAILED = (
    sa.select(_call.part_idx, _call.engine, _call.error_kind, _call.billed)
    .where(
        _call.transcription_id == sa.bindparam("job"),
        _call.state.in_(("failed", "in_doubt")),
        _call.error_kind.in_(tuple(ErrorKind)),  # one that a crash ended says nothing
        _call.run_epoch > _LIFE,
    )
    .order_by(_call.id)
)


@dataclass(frozen=True, slots=True)
class Tried:
    """How one engine failed one part: tries of it, calls that nobody took up, and all of them."""

    tries: int = 0
    misses: int = 0
    calls: int = 0


def tried(tx: sa.Connection, job_id: str, index: int, engine: str) -> Tried:
    """Count how often the engine failed this part."""
    return _counted(tx.execute(_FAILED, {"job": job_id}).all(), index, engine)


def _counted(failed: Sequence[Any], index: int, engine: str) -> Tried:
    rows = [
        (row.error_kind, row.billed)
        for row in failed
        if (row.part_idx, row.engine) == (index, engine)
    ]
    free = [kind for kind, billed in rows if billed == Billed.NO]
    misses = sum(kind in _ABSENT for kind in free)
    return Tried(len(rows) - sum(kind in _NO_TRIES for kind in free), misses, len(rows))


def given_up(tx: sa.Connection, job_id: str, index: int) -> frozenset[str]:
    """Return the engines that this part must not be sent to any more.

    Their account failed this job, which no repetition mends, or the part's tries are spent.
    """
    failed = tx.execute(_FAILED, {"job": job_id}).all()
    accounts = {row.engine for row in failed if row.error_kind == ErrorKind.ACCOUNT}
    engines = {row.engine for row in failed} - accounts
    spent = {one for one in engines if _counted(failed, index, one).tries >= MOST_TRIES}
    return frozenset(accounts | spent)
