"""Expected usage: never more than the usage that is held, never less than the bill.

Covers: app.speech.planning.expected_usage
"""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.speech.catalogue import load_catalogue
from app.speech.planning.expected_usage import ExpectedUsage, expected_usage
from app.speech.planning.plan import PlanInput, max_usage, plan

CATALOGUE = load_catalogue()
FLASH = CATALOGUE.find("qwen3-asr-flash")
TOKENS = CATALOGUE.find("qwen-audio-3.1-asr-flash")
OMNI = CATALOGUE.find("qwen3-omni-flash")


def expected(seconds: float, name: str = "qwen3-asr-flash", **more: object) -> ExpectedUsage:
    request = PlanInput(seconds, CATALOGUE.find(name), 43_200, **more)  # type: ignore[arg-type]
    found = expected_usage(request, plan(request))
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


def test_an_unknown_length_has_no_expected_usage() -> None:
    request = PlanInput(None, FLASH, 43_200)
    assert expected_usage(request, plan(request)) is None


@given(st.floats(0.05, 43_200), st.sampled_from(["qwen3-asr-flash", TOKENS.name, OMNI.name]))
def test_the_expected_usage_is_below_the_held_usage(seconds: float, name: str) -> None:
    request = PlanInput(seconds, CATALOGUE.find(name), 43_200, "Ada Lovelace")
    found, most = expected_usage(request, plan(request)), max_usage(request)
    assert found is not None
    assert found.millis <= most.millis
    assert found.input_tokens <= most.input_tokens
    assert found.output_tokens <= most.output_tokens
    assert found.text_tokens <= found.input_tokens
    assert found.parts * found.each.input_tokens <= most.input_tokens + found.parts * 26


@given(st.floats(0.05, 43_200))
def test_the_expected_usage_covers_the_parts(seconds: float) -> None:
    found = expected(seconds)
    assert found.millis >= ceil(seconds) * 1_000
    assert found.parts * found.each.millis >= seconds * 1_000 - 1


def test_tokens_are_those_of_the_audio_the_prompt_and_fast_speech() -> None:
    audio, prompt = 100 * 12.5, 60
    found = expected(100, OMNI.name)
    assert audio + prompt / 2 < found.input_tokens < audio + prompt * 3
    assert found.output_tokens == 500
    assert found.text_tokens == found.input_tokens - audio
    with_context = expected(100, OMNI.name, context="Ada Lovelace")
    assert with_context.input_tokens > found.input_tokens
