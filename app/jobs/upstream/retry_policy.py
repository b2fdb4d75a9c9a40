"""The retry policy of failed calls: retry, wait, call the next route, or give up.

A wait is not an attempt. The attempts of a part are counted from its stored calls, so a wait or a
crash does not reset the count.
"""

from dataclasses import dataclass

from app.jobs.store.attempts import MAX_ATTEMPTS, AttemptCounts
from app.speech.engine import Billed, EngineError, ErrorKind

LONGEST_PAUSE_SECONDS = 30.0
# The run sleeps through shorter waits; longer ones release the job slot and the audio.
LONG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The decision after a failed call.

    `wait` is the seconds until the same engine may be called again, None for never. With
    `try_next_route` another engine may be called at once, if there is one.
    """

    wait: float | None
    try_next_route: bool = False


def on_not_admitted(error: EngineError) -> RetryDecision:
    """Decide after an engine did not admit a call: it is down, or its queue is too long."""
    return RetryDecision(
        backoff_seconds(error, 1), try_next_route=error.kind is not ErrorKind.RATE_LIMITED
    )


def on_failure(error: EngineError, before: AttemptCounts, *, remote: bool) -> RetryDecision:
    """Decide after a failed call; `before` includes this call."""
    if error.kind is ErrorKind.ACCOUNT and error.billed is Billed.NO:
        return RetryDecision(None, try_next_route=True)
    if not error.retryable or error.billed is Billed.YES:
        return RetryDecision(None)
    # Waiting does not help our own engine: its resources depend on this machine.
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
    """Return the seconds before the next call: the error's `retry_after`, else doubling.

    `retry_after` is set by the provider, the breaker, the retry budget or the queue of the rate
    limit; see `CallAdmission`.
    """
    return error.retry_after or min(2.0 ** min(calls, 10), LONGEST_PAUSE_SECONDS)
