"""What to do after a call that brought nothing: try again, wait, ask another engine, or give up.

Waiting is no try. How often a part was tried is counted from its stored calls, so that neither a
wait nor a crash begins the count anew.
"""

from dataclasses import dataclass

from app.jobs.store.attempts import MAX_ATTEMPTS, AttemptCounts
from app.speech.engine import Billed, EngineError, ErrorKind

LONGEST_PAUSE_SECONDS = 30.0
# Waits up to here are slept through, longer ones give the slot and the recording back.
LONG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What follows: `wait` are seconds until the same engine may be asked again, None for never.

    `elsewhere`: another engine may be asked at once, if there is one.
    """

    wait: float | None
    try_next_route: bool = False


def on_not_admitted(error: EngineError) -> RetryDecision:
    """Judge that an engine did not let a call be made: it is down, or its queue is too long."""
    return RetryDecision(
        backoff_seconds(error, 1), try_next_route=error.kind is not ErrorKind.RATE_LIMITED
    )


def on_failure(error: EngineError, before: AttemptCounts, *, remote: bool) -> RetryDecision:
    """Judge a call that failed; `before` counts it, too."""
    if error.kind is ErrorKind.ACCOUNT and error.billed is Billed.NO:
        return RetryDecision(None, try_next_route=True)
    if not error.retryable or error.billed is Billed.YES:
        return RetryDecision(None)
    # Our own engine is not mended by waiting: what it lacks is up to this machine.
    tries = before.tries if remote else before.tries + before.unreachable
    if tries >= MAX_ATTEMPTS:
        return RetryDecision(None, try_next_route=error.billed is Billed.NO)
    pause = backoff_seconds(error, before.calls)
    if error.billed is Billed.MAYBE or error.kind is ErrorKind.RATE_LIMITED:
        return RetryDecision(pause)
    return RetryDecision(
        pause, pause > LONG_SECONDS or before.tries + before.unreachable >= MAX_ATTEMPTS
    )


def backoff_seconds(error: EngineError, calls: int) -> float:
    """Seconds before the next call: what the upstream or its breaker says, else doubling."""
    return error.retry_after or min(2.0 ** min(calls, 10), LONGEST_PAUSE_SECONDS)
