"""Counts of the failed calls of a part, from its stored calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.jobs.tables import transcription, upstream_call
from app.speech.engine import Billed, ErrorKind

MAX_ATTEMPTS = 3  # calls for one part, on one engine, that fail and may be tried again

# With nothing billed, no engine was reached: as many more calls are harmless.
_UNREACHABLE = (ErrorKind.UNAVAILABLE, ErrorKind.NETWORK)
# A rejection concerns the format that was sent; rejected audio ends the job at once.
_NOT_COUNTED = (*_UNREACHABLE, ErrorKind.RATE_LIMITED, ErrorKind.ACCOUNT, ErrorKind.REJECTED)

_call = upstream_call.c
# Attempts are counted from zero after a retry of the job.
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
        _call.error_kind.in_(tuple(ErrorKind)),  # a call that a crash ended has no error
        _call.run_epoch > _RETRY_EPOCH,
    )
    .order_by(_call.id)
)


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """Failed calls of one engine for one part: attempts, unreachable calls, and all calls."""

    tries: int = 0
    unreachable: int = 0
    calls: int = 0


def count_attempts(tx: sa.Connection, job_id: str, index: int, engine: str) -> AttemptCounts:
    """Count the failed calls of this part on the engine."""
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

    Their account failed this job, which a retry does not fix, or the part's attempts are used up.
    """
    failed = _FAILED.all(tx, {"job": job_id})
    accounts = {row.engine for row in failed if row.error_kind == ErrorKind.ACCOUNT}
    engines = {row.engine for row in failed} - accounts
    spent = {one for one in engines if _counted(failed, index, one).tries >= MAX_ATTEMPTS}
    return frozenset(accounts | spent)
