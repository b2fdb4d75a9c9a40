"""What to do after a call that brought nothing: try again, wait, ask another engine, or give up.

Waiting is no try. How often a part was tried is counted from its stored calls, so that neither a
wait nor a crash begins the count anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.jobs.tables import transcription, upstream_call
from app.speech.contract import Billed, EngineError, ErrorKind

MOST_TRIES = 3  # calls for one part, on one engine, that fail and may be tried again
LONGEST_PAUSE_SECONDS = 30.0
# Waits up to here are slept through, longer ones give the slot and the recording back.
LONG_SECONDS = 5.0

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows: `wait` are seconds until the same engine may be asked again, None for never.

    `elsewhere`: another engine may be asked at once, if there is one.
    """

    wait: float | None
    elsewhere: bool = False


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


def after_refusal(error: EngineError) -> Verdict:
    """Judge that an engine did not let a call be made: it is down, or its queue is too long."""
    return Verdict(pause_after(error, 1), elsewhere=error.kind is not ErrorKind.RATE_LIMITED)


def after_failure(error: EngineError, before: Tried, *, remote: bool) -> Verdict:
    """Judge a call that failed; `before` counts it, too."""
    if error.kind is ErrorKind.ACCOUNT and error.billed is Billed.NO:
        return Verdict(None, elsewhere=True)
    if not error.retryable or error.billed is Billed.YES:
        return Verdict(None)
    # Our own engine is not mended by waiting: what it lacks is up to this machine.
    tries = before.tries if remote else before.tries + before.misses
    if tries >= MOST_TRIES:
        return Verdict(None, elsewhere=error.billed is Billed.NO)
    pause = pause_after(error, before.calls)
    if error.billed is Billed.MAYBE or error.kind is ErrorKind.RATE_LIMITED:
        return Verdict(pause)
    return Verdict(pause, pause > LONG_SECONDS or before.tries + before.misses >= MOST_TRIES)


def pause_after(error: EngineError, calls: int) -> float:
    """Seconds before the next call: what the upstream or its breaker says, else doubling."""
    return error.retry_after or min(2.0 ** min(calls, 10), LONGEST_PAUSE_SECONDS)
