"""Plans of one task: its address, conversions, and the choice of the task variant.

Covers: app.speech.planning.plan, app.speech.planning.task_variant
"""

from typing import Any

import pytest

from app.errors import AudioTooLong, AudioUnreachable, InvalidParameter
from app.speech.catalogue import load_catalogue
from app.speech.options import Options
from app.speech.planning.plan import PlanInput, ProbedFile, max_usage, plan
from app.speech.planning.task_variant import select_model, task_variants_of

CATALOGUE = load_catalogue()
QWEN3 = CATALOGUE.find("qwen3-asr-flash-filetrans")
FUN = CATALOGUE.find("fun-asr")
TOKENS = CATALOGUE.find("qwen-audio-3.1-asr-flash-filetrans")
PHONE = CATALOGUE.find("paraformer-8k-v2")
FLASH = CATALOGUE.find("qwen3-asr-flash")
AUDIO_30 = CATALOGUE.find("qwen-audio-3.0-asr-flash")
MP3 = ProbedFile("mp3", 1, 44_100, 1_000)


def request(seconds: float | None = 10.0, model: Any = QWEN3, **fields: Any) -> PlanInput:
    return PlanInput(
        seconds, model, 43_200, **{"audio_sources": ("provider_upload",), "file": MP3} | fields
    )


@pytest.mark.parametrize(
    ("audio_sources", "audio_source", "reason"),
    [
        (
            ("client_url", "gateway_url", "provider_upload"),
            "client_url",
            "from the URL of the request",
        ),
        (("gateway_url", "provider_upload"), "gateway_url", "this gateway's public address"),
        (("provider_upload",), "provider_upload", "temporary storage"),
    ],
)
def test_the_best_source_is_used(audio_sources: Any, audio_source: str, reason: str) -> None:
    made = plan(request(audio_sources=audio_sources, model_reason="it is so"))
    assert (made.kind, made.audio_source, made.as_is) == ("filetrans", audio_source, True)
    assert made.reason.startswith("it is so; ")
    assert reason in made.reason


def test_without_a_source_it_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(AudioUnreachable, match="public https:// `url`"):
        plan(request(audio_sources=()))
    with pytest.raises(AudioUnreachable, match="converted first"):
        plan(request(audio_sources=("gateway_url",), file=ProbedFile("aiff", 1, 16_000, 9)))


@pytest.mark.parametrize(
    ("model", "file", "reason"),
    [
        (QWEN3, ProbedFile("wav", 2, 16_000, 9), "mixed into one"),
        (QWEN3, ProbedFile("pcm", 1, 16_000, 9), "does not read pcm"),
        (QWEN3, ProbedFile("wav", 1, 16_000, (2 << 30) + 1), "2,147,483,648 bytes"),
        (PHONE, ProbedFile("wav", 1, 16_000, 9), "16000 Hz"),
    ],
)
def test_a_file_that_the_model_does_not_accept_is_converted_and_uploaded(
    model: Any, file: ProbedFile, reason: str
) -> None:
    made = plan(request(model=model, file=file, audio_sources=("gateway_url", "provider_upload")))
    assert (made.as_is, made.audio_format, made.audio_source) == (False, "flac", "provider_upload")
    assert reason in made.reason


def test_requested_channels_are_billed_one_by_one() -> None:
    both = request(10.2, file=ProbedFile("wav", 2, 16_000, 9), channels=(0, 1))
    assert (plan(both).as_is, plan(both).billed_channels) == (True, 2)
    assert max_usage(both).millis == 2 * 12_000
    with pytest.raises(InvalidParameter, match="channel 1"):
        plan(request(channels=(0, 1)))


def test_the_usage_of_an_unknown_length_is_that_of_the_longest() -> None:
    assert max_usage(request(None, file=None)).millis == 43_201_000
    hours = max_usage(request(None, TOKENS, file=None))
    assert hours.input_tokens >= 25 * 43_200
    assert hours.output_tokens >= 8192 * 144
    assert max_usage(request(10.0, TOKENS)).output_tokens < 600


def test_too_long() -> None:
    with pytest.raises(AudioTooLong, match="43200 s in one task"):
        plan(request(43_201.0))
    with pytest.raises(AudioTooLong, match="with speaker diarization"):
        plan(request(7_300.0, TOKENS, diarized=True))
    assert plan(request(7_300.0, FUN, diarized=True)).part_seconds == 43_200


@pytest.mark.parametrize(
    ("asked", "options", "mode", "reason"),
    [
        (FLASH, {"timestamp_granularities": ["word"]}, "auto", "times of words"),
        (FLASH, {"channel_id": [0, 1]}, "sync", "channels one by one"),
        (FLASH, {}, "async", "`mode=async`"),
        (AUDIO_30, {"diarization_enabled": True}, "auto", "speaker diarization"),
    ],
)
def test_the_task_variant_is_used_for_what_the_model_does_not_support(
    asked: Any, options: dict[str, Any], mode: str, reason: str
) -> None:
    variant = CATALOGUE.find(asked.task_model)
    model, model_reason = select_model(asked, variant, Options(**options), mode=mode)
    assert model is variant
    assert reason in model_reason
    assert select_model(asked, None, Options(**options), mode=mode) == (asked, "")


@pytest.mark.parametrize(
    ("asked", "options", "names", "reason"),
    [
        (FLASH, {}, ["qwen3-asr-flash-filetrans"], ""),
        (
            FLASH,
            {"diarization_enabled": True, "timestamp_granularities": ["word"]},
            ["fun-asr", "qwen3-asr-flash-filetrans"],
            "fun-asr replaces qwen3-asr-flash for speaker diarization",
        ),
        (
            AUDIO_30,
            {"diarization_enabled": True},
            [AUDIO_30.task_model],
            f"{AUDIO_30.task_model} replaces",
        ),
        (QWEN3, {"diarization_enabled": True}, [], ""),
    ],
)
def test_diarization_may_have_a_task_variant_of_its_own(
    asked: Any, options: dict[str, Any], names: list[str], reason: str
) -> None:
    parsed = Options(**options)
    assert list(task_variants_of(asked, parsed)) == names
    if reason:
        model, found = select_model(asked, CATALOGUE.find(names[0]), parsed, mode="auto")
        assert (model.name, found.startswith(reason)) == (names[0], True)


@pytest.mark.parametrize(
    ("asked", "options", "mode"),
    [
        (FLASH, {}, "auto"),
        (FLASH, {}, "sync"),
        (FLASH, {"timestamp_granularities": ["word"]}, "stream"),
        (FLASH, {"diarization_enabled": True}, "stream"),
        (AUDIO_30, {"timestamp_granularities": ["word"]}, "auto"),  # it supports it itself
    ],
)
def test_otherwise_the_requested_model_is_used(
    asked: Any, options: dict[str, Any], mode: str
) -> None:
    variant = CATALOGUE.find(asked.task_model)
    assert select_model(asked, variant, Options(**options), mode=mode) == (asked, "")
