"""Upper bounds of usage are never below the usage of calls.

Covers: app.speech.usage_bounds
"""

from hypothesis import given
from hypothesis import strategies as st

from app.speech.planning.fit_options import estimate_tokens
from app.speech.usage_bounds import (
    TokenBounds,
    max_context_tokens,
    max_usage_of_call,
    max_usage_of_calls,
)

MILLIS = st.integers(1, 240_000)
BOUNDS = st.builds(
    TokenBounds,
    per_second=st.floats(0.1, 100),
    per_call=st.integers(0, 500),
    max_output=st.integers(1, 9_000),
    context=st.integers(0, 9_000),
)


@given(st.lists(MILLIS, min_size=1, max_size=40), BOUNDS)
def test_the_bound_of_a_job_covers_its_calls(lengths: list[int], bounds: TokenBounds) -> None:
    each = [max_usage_of_call(millis, bounds) for millis in lengths]
    whole = max_usage_of_calls(sum(lengths) + 1_000 * len(lengths), len(lengths), bounds)
    for of_calls, of_job in zip(map(sum, zip(*each, strict=True)), whole, strict=True):
        assert of_calls <= of_job


@given(MILLIS, BOUNDS)
def test_the_bound_of_a_call_counts_its_last_second_as_whole(
    millis: int, bounds: TokenBounds
) -> None:
    most = max_usage_of_call(millis, bounds)
    assert most.millis >= millis
    assert most.input_tokens >= bounds.per_second * millis / 1000 + bounds.per_call + bounds.context
    assert most.output_tokens == bounds.max_output


def test_without_known_tokens_only_seconds_count() -> None:
    assert max_usage_of_call(1_200, None) == (2_000, 0, 0)


@given(st.text(max_size=200))
def test_a_context_has_no_more_tokens_than_bytes(context: str) -> None:
    assert max_context_tokens(context) >= estimate_tokens(context)


def test_bounds_can_be_stored_and_read() -> None:
    bounds = TokenBounds(25, 250, 8192, 7)
    assert TokenBounds.from_json(bounds.as_json()) == bounds
    assert TokenBounds.from_json(None) is None
