"""What is held for tokens is never less than what calls can use."""

from hypothesis import given
from hypothesis import strategies as st

from app.speech.planning.fit_options import estimate_tokens
from app.speech.usage_bounds import (
    TokenFacts,
    max_context_tokens,
    max_usage_of_call,
    max_usage_of_calls,
)

MILLIS = st.integers(1, 240_000)
FACTS = st.builds(
    TokenFacts,
    per_second=st.floats(0.1, 100),
    per_call=st.integers(0, 500),
    max_output=st.integers(1, 9_000),
    context=st.integers(0, 9_000),
)


@given(st.lists(MILLIS, min_size=1, max_size=40), FACTS)
def test_the_jobs_bound_covers_its_calls_however_it_is_cut(
    lengths: list[int], facts: TokenFacts
) -> None:
    each = [max_usage_of_call(millis, facts) for millis in lengths]
    whole = max_usage_of_calls(sum(lengths) + 1_000 * len(lengths), len(lengths), facts)
    for of_calls, of_job in zip(map(sum, zip(*each, strict=True)), whole, strict=True):
        assert of_calls <= of_job


@given(MILLIS, FACTS)
def test_a_call_is_bounded_as_if_its_last_second_had_been_whole(
    millis: int, facts: TokenFacts
) -> None:
    bound = max_usage_of_call(millis, facts)
    assert bound.millis >= millis
    assert bound.input_tokens >= facts.per_second * millis / 1000 + facts.per_call + facts.context
    assert bound.output_tokens == facts.max_output


def test_seconds_alone_count_where_no_tokens_are_known() -> None:
    assert max_usage_of_call(1_200, None) == (2_000, 0, 0)


@given(st.text(max_size=200))
def test_no_context_is_more_tokens_than_bytes(context: str) -> None:
    assert max_context_tokens(context) >= estimate_tokens(context)


def test_facts_survive_being_stored() -> None:
    facts = TokenFacts(25, 250, 8192, 7)
    assert TokenFacts.from_json(facts.as_json()) == facts
    assert TokenFacts.from_json(None) is None
