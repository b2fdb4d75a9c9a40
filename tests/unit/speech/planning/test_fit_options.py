"""Nothing that was asked is dropped in silence: the model honours it, or the client is told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from app.errors import ContextTooLong, OptionNotSupported
from app.speech.catalogue import Model, load_catalogue
from app.speech.engine import Encoded, EngineRequest
from app.speech.engines.dashscope.sync_requests import input_audio_request, qwen3_request
from app.speech.engines.dashscope.task_requests import file_url_request, file_urls_request
from app.speech.engines.http.json_body import AudioPlaceholder
from app.speech.options import Options, parse_options
from app.speech.planning.fit_options import (
    MODEL_OPTIONS,
    ModelRequest,
    estimate_tokens,
    fit_options,
    rate_warning,
)
from app.speech.task_engine import TaskRequest

CATALOGUE = load_catalogue()
BASE = CATALOGUE.find("local/base")
ENGLISH = CATALOGUE.find("local/tiny.en")
FLASH = CATALOGUE.find("qwen3-asr-flash")
PLAIN = BASE.model_copy(update={"options": frozenset({"language"}), "word_times": False})


def read(**raw: Any) -> Options:
    options, unknown = parse_options(raw)
    assert unknown == []
    return options


def test_what_the_model_honours_reaches_it() -> None:
    asked = read(language="zh-CN", context="Ada", timestamp_granularities=["word"], enable_lid=True)
    fitted = fit_options(asked, BASE)
    assert (fitted.language, fitted.context, fitted.words) == ("zh", "Ada", True)
    assert dict(fitted.options) == {"enable_lid": True}
    assert fitted.warnings == ()


def test_what_it_cannot_honour_is_a_warning_each() -> None:
    asked = read(enable_itn=False, language="xx", timestamp_granularities="word")
    warnings = fit_options(asked, PLAIN, ["temprature"]).warnings
    assert [(w["code"], w["option"]) for w in warnings] == [
        ("unknown_option", "temprature"),
        ("option_ignored", "enable_itn"),
        ("option_ignored", "timestamp_granularities"),
        ("option_ignored", "language"),
    ]
    assert fit_options(asked, PLAIN).language is None
    assert not fit_options(asked, PLAIN).words


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"diarization_enabled": True}, "`diarization_enabled`; fun-asr does."),
        ({"channel_id": [0, 1]}, "`channel_id`; fun-asr does."),
        ({"timestamp_granularities": "word"}, "times of single words; local/base does."),
        ({"enable_itn": True}, "does not take `enable_itn`."),
    ],
)
def test_a_warning_names_the_first_other_model_that_can(raw: dict[str, Any], words: str) -> None:
    others = [BASE, CATALOGUE.find("fun-asr"), CATALOGUE.find("fun-asr-mtl")]
    (warning,) = fit_options(read(**raw), PLAIN, others=lambda: others).warnings
    assert warning["detail"].endswith(words)


@pytest.mark.parametrize(
    ("raw", "unknown", "parameter"),
    [
        ({"enable_itn": True}, [], "enable_itn"),
        ({"language": "xx"}, [], "language"),
        ({}, ["temprature"], "temprature"),
    ],
)
def test_strict_makes_a_warning_an_error(
    raw: dict[str, Any], unknown: list[str], parameter: str
) -> None:
    with pytest.raises(OptionNotSupported) as caught:
        fit_options(read(strict=True, **raw), BASE, unknown)
    assert caught.value.members["parameter"] == parameter


def test_segment_times_are_always_given_so_asking_for_them_is_no_warning() -> None:
    assert fit_options(read(timestamp_granularities=["segment"], strict=True), PLAIN).warnings == ()


@pytest.mark.parametrize(
    ("model", "raw", "language", "hints", "warned"),
    [
        (BASE, {"language_hints": ["zh-CN"]}, "zh", None, []),
        (BASE, {"language_hints": ["zh", "EN", "en"]}, None, ["zh", "en"], []),
        (BASE, {"language_hints": ["xx", "en"]}, "en", None, ["language_hints"]),
        (BASE, {"language_hints": ["zh"], "language": "en"}, "en", None, []),
        (PLAIN, {"language_hints": ["zh", "en"]}, None, None, ["language_hints"]),
        (ENGLISH, {"language": "EN"}, "en", None, []),
        (ENGLISH, {"language": "zh"}, None, None, ["language"]),
    ],
)
def test_hints_become_the_language_or_the_choice(
    model: Model, raw: dict[str, Any], language: str | None, hints: Any, warned: list[str]
) -> None:
    fitted = fit_options(read(**raw), model)
    assert fitted.language == language
    assert fitted.options.get("language_hints") == hints
    assert [w["option"] for w in fitted.warnings] == warned


def test_a_context_that_is_too_long_is_told_both_figures() -> None:
    with pytest.raises(ContextTooLong) as caught:
        fit_options(read(context="词" * 224), BASE)
    assert caught.value.members == {"parameter": "context", "tokens": 224, "max_tokens": 223}
    assert "224" in caught.value.detail
    assert "223" in caught.value.detail


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("a b c", 3), ("abcde", 2), ("你好", 2), ("カナ한국", 4), ("用Python3", 3)],
)
def test_tokens_are_estimated_by_script(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


# What the service documents for each option and family: "wire" is asked of it, "always" comes
# without being asked, "said" is a warning, "guess" is asked and a warning too: nothing proves it.
W, A, S, G = "wire", "always", "said", "guess"
MATRIX: Mapping[str, tuple[Any, ...]] = {
    # option: value; sync: qwen3, qwen-audio-3.0, fun-asr-flash;
    # tasks: qwen3, qwen-audio-3.0, fun-asr, paraformer-v2
    "language": ("zh", W, W, W, W, W, W, W),
    "language_hints": (["zh", "en"], S, W, S, S, W, S, W),
    "context": ("Ada", W, W, W, G, W, S, S),
    "enable_itn": (True, W, S, S, W, S, S, S),
    "enable_lid": (True, A, S, S, A, S, S, S),
    "vocabulary_id": ("vocab-1", S, W, W, S, W, W, W),
    "vocabulary": ({"Qwen": 4}, S, W, S, S, W, S, S),
    "diarization_enabled": (True, S, S, S, S, W, W, W),
    "speaker_count": (2, S, S, S, S, S, S, S),  # without the one before; see below
    "channel_id": ([0, 1], S, S, S, W, W, W, W),
    "special_word_filter": ({"system_reserved_filter": True}, S, S, S, S, W, W, W),
    "timestamp_alignment_enabled": (True, S, S, S, S, S, S, W),
    "disfluency_removal_enabled": (True, S, S, S, S, S, S, W),
    "timestamp_granularities": (["word"], S, A, A, W, A, A, A),
}
FAMILIES = (
    *("qwen3-asr-flash", "qwen-audio-3.0-asr-flash", "fun-asr-flash-2026-06-15"),
    *("qwen3-asr-flash-filetrans", "qwen-audio-3.0-asr-flash-filetrans", "fun-asr"),
    "paraformer-v2",
)


def asked_for(model: Model, fitted: ModelRequest) -> str:
    """Return the body that the service would get."""
    if model.is_task:
        order = TaskRequest(
            model.upstream_model,
            "https://x/a.mp3",
            fitted.language,
            fitted.context,
            words=fitted.words,
            options=fitted.options,
        )
        return json.dumps(
            (file_url_request if model.wire == "file-url" else file_urls_request)(order)
        )
    hole = AudioPlaceholder()
    request = EngineRequest(
        audio=Encoded(b"", "flac", 0),
        model=model.upstream_model,
        deadline_seconds=1,
        language=fitted.language,
        context=fitted.context,
        words=fitted.words,
        options=fitted.options,
    )
    ask = qwen3_request if model.wire == "qwen3" else input_audio_request
    return json.dumps(ask(request, hole)).replace(hole.mark, "")


def test_the_matrix_is_about_all_of_the_models_options() -> None:
    assert set(MATRIX) == set(MODEL_OPTIONS)


@pytest.mark.parametrize("option", MATRIX)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_option_goes_to_the_service_or_is_said_to_be_ignored(option: str, family: str) -> None:
    value, *fates = MATRIX[option]
    fate = fates[FAMILIES.index(family)]
    model = CATALOGUE.find(family)
    fitted = fit_options(read(**{option: value}), model)
    assert [w["option"] for w in fitted.warnings] == ([option] if fate in {S, G} else [])
    is_asked = asked_for(model, fitted) != asked_for(model, fit_options(Options(), model))
    assert is_asked is (fate in {W, G})
    if fate == S:
        with pytest.raises(OptionNotSupported):
            fit_options(read(strict=True, **{option: value}), model)


def test_speakers_are_counted_where_they_are_told_apart() -> None:
    fitted = fit_options(read(diarization_enabled=True, speaker_count=2), CATALOGUE.find("fun-asr"))
    assert dict(fitted.options) == {"diarization_enabled": True, "speaker_count": 2}
    assert fitted.warnings == ()


def test_snapshots_honour_what_their_model_does() -> None:
    for model in CATALOGUE.models.values():
        if model.wire == "qwen3":
            assert (model.options, model.accepts) == (FLASH.options, FLASH.accepts), model.name


@pytest.mark.parametrize(
    ("raw", "warned"),
    [
        ({"enable_itn": True, "language": "ja"}, ["enable_itn"]),
        ({"enable_itn": True, "language": "en-GB"}, []),
        ({"enable_itn": True}, []),
        ({"enable_itn": False, "language": "ja"}, []),
    ],
)
def test_figures_are_written_in_two_languages_only(raw: dict[str, Any], warned: list[str]) -> None:
    fitted = fit_options(read(**raw), FLASH)
    assert [w["option"] for w in fitted.warnings] == warned
    assert ("enable_itn" in fitted.options) is not bool(warned)


@dataclass(frozen=True)
class Found:
    sample_rate: int
    codec: str = "mp3"


@pytest.mark.parametrize(
    ("said", "found", "codes"),
    [
        (None, Found(8_000), []),
        (8_000, Found(8_000), []),
        (16_000, Found(8_000), ["sample_rate_differs"]),
        (16_000, Found(48_000, "opus"), []),
    ],
)
def test_a_sample_rate_is_compared_with_the_recordings(
    said: int | None, found: Found, codes: list[str]
) -> None:
    warning = rate_warning(said, found, strict=False)
    assert ([warning["code"]] if warning else []) == codes
    if codes:
        with pytest.raises(OptionNotSupported):
            rate_warning(said, found, strict=True)
    else:
        assert rate_warning(said, found, strict=True) is None
