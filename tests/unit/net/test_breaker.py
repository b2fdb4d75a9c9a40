"""The breaker: opens on what it must, sends one probe, and never stays shut for ever."""

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
    """Tell of calls in their order: `+` was well, `-` was not."""
    for outcome in outcomes:
        breaker.record(at, success=outcome == "+")
    return breaker


def opened(at: float = 0.0) -> Breaker:
    return told(Breaker(), "-" * MIN_CALLS, at=at)


def test_half_of_twenty_calls_open_it() -> None:
    assert told(Breaker(), "+-" * 10).state is State.OPEN
    assert told(Breaker(), "+" * 11 + "-" * 9).state is State.CLOSED
    assert told(Breaker(), "-" * (MIN_CALLS - 1)).state is State.CLOSED


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = told(Breaker(), "-" * (MIN_CALLS - 1))
    told(breaker, "-", at=WINDOW_SECONDS)
    assert breaker.state is State.CLOSED


def test_while_it_is_open_nobody_calls_and_then_one_does() -> None:
    breaker = opened()
    assert breaker.try_acquire(1.0) == OPEN_SECONDS - 1
    assert breaker.try_acquire(OPEN_SECONDS) == 0
    assert breaker.try_acquire(OPEN_SECONDS) > 0
    assert breaker.state is State.HALF_OPEN


def test_a_probe_that_is_well_closes_it() -> None:
    breaker = opened()
    breaker.try_acquire(OPEN_SECONDS)
    told(breaker, "+", at=OPEN_SECONDS + 1)
    assert breaker.state is State.CLOSED
    assert breaker.try_acquire(OPEN_SECONDS + 1) == 0
    told(breaker, "-" * (MIN_CALLS - 1), at=OPEN_SECONDS + 1)
    assert breaker.state is State.CLOSED


def test_each_probe_that_fails_doubles_the_rest_up_to_a_bound() -> None:
    breaker, now, rests = opened(), 0.0, []
    for _ in range(6):
        now += breaker.try_acquire(now)
        assert breaker.try_acquire(now) == 0
        told(breaker, "-", at=now)
        rests.append(breaker.try_acquire(now))
    assert rests == [30, 60, 120, 240, MAX_OPEN_SECONDS, MAX_OPEN_SECONDS]


def test_a_probe_whose_end_is_never_told_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.try_acquire(OPEN_SECONDS) == 0
    assert breaker.try_acquire(OPEN_SECONDS + PROBE_SECONDS - 1) == 1
    assert breaker.try_acquire(OPEN_SECONDS + PROBE_SECONDS) == 0


def test_only_what_began_since_the_probe_tells_of_it() -> None:
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


def test_asking_how_long_it_rests_is_no_probe() -> None:
    breaker = opened()
    assert [breaker.open_for(at) for at in (0, OPEN_SECONDS - 1, OPEN_SECONDS)] == [
        OPEN_SECONDS,
        1,
        0,
    ]
    assert breaker.state is State.OPEN
    assert Breaker().open_for(0) == 0


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.booleans())))
def test_it_always_lets_somebody_through_in_the_end(steps: list[tuple[float, bool, bool]]) -> None:
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
def test_it_never_opens_while_most_calls_are_well(steps: list[tuple[float, bool]]) -> None:
    breaker, now = Breaker(), 0.0
    for pause, extra in steps:
        now += pause
        told(breaker, "++-" if extra else "++", at=now)
        assert breaker.state is State.CLOSED


def test_a_slow_upstream_that_is_well_again_closes_it() -> None:
    breaker, slow = opened(), PROBE_SECONDS + 10
    first = OPEN_SECONDS
    assert breaker.try_acquire(first) == 0
    assert breaker.try_acquire(first + PROBE_SECONDS) == 0  # the first has not ended: another goes
    breaker.record(first + slow, success=True, began=first)
    assert breaker.state is State.CLOSED
