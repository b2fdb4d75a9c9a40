"""No option is ignored in silence: the model supports it, or there is a warning.

Covers: app.speech.planning.fit_options
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from app.errors import ContextTooLong, OptionNotSupported
from app.speech.catalogue import CatalogueModel, load_catalogue
from app.speech.engine import EncodedAudio, EngineRequest
from app.speech.engines.dashscope.sync_requests import input_audio_request, qwen3_request
from app.speech.engines.dashscope.task_requests import file_url_request, file_urls_request
from app.speech.engines.http.json_body import AUDIO_MARK
from app.speech.options import Options, parse_options
from app.speech.planning.fit_options import (
    MODEL_OPTIONS,
    ModelRequest,
    estimate_tokens,
    fit_options,
    sample_rate_warning,
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


def test_supported_options_are_passed_on() -> None:
    asked = read(language="zh-CN", context="Ada", timestamp_granularities=["word"], enable_lid=True)
    fitted = fit_options(asked, BASE)
    assert (fitted.language, fitted.context, fitted.word_timestamps) == ("zh", "Ada", True)
    assert dict(fitted.options) == {"enable_lid": True}
    assert fitted.warnings == ()


def test_each_unsupported_option_is_a_warning() -> None:
    asked = read(enable_itn=False, language="xx", timestamp_granularities="word")
    warnings = fit_options(asked, PLAIN, ["temprature"]).warnings
    assert [(w["code"], w["option"]) for w in warnings] == [
        ("unknown_option", "temprature"),
        ("option_ignored", "enable_itn"),
        ("option_ignored", "timestamp_granularities"),
        ("option_ignored", "language"),
    ]
    assert fit_options(asked, PLAIN).language is None
    assert not fit_options(asked, PLAIN).word_timestamps


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        ({"diarization_enabled": True}, "`diarization_enabled`; fun-asr does."),
        ({"channel_id": [0, 1]}, "`channel_id`; fun-asr does."),
        ({"timestamp_granularities": "word"}, "the times of words; local/base does."),
        ({"enable_itn": True}, "does not support `enable_itn`."),
    ],
)
def test_a_warning_names_the_first_model_that_supports_the_option(
    raw: dict[str, Any], detail: str
) -> None:
    others = [BASE, CATALOGUE.find("fun-asr"), CATALOGUE.find("fun-asr-mtl")]
    (warning,) = fit_options(read(**raw), PLAIN, others=lambda: others).warnings
    assert warning["detail"].endswith(detail)


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


def test_segment_times_are_always_given_and_never_a_warning() -> None:
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
def test_hints_become_the_language_or_the_hints_of_the_engine(
    model: CatalogueModel, raw: dict[str, Any], language: str | None, hints: Any, warned: list[str]
) -> None:
    fitted = fit_options(read(**raw), model)
    assert fitted.language == language
    assert fitted.options.get("language_hints") == hints
    assert [w["option"] for w in fitted.warnings] == warned


def test_the_error_of_a_long_context_has_both_numbers() -> None:
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


# The service's documents for each option and family. "sent": the option is in the request;
# "always": the service does it without being asked; "warning": it is not supported;
# "unverified": it is sent, with a warning, as the documents do not mention it.
W, A, S, G = "sent", "always", "warning", "unverified"
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
    "speaker_count": (2, S, S, S, S, S, S, S),  # without diarization_enabled; see below
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


def body_of(model: CatalogueModel, fitted: ModelRequest) -> str:
    """Return the body of the request to the service."""
    if model.is_task:
        order = TaskRequest(
            model.upstream_model,
            "https://x/a.mp3",
            fitted.language,
            fitted.context,
            word_timestamps=fitted.word_timestamps,
            options=fitted.options,
        )
        return json.dumps(
            (file_url_request if model.wire == "file-url" else file_urls_request)(order)
        )
    request = EngineRequest(
        audio=EncodedAudio(b"", "flac", 0),
        model=model.upstream_model,
        deadline_seconds=1,
        language=fitted.language,
        context=fitted.context,
        word_timestamps=fitted.word_timestamps,
        options=fitted.options,
    )
    ask = qwen3_request if model.wire == "qwen3" else input_audio_request
    return json.dumps(ask(request)).replace(AUDIO_MARK, "")


def test_the_matrix_has_all_options_of_models() -> None:
    assert set(MATRIX) == set(MODEL_OPTIONS)


@pytest.mark.parametrize("option", MATRIX)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_option_is_sent_or_is_a_warning(option: str, family: str) -> None:
    value, *results = MATRIX[option]
    result = results[FAMILIES.index(family)]
    model = CATALOGUE.find(family)
    fitted = fit_options(read(**{option: value}), model)
    assert [w["option"] for w in fitted.warnings] == ([option] if result in {S, G} else [])
    is_sent = body_of(model, fitted) != body_of(model, fit_options(Options(), model))
    assert is_sent is (result in {W, G})
    if result == S:
        with pytest.raises(OptionNotSupported):
            fit_options(read(strict=True, **{option: value}), model)


def test_the_speaker_count_is_sent_with_diarization() -> None:
    fitted = fit_options(read(diarization_enabled=True, speaker_count=2), CATALOGUE.find("fun-asr"))
    assert dict(fitted.options) == {"diarization_enabled": True, "speaker_count": 2}
    assert fitted.warnings == ()


def test_snapshots_support_the_options_of_their_model() -> None:
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
def test_enable_itn_has_an_effect_in_two_languages_only(
    raw: dict[str, Any], warned: list[str]
) -> None:
    fitted = fit_options(read(**raw), FLASH)
    assert [w["option"] for w in fitted.warnings] == warned
    assert ("enable_itn" in fitted.options) is not bool(warned)


@dataclass(frozen=True)
class Found:
    sample_rate: int
    codec: str = "mp3"


@pytest.mark.parametrize(
    ("requested", "probed", "codes"),
    [
        (None, Found(8_000), []),
        (8_000, Found(8_000), []),
        (16_000, Found(8_000), ["sample_rate_differs"]),
        (16_000, Found(48_000, "opus"), []),
    ],
)
def test_the_sample_rate_is_compared_with_that_of_the_file(
    requested: int | None, probed: Found, codes: list[str]
) -> None:
    warning = sample_rate_warning(requested, probed, strict=False)
    assert ([warning["code"]] if warning else []) == codes
    if codes:
        with pytest.raises(OptionNotSupported):
            sample_rate_warning(requested, probed, strict=True)
    else:
        assert sample_rate_warning(requested, probed, strict=True) is None
