"""What is expected of a plan: never more than what is held for it, never less than is billed."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.speech.catalogue import load_catalogue
from app.speech.planning.expected_usage import Expected, expect
from app.speech.planning.plan import PlanInput, max_usage, plan

CATALOGUE = load_catalogue()
FLASH = CATALOGUE.find("qwen3-asr-flash")
TOKENS = CATALOGUE.find("qwen-audio-3.1-asr-flash")
OMNI = CATALOGUE.find("qwen3-omni-flash")


def expected(seconds: float, name: str = "qwen3-asr-flash", **more: object) -> Expected:
    wish = PlanInput(seconds, CATALOGUE.find(name), 43_200, **more)  # type: ignore[arg-type]
    found = expect(wish, plan(wish))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("seconds", "parts", "billed"),
    [(0.3, 1, 1), (10.0, 1, 10), (10.2, 1, 11), (240, 1, 240), (241, 2, 242), (3_600, 17, 3_616)],
)
def test_every_part_is_rounded_up(seconds: float, parts: int, billed: int) -> None:
    found = expected(seconds)
    assert (found.parts, found.millis) == (parts, billed * 1_000)
    assert found.units == (billed * 1_000, 0, 0, 0)


def test_of_a_length_that_is_not_known_nothing_is_expected() -> None:
    wish = PlanInput(None, FLASH, 43_200)
    assert expect(wish, plan(wish)) is None


@given(st.floats(0.05, 43_200), st.sampled_from(["qwen3-asr-flash", TOKENS.name, OMNI.name]))
def test_less_is_expected_than_is_held(seconds: float, name: str) -> None:
    wish = PlanInput(seconds, CATALOGUE.find(name), 43_200, "Ada Lovelace")
    found, most = expect(wish, plan(wish)), max_usage(wish)
    assert found is not None
    assert found.millis <= most.millis
    assert found.input_tokens <= most.input_tokens
    assert found.output_tokens <= most.output_tokens
    assert found.text_tokens <= found.input_tokens
    assert found.parts * found.each.input_tokens <= most.input_tokens + found.parts * 26


@given(st.floats(0.05, 43_200))
def test_what_is_expected_covers_its_parts_however_they_are_cut(seconds: float) -> None:
    found = expected(seconds)
    assert found.millis >= ceil(seconds) * 1_000
    assert found.parts * found.each.millis >= seconds * 1_000 - 1


def test_tokens_are_those_of_the_sound_the_prompt_and_fast_speech() -> None:
    sound, prompt = 100 * 12.5, 60
    found = expected(100, OMNI.name)
    assert sound + prompt / 2 < found.input_tokens < sound + prompt * 3
    assert found.output_tokens == 500
    assert found.text_tokens == found.input_tokens - sound
    with_context = expected(100, OMNI.name, context="Ada Lovelace")
    assert with_context.input_tokens > found.input_tokens
