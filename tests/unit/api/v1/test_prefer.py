"""The Prefer header of RFC 7240, and Preference-Applied in the answer.

Covers: app.api.v1.request.prefer, app.audio.intake.receive, app.speech.options
"""

import pytest

from app.api.v1.request.prefer import Preference, apply_accept, preference_of
from app.audio.intake.receive import Received
from app.errors import InvalidParameter
from app.speech.options import parse_options


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], Preference()),
        (["respond-async"], Preference(respond_async=True)),
        (["Respond-Async, WAIT=10"], Preference(respond_async=True, wait=10)),
        (["wait=0", "respond-async"], Preference(respond_async=True, wait=0)),
        (['wait="30"'], Preference(wait=30)),
        (["wait = 30 ; foo=bar"], Preference(wait=30)),
        (["handling=lenient, return=minimal; x, wait=3600"], Preference(wait=3600)),
        (["wait=5, wait=900"], Preference(wait=5)),
        (['foo="respond-async, wait=9"'], Preference()),
        (["priority=5"], Preference()),
        ([""], Preference()),
    ],
)
def test_preferences_are_parsed(headers: list[str], found: Preference) -> None:
    assert preference_of(headers) == found


@pytest.mark.parametrize("value", ["3601", "-1", "1.5", "soon", "", "9" * 30])
def test_an_invalid_wait_is_an_error(value: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        preference_of([f"respond-async, wait={value}"])
    assert caught.value.members == {"parameter": "Prefer"}
    assert "from 0 to 3600" in caught.value.detail


@pytest.mark.parametrize(
    ("header", "body", "applied"),
    [
        ("respond-async", {}, "respond-async"),
        ("respond-async", {"mode": "async"}, "respond-async"),
        ("respond-async", {"mode": "sync"}, None),
        ("wait=10", {}, "wait=10"),
        ("wait=10", {"wait": 3}, None),
        ("wait=10", {"mode": "async"}, None),
        ("respond-async, wait=10", {}, "respond-async, wait=10"),
        ("return=minimal", {}, None),
    ],
)
def test_preference_applied_names_the_used_preferences(
    header: str, body: dict[str, str], applied: str | None
) -> None:
    preference = preference_of([header])
    options, _ = parse_options(body, preference.options)
    assert preference.applied(options).get("Preference-Applied") == applied


@pytest.mark.parametrize(
    ("accept", "options", "mode"),
    [
        (["text/event-stream"], {}, "stream"),
        (["application/json", "Text/Event-Stream ; q=0.5"], {}, "stream"),
        (["text/event-stream; q=0.001, */*"], {"mode": ["auto"], "async": ""}, "stream"),
        (["text/event-stream;q=0"], {}, None),
        (["text/event-stream ; q=0.000 ;x=1, application/json"], {}, None),
        (["text/event-streams, application/json;x=text/event-stream"], {}, None),
        (["*/*"], {}, None),
        ([], {}, None),
        (["text/event-stream"], {"mode": "sync"}, "sync"),
        (["text/event-stream"], {"async": "true"}, None),
        (["text/event-stream"], {"async": [True]}, None),
    ],
)
def test_the_media_type_of_accept_selects_a_stream(
    accept: list[str], options: dict[str, object], mode: str | None
) -> None:
    received = apply_accept(accept, Received(options, None))
    assert received.options.get("mode") == mode
    assert {**options, **received.options} == dict(received.options)
