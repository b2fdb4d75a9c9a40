"""Counts of the failed calls of a part, from its stored calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.jobs.tables import transcription, upstream_call
from app.speech.engine import Billed, ErrorKind

MAX_ATTEMPTS = 3  # calls for one part, on one engine, that fail and may be tried again

# With nothing billed these say that nobody took the part up: so many more calls do it no harm.
_UNREACHABLE = (ErrorKind.UNAVAILABLE, ErrorKind.NETWORK)
# A refusal is of the form it was sent in; of the recording itself it ends the job at once.
_NOT_COUNTED = (*_UNREACHABLE, ErrorKind.RATE_LIMITED, ErrorKind.ACCOUNT, ErrorKind.REJECTED)

_call = upstream_call.c
# Whoever tries a job anew has its tries counted anew.
_RETRY_EPOCH = (
    sa.select(transcription.c.retry_epoch)
    .where(transcription.c.id == sa.bindparam("job"))
    .scalar_subquery()
)
_FAILED = Prepared(
    sa.select(_call.part_idx, _call.engine, _call.error_kind, _call.billed)
    .where(
        _call.transcription_id == sa.bindparam("job"),
        _call.state.in_(("failed", "in_doubt")),
        _call.error_kind.in_(tuple(ErrorKind)),  # one that a crash ended says nothing
        _call.run_epoch > _RETRY_EPOCH,
    )
    .order_by(_call.id)
)


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """How one engine failed one part: tries of it, calls that nobody took up, and all of them."""

    tries: int = 0
    unreachable: int = 0
    calls: int = 0


def count_attempts(tx: sa.Connection, job_id: str, index: int, engine: str) -> AttemptCounts:
    """Count how often the engine failed this part."""
    return _counted(_FAILED.all(tx, {"job": job_id}), index, engine)


def _counted(failed: Sequence[Any], index: int, engine: str) -> AttemptCounts:
    rows = [
        (row.error_kind, row.billed)
        for row in failed
        if (row.part_idx, row.engine) == (index, engine)
    ]
    free = [kind for kind, billed in rows if billed == Billed.NO]
    unreachable = sum(kind in _UNREACHABLE for kind in free)
    return AttemptCounts(
        len(rows) - sum(kind in _NOT_COUNTED for kind in free), unreachable, len(rows)
    )


def exhausted_engines(tx: sa.Connection, job_id: str, index: int) -> frozenset[str]:
    """Return the engines that this part must not be sent to any more.

    Their account failed this job, which no repetition mends, or the part's tries are spent.
    """
    failed = _FAILED.all(tx, {"job": job_id})
    accounts = {row.engine for row in failed if row.error_kind == ErrorKind.ACCOUNT}
    engines = {row.engine for row in failed} - accounts
    spent = {one for one in engines if _counted(failed, index, one).tries >= MAX_ATTEMPTS}
    return frozenset(accounts | spent)
