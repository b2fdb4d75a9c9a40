"""Options are read from a form as from JSON.

Covers: app.speech.options
"""

from typing import Any

import pytest

from app.errors import InvalidParameter
from app.speech.options import Options, parse_options


def read(**raw: Any) -> Options:
    options, unknown = parse_options(raw)
    assert unknown == []
    return options


def test_a_form_and_json_give_the_same_options() -> None:
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


def test_brackets_after_a_name_are_ignored() -> None:
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
        ("format", "mp3"),
        ("split", "on"),
        ("vocabulary_id", "v" * 201),
        ("disfluency_removal_enabled", 7),
        ("timestamp_granularities", ["char"]),
        ("mode", "whenever"),
        ("async", "later"),
        ("priority", 101),
        ("priority", "-101"),
        ("priority", True),
        ("priority", 1.5),
        ("on_disconnect", "wait"),
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
def test_an_error_names_the_option_and_its_allowed_values_but_not_the_value(
    name: str, value: Any
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_options({name: value})
    assert caught.value.members == {"parameter": name}
    assert caught.value.detail.startswith(f"`{name}` must be ")
    assert len(caught.value.detail) < 120


def test_every_option_is_described_and_has_allowed_values() -> None:
    for name, field in Options.model_fields.items():
        assert field.description, name
        assert field.examples or name == "model", name
        with pytest.raises(InvalidParameter):
            parse_options({field.alias or name: object()})


@pytest.mark.parametrize(
    ("sent", "mode"),
    [
        ({}, "auto"),
        ({"async": "true"}, "async"),
        ({"async": True, "mode": "async"}, "async"),
        ({"async": False}, "auto"),
        ({"async": "false", "mode": "sync"}, "sync"),
        ({"mode": "stream"}, "stream"),
    ],
)
def test_async_is_a_shorthand(sent: dict[str, Any], mode: str) -> None:
    assert parse_options(sent)[0].mode == mode


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ({"async": "true", "mode": "sync"}, "`async=true` contradicts `mode=sync`"),
        ({"async": True, "mode": "stream"}, "`async=true` contradicts `mode=stream`"),
        ({"async": False, "mode": "async"}, "`async=false` contradicts `mode=async`"),
    ],
)
def test_contradicting_modes_are_an_error(sent: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidParameter, match=detail) as caught:
        parse_options(sent)
    assert caught.value.members == {"parameter": "async"}


def test_preferred_values_are_used_where_the_request_gives_none() -> None:
    preferred = {"mode": "async", "wait": 5}
    assert parse_options({}, preferred)[0].mode == "async"
    assert parse_options({"mode": ""}, preferred)[0].mode == "async"
    assert parse_options({"mode": "sync"}, preferred)[0].mode == "sync"
    assert parse_options({"async": "false"}, preferred)[0].mode == "auto"
    assert parse_options({"wait": "7"}, preferred)[0].wait == 7
