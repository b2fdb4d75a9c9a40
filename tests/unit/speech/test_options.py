"""Options are read alike from a form and from JSON, and nothing asked is dropped in silence."""

from typing import Any

import pytest

from app.errors import ContextTooLong, InvalidParameter, OptionNotSupported
from app.speech.catalogue import Model, load_catalogue
from app.speech.options import Options, estimate_tokens, fit, parse_options

BASE = load_catalogue().find("local/base")
ENGLISH = load_catalogue().find("local/tiny.en")
PLAIN = BASE.model_copy(update={"options": frozenset({"language"}), "word_times": False})


def read(**raw: Any) -> Options:
    options, unknown = parse_options(raw)
    assert unknown == []
    return options


def test_a_form_and_json_ask_the_same() -> None:
    form = read(
        enable_itn="yes",
        strict="1",
        wait="30",
        sample_rate=["16000"],
        language_hints="zh, en",
        timestamp_granularities=["segment", "word"],
        metadata='{"team": "a"}',
    )
    json = read(
        enable_itn=True,
        strict=True,
        wait=30,
        sample_rate=16000,
        language_hints=["zh", "en"],
        timestamp_granularities=["segment", "word"],
        metadata={"team": "a"},
    )
    assert form == json


def test_empty_fields_count_as_not_given() -> None:
    assert read(language="", metadata="", language_hints="", reference=[""], wait=None) == Options()


def test_openai_brackets_are_understood() -> None:
    options, _ = parse_options({"timestamp_granularities[]": ["word"]})
    assert options.timestamp_granularities == ["word"]


def test_unknown_names_are_returned_shortened() -> None:
    _, unknown = parse_options({"temprature": 0, "x" * 500: 1})
    assert unknown == ["temprature", "x" * 60]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "m" * 101),
        ("model", 5),
        ("model", ["a", "b"]),
        ("language", "english"),
        ("language", "en\n"),
        ("language_hints", ["zh"] * 5),
        ("language_hints", ["??"]),
        ("language_hints", [{}]),
        ("context", "c" * 40_001),
        ("context", "a\x00b"),
        ("enable_itn", "maybe"),
        ("enable_lid", []),
        ("enable_lid", [True, False]),
        ("sample_rate", 0),
        ("sample_rate", 384_001),
        ("sample_rate", True),
        ("vocabulary_id", "v" * 201),
        ("disfluency_removal_enabled", 7),
        ("timestamp_granularities", ["char"]),
        ("mode", "async"),
        ("wait", -1),
        ("wait", "3601"),
        ("wait", "soon"),
        ("strict", "perhaps"),
        ("include", "all"),
        ("reference", "r" * 201),
        ("reference", "\ud800"),
        ("metadata", "{not json"),
        ("metadata", "[" * 100_000),
        ("metadata", '["a"]'),
        ("metadata", {"a": 1}),
        ("metadata", {"k" * 65: "v"}),
        ("metadata", {"k": "v" * 501}),
        ("metadata", {str(i): "v" for i in range(17)}),
    ],
)
def test_a_wrong_value_is_named_with_what_is_taken_and_not_repeated(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_options({name: value})
    assert caught.value.members == {"parameter": name}
    assert caught.value.detail.startswith(f"`{name}` takes ")
    assert len(caught.value.detail) < 120


def test_every_option_says_what_it_takes_and_is_described() -> None:
    for name, field in Options.model_fields.items():
        assert field.description, name
        assert field.examples or name == "model", name
        with pytest.raises(InvalidParameter):
            parse_options({name: object()})


def test_what_the_model_honours_reaches_it() -> None:
    asked = read(language="zh-CN", context="Ada", timestamp_granularities=["word"], enable_lid=True)
    fitted = fit(asked, BASE)
    assert (fitted.language, fitted.context, fitted.words) == ("zh", "Ada", True)
    assert dict(fitted.options) == {"enable_lid": True}
    assert fitted.warnings == ()


def test_what_it_cannot_honour_is_a_warning_each() -> None:
    asked = read(enable_itn=False, sample_rate=8000, language="xx", timestamp_granularities="word")
    warnings = fit(asked, PLAIN, ["temprature"]).warnings
    assert [(w["code"], w["option"]) for w in warnings] == [
        ("unknown_option", "temprature"),
        ("option_ignored", "enable_itn"),
        ("option_ignored", "sample_rate"),
        ("option_ignored", "timestamp_granularities"),
        ("option_ignored", "language"),
    ]
    assert fit(asked, PLAIN).language is None
    assert not fit(asked, PLAIN).words


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
        fit(read(strict=True, **raw), BASE, unknown)
    assert caught.value.members["parameter"] == parameter


def test_segment_times_are_always_given_so_asking_for_them_is_no_warning() -> None:
    assert fit(read(timestamp_granularities=["segment"], strict=True), PLAIN).warnings == ()


@pytest.mark.parametrize(
    ("model", "raw", "language", "hints", "warned"),
    [
        (BASE, {"language_hints": ["zh-CN"]}, "zh", None, []),
        (BASE, {"language_hints": ["zh", "EN", "en"]}, None, ["zh", "en"], []),
        (BASE, {"language_hints": ["xx", "en"]}, "en", None, ["language_hints"]),
        (BASE, {"language_hints": ["zh"], "language": "en"}, "en", None, []),
        (PLAIN, {"language_hints": ["zh", "en"]}, "zh", None, ["language_hints"]),
        (ENGLISH, {"language": "EN"}, "en", None, []),
        (ENGLISH, {"language": "zh"}, None, None, ["language"]),
    ],
)
def test_hints_become_the_language_or_the_choice(
    model: Model, raw: dict[str, Any], language: str | None, hints: Any, warned: list[str]
) -> None:
    fitted = fit(read(**raw), model)
    assert fitted.language == language
    assert fitted.options.get("language_hints") == hints
    assert [w["option"] for w in fitted.warnings] == warned


def test_a_context_that_is_too_long_is_told_both_figures() -> None:
    with pytest.raises(ContextTooLong) as caught:
        fit(read(context="词" * 224), BASE)
    assert caught.value.members == {"parameter": "context", "tokens": 224, "max_tokens": 223}
    assert "224" in caught.value.detail
    assert "223" in caught.value.detail


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("a b c", 3), ("abcde", 2), ("你好", 2), ("カナ한국", 4), ("用Python3", 3)],
)
def test_tokens_are_estimated_by_script(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens
