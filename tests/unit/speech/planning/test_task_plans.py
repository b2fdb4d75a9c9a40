"""One task: which address the upstream reads, what is changed before, and which of two sisters."""

from typing import Any

import pytest

from app.errors import AudioTooLong, AudioUnreachable, InvalidParameter
from app.speech.catalogue import load_catalogue
from app.speech.options import Options
from app.speech.planning.plan import File, PlanInput, max_usage, plan
from app.speech.planning.task_variant import select_model, task_variants_of

CATALOGUE = load_catalogue()
QWEN3 = CATALOGUE.find("qwen3-asr-flash-filetrans")
FUN = CATALOGUE.find("fun-asr")
TOKENS = CATALOGUE.find("qwen-audio-3.1-asr-flash-filetrans")
PHONE = CATALOGUE.find("paraformer-8k-v2")
FLASH = CATALOGUE.find("qwen3-asr-flash")
AUDIO_30 = CATALOGUE.find("qwen-audio-3.0-asr-flash")
MP3 = File("mp3", 1, 44_100, 1_000)


def wish(seconds: float | None = 10.0, model: Any = QWEN3, **fields: Any) -> PlanInput:
    return PlanInput(
        seconds, model, 43_200, **{"audio_sources": ("provider_upload",), "file": MP3} | fields
    )


@pytest.mark.parametrize(
    ("audio_sources", "audio_source", "words"),
    [
        (
            ("client_url", "gateway_url", "provider_upload"),
            "client_url",
            "from the address that was given",
        ),
        (("gateway_url", "provider_upload"), "gateway_url", "this gateway's public address"),
        (("provider_upload",), "provider_upload", "temporary upload"),
    ],
)
def test_the_best_way_is_taken_and_told(audio_sources: Any, audio_source: str, words: str) -> None:
    made = plan(wish(audio_sources=audio_sources, model_reason="it is so"))
    assert (made.kind, made.audio_source, made.as_is) == ("filetrans", audio_source, True)
    assert made.reason.startswith("it is so; ")
    assert words in made.reason


def test_without_any_way_it_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(AudioUnreachable, match="public https:// `url`"):
        plan(wish(audio_sources=()))
    with pytest.raises(AudioUnreachable, match="changed before"):
        plan(wish(audio_sources=("gateway_url",), file=File("aiff", 1, 16_000, 9)))


@pytest.mark.parametrize(
    ("model", "file", "words"),
    [
        (QWEN3, File("wav", 2, 16_000, 9), "mixed into one"),
        (QWEN3, File("pcm", 1, 16_000, 9), "does not read pcm"),
        (QWEN3, File("wav", 1, 16_000, (2 << 30) + 1), "2,147,483,648 bytes"),
        (PHONE, File("wav", 1, 16_000, 9), "16000 Hz"),
    ],
)
def test_what_the_model_does_not_take_is_changed_and_uploaded(
    model: Any, file: File, words: str
) -> None:
    made = plan(wish(model=model, file=file, audio_sources=("gateway_url", "provider_upload")))
    assert (made.as_is, made.form, made.audio_source) == (False, "flac", "provider_upload")
    assert words in made.reason


def test_channels_that_were_asked_for_are_each_paid() -> None:
    both = wish(10.2, file=File("wav", 2, 16_000, 9), channels=(0, 1))
    assert (plan(both).as_is, plan(both).billed_channels) == (True, 2)
    assert max_usage(both).millis == 2 * 12_000
    with pytest.raises(InvalidParameter, match="channel 1"):
        plan(wish(channels=(0, 1)))


def test_the_hold_of_an_unknown_length_is_the_longest_there_may_be() -> None:
    assert max_usage(wish(None, file=None)).millis == 43_201_000
    hours = max_usage(wish(None, TOKENS, file=None))
    assert hours.input_tokens >= 25 * 43_200
    assert hours.output_tokens >= 8192 * 144
    assert max_usage(wish(10.0, TOKENS)).output_tokens < 600


def test_too_long() -> None:
    with pytest.raises(AudioTooLong, match="43200 s in one task"):
        plan(wish(43_201.0))
    with pytest.raises(AudioTooLong, match="when it tells speakers apart"):
        plan(wish(7_300.0, TOKENS, diarized=True))
    assert plan(wish(7_300.0, FUN, diarized=True)).part_seconds == 43_200


@pytest.mark.parametrize(
    ("asked", "options", "mode", "reason"),
    [
        (FLASH, {"timestamp_granularities": ["word"]}, "auto", "the times of words"),
        (FLASH, {"channel_id": [0, 1]}, "sync", "channels one by one"),
        (FLASH, {}, "async", "`mode=async`"),
        (AUDIO_30, {"diarization_enabled": True}, "auto", "speakers apart"),
    ],
)
def test_the_task_variant_does_what_the_first_cannot(
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
            "telling speakers apart is what fun-asr does for qwen3-asr-flash",
        ),
        (AUDIO_30, {"diarization_enabled": True}, [AUDIO_30.task_model], "telling speakers apart"),
        (QWEN3, {"diarization_enabled": True}, [], ""),
    ],
)
def test_speakers_may_be_another_sisters(
    asked: Any, options: dict[str, Any], names: list[str], reason: str
) -> None:
    wished = Options(**options)
    assert list(task_variants_of(asked, wished)) == names
    if reason:
        model, reason = select_model(asked, CATALOGUE.find(names[0]), wished, mode="auto")
        assert (model.name, reason.startswith(reason)) == (names[0], True)


@pytest.mark.parametrize(
    ("asked", "options", "mode"),
    [
        (FLASH, {}, "auto"),
        (FLASH, {}, "sync"),
        (FLASH, {"timestamp_granularities": ["word"]}, "stream"),
        (FLASH, {"diarization_enabled": True}, "stream"),
        (AUDIO_30, {"timestamp_granularities": ["word"]}, "auto"),  # it can by itself
    ],
)
def test_else_the_model_that_was_asked_for_does_it(
    asked: Any, options: dict[str, Any], mode: str
) -> None:
    sister = CATALOGUE.find(asked.task_model)
    assert select_model(asked, sister, Options(**options), mode=mode) == (asked, "")
