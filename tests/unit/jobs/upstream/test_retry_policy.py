"""The retry policy: delay, next route or failure for each kind of engine error.

Covers: app.jobs.upstream.retry_policy
"""

import pytest

from app.jobs.store.attempts import MAX_ATTEMPTS, AttemptCounts
from app.jobs.upstream.retry_policy import LONG_SECONDS, on_failure
from app.speech.engine import Billed, EngineError, ErrorKind

ILL = [ErrorKind.TIMEOUT, ErrorKind.MALFORMED, ErrorKind.INTERNAL]
AWAY = [ErrorKind.UNAVAILABLE, ErrorKind.NETWORK]
SPENT = AttemptCounts(MAX_ATTEMPTS, 0, MAX_ATTEMPTS)
ONCE = AttemptCounts(1, 0, 1)


def failed(kind: ErrorKind, billed: Billed = Billed.NO, **fields: object) -> EngineError:
    return EngineError(kind, "x", billed=billed, **{"retryable": True, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize("billed", [Billed.YES, Billed.MAYBE])
def test_a_call_in_doubt_is_not_sent_to_another_route(kind: ErrorKind, billed: Billed) -> None:
    for before in (ONCE, SPENT):
        assert not on_failure(failed(kind, billed), before, remote=True).try_next_route


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind is not ErrorKind.ACCOUNT])
def test_a_final_error_is_not_retried(kind: ErrorKind) -> None:
    verdict = on_failure(failed(kind, retryable=False), ONCE, remote=True)
    assert (verdict.wait, verdict.try_next_route) == (None, False)


def test_an_account_error_goes_to_the_next_route() -> None:
    for retryable in (True, False):
        error = failed(ErrorKind.ACCOUNT, retryable=retryable)
        verdict = on_failure(error, ONCE, remote=True)
        assert (verdict.wait, verdict.try_next_route) == (None, True)


@pytest.mark.parametrize("kind", ILL)
def test_max_attempts_ends_the_retries(kind: ErrorKind) -> None:
    assert on_failure(failed(kind), ONCE, remote=True).wait == 2
    assert on_failure(failed(kind), SPENT, remote=True).wait is None


@pytest.mark.parametrize("kind", [*AWAY, ErrorKind.RATE_LIMITED])
def test_unreachable_calls_are_no_failures(kind: ErrorKind) -> None:
    many = AttemptCounts(0, 50 if kind in AWAY else 0, 50)
    verdict = on_failure(failed(kind), many, remote=True)
    assert verdict.wait == 30
    assert verdict.try_next_route is (kind in AWAY)


def test_unreachable_calls_of_a_local_engine_are_failures() -> None:
    many = AttemptCounts(0, MAX_ATTEMPTS, MAX_ATTEMPTS)
    assert on_failure(failed(ErrorKind.UNAVAILABLE), many, remote=False).wait is None


def test_a_long_delay_goes_to_the_next_route_and_a_short_one_does_not() -> None:
    for seconds, goes in ((LONG_SECONDS, False), (LONG_SECONDS + 1, True)):
        error = failed(ErrorKind.INTERNAL, retry_after=seconds)
        assert on_failure(error, ONCE, remote=True).try_next_route is goes
