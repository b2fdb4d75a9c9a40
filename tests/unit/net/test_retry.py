"""A tenth of the calls may be retries. Further ones are deferred.

Covers: app.net.retry
"""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from app.net.retry import MIN_RETRIES, RETRY_SHARE, WINDOW_SECONDS, RetryBudget


def test_a_minute_with_few_calls_has_some_retries() -> None:
    budget = RetryBudget()
    waits = [budget.reserve(0) for _ in range(MIN_RETRIES + 1)]
    assert waits == [0.0] * MIN_RETRIES + [WINDOW_SECONDS]


def test_a_retry_beyond_the_budget_waits_until_the_first_one_is_a_minute_old() -> None:
    budget = RetryBudget()
    for second in range(MIN_RETRIES):
        assert budget.reserve(second) == 0
    assert budget.reserve(10) == WINDOW_SECONDS - 10
    assert budget.reserve(10) == WINDOW_SECONDS - 9


def test_many_calls_allow_more_retries_and_old_ones_do_not_count() -> None:
    budget = RetryBudget()
    for _ in range(1_000):
        budget.record_call(0)
    assert all(budget.reserve(1) == 0 for _ in range(100))
    assert budget.reserve(1) == WINDOW_SECONDS
    assert [budget.reserve(123) for _ in range(MIN_RETRIES + 1)][-1] == WINDOW_SECONDS


@given(st.lists(st.floats(0, 3), max_size=300))
def test_no_minute_has_more_retries_than_its_share(pauses: list[float]) -> None:
    budget, now, retries = RetryBudget(), 0.0, []
    for now in itertools.accumulate(pauses):
        budget.record_call(now)
        retries.append(now + budget.reserve(now))
    most = max(MIN_RETRIES, RETRY_SHARE * len(pauses))
    for at in retries:
        assert sum(at <= other < at + WINDOW_SECONDS - 1e-6 for other in retries) <= most + 1
