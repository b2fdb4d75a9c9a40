"""The circuit breaker opens after failures, allows one probe, and closes again.

Covers: app.net.breaker
"""

from hypothesis import given
from hypothesis import strategies as st

from app.net.breaker import (
    MAX_OPEN_SECONDS,
    MIN_CALLS,
    OPEN_SECONDS,
    PROBE_SECONDS,
    WINDOW_SECONDS,
    Breaker,
    State,
)


def told(breaker: Breaker, outcomes: str, at: float = 0.0) -> Breaker:
    """Report calls in order: `+` succeeded, `-` failed."""
    for outcome in outcomes:
        breaker.record(at, success=outcome == "+")
    return breaker


def opened(at: float = 0.0) -> Breaker:
    return told(Breaker(), "-" * MIN_CALLS, at=at)


def test_it_opens_when_half_of_twenty_calls_have_failed() -> None:
    assert told(Breaker(), "+-" * 10).state is State.OPEN
    assert told(Breaker(), "+" * 11 + "-" * 9).state is State.CLOSED
    assert told(Breaker(), "-" * (MIN_CALLS - 1)).state is State.CLOSED


def test_calls_older_than_the_window_do_not_count() -> None:
    breaker = told(Breaker(), "-" * (MIN_CALLS - 1))
    told(breaker, "-", at=WINDOW_SECONDS)
    assert breaker.state is State.CLOSED


def test_while_it_is_open_no_call_is_allowed_and_then_one_probe() -> None:
    breaker = opened()
    assert breaker.try_acquire(1.0) == OPEN_SECONDS - 1
    assert breaker.try_acquire(OPEN_SECONDS) == 0
    assert breaker.try_acquire(OPEN_SECONDS) > 0
    assert breaker.state is State.HALF_OPEN


def test_a_successful_probe_closes_it() -> None:
    breaker = opened()
    breaker.try_acquire(OPEN_SECONDS)
    told(breaker, "+", at=OPEN_SECONDS + 1)
    assert breaker.state is State.CLOSED
    assert breaker.try_acquire(OPEN_SECONDS + 1) == 0
    told(breaker, "-" * (MIN_CALLS - 1), at=OPEN_SECONDS + 1)
    assert breaker.state is State.CLOSED


def test_each_failed_probe_doubles_the_open_time_up_to_a_limit() -> None:
    breaker, now, rests = opened(), 0.0, []
    for _ in range(6):
        now += breaker.try_acquire(now)
        assert breaker.try_acquire(now) == 0
        told(breaker, "-", at=now)
        rests.append(breaker.try_acquire(now))
    assert rests == [30, 60, 120, 240, MAX_OPEN_SECONDS, MAX_OPEN_SECONDS]


def test_a_probe_without_a_recorded_result_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.try_acquire(OPEN_SECONDS) == 0
    assert breaker.try_acquire(OPEN_SECONDS + PROBE_SECONDS - 1) == 1
    assert breaker.try_acquire(OPEN_SECONDS + PROBE_SECONDS) == 0


def test_results_of_calls_before_the_probe_are_ignored() -> None:
    breaker = opened(at=5)
    assert breaker.try_acquire(5 + OPEN_SECONDS) == 0
    for was_well in (False, True):
        breaker.record(6 + OPEN_SECONDS, success=was_well, began=4)
        assert breaker.state is State.HALF_OPEN
    breaker.record(7 + OPEN_SECONDS, success=True, began=5 + OPEN_SECONDS)
    assert breaker.state is State.CLOSED
    for _ in range(MIN_CALLS):
        breaker.record(8 + OPEN_SECONDS, success=False, began=4)
    assert breaker.state is State.CLOSED


def test_open_for_is_no_probe() -> None:
    breaker = opened()
    assert [breaker.open_for(at) for at in (0, OPEN_SECONDS - 1, OPEN_SECONDS)] == [
        OPEN_SECONDS,
        1,
        0,
    ]
    assert breaker.state is State.OPEN
    assert Breaker().open_for(0) == 0


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.booleans())))
def test_a_call_is_always_allowed_in_the_end(steps: list[tuple[float, bool, bool]]) -> None:
    breaker, now = Breaker(), 0.0
    for pause, asks, was_well in steps:
        now += pause
        if asks and breaker.try_acquire(now):
            continue
        breaker.record(now, success=was_well)
    wait = breaker.try_acquire(now)
    assert 0 <= wait <= MAX_OPEN_SECONDS
    assert wait == 0 or breaker.try_acquire(now + wait) == 0


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=200))
def test_it_never_opens_while_most_calls_succeed(steps: list[tuple[float, bool]]) -> None:
    breaker, now = Breaker(), 0.0
    for pause, extra in steps:
        now += pause
        told(breaker, "++-" if extra else "++", at=now)
        assert breaker.state is State.CLOSED


def test_a_slow_provider_that_works_again_closes_it() -> None:
    breaker, slow = opened(), PROBE_SECONDS + 10
    first = OPEN_SECONDS
    assert breaker.try_acquire(first) == 0
    assert breaker.try_acquire(first + PROBE_SECONDS) == 0  # the first has not ended: another goes
    breaker.record(first + slow, success=True, began=first)
    assert breaker.state is State.CLOSED
