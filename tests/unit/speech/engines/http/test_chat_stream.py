"""A streamed chat completion is the whole text, or an error.

Covers: app.speech.engines.http.chat_stream, app.speech.engines.dashscope.omni
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.net.http.event_stream import EventStreamReader
from app.net.http.exchange import Answer
from app.speech.engine import Billed, EngineAnswer, EngineError, EngineRequest, ErrorKind, Pcm
from app.speech.engines.dashscope.omni import OmniStream
from app.speech.engines.http.failures import malformed_response

USAGE = {
    "prompt_tokens": 90,
    "completion_tokens": 7,
    "prompt_tokens_details": {"audio_tokens": 25, "text_tokens": 65},
}


def chunk(content: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return {"id": "chatcmpl-r1", "choices": [choice], "usage": None, **more}


WHOLE = [
    chunk(""),
    chunk("欢迎"),
    chunk(" 使用 "),
    chunk(None, "stop"),
    chunk(choices=[], usage=USAGE),
]


def stream(chunks: list[dict[str, Any]], end: str = "data: [DONE]\n\n") -> bytes:
    frames = (f"data: {json.dumps(one, ensure_ascii=False)}\n\n" for one in chunks)
    return ("".join(frames) + end).encode()


def read_stream(
    body: bytes, headers: dict[str, str], *, language: str | None = None
) -> EngineAnswer:
    """Read a stream as the engine does, in one chunk."""
    told: list[str] = []
    gathering = OmniStream(EngineRequest(Pcm(b""), "m", 1.0, language), told.append)
    reader = EventStreamReader()
    for event in reader.feed(body):
        if not gathering.is_complete:
            gathering.take(event)
    if not gathering.is_complete and not reader.is_between_events:
        raise malformed_response("inside an event")
    answer = gathering.answer(Answer(200, headers, b"", was_streamed=True))
    assert "".join(told).strip() == answer.text
    return answer


def failure(body: bytes) -> EngineError:
    with pytest.raises(EngineError) as caught:
        read_stream(body, {})
    return caught.value


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_all_deltas_are_the_text_and_the_last_usage_counts(newline: bytes) -> None:
    answer = read_stream(stream(WHOLE).replace(b"\n", newline), {}, language="zh")
    assert (answer.text, answer.language, answer.request_id) == ("欢迎 使用", "zh", "r1")
    usage = answer.usage
    assert (usage.input_tokens, usage.text_tokens, usage.output_tokens) == (90, 65, 7)
    assert (usage.seconds, usage.raw) == (None, USAGE)


def test_the_request_id_of_the_header_is_preferred() -> None:
    assert read_stream(stream(WHOLE), {"x-request-id": "r2"}).request_id == "r2"


def test_reasoning_and_comments_are_not_text() -> None:
    thought = chunk()
    thought["choices"][0]["delta"]["reasoning_content"] = "Let me listen."
    body = b": heartbeat\n\nevent: message\nid: 7\n" + stream([thought, *WHOLE])
    assert read_stream(body, {}).text == "欢迎 使用"


def test_a_stream_cut_at_the_output_limit_has_a_warning() -> None:
    cut = [chunk("a", "length"), chunk(choices=[], usage=USAGE)]
    assert read_stream(stream(cut), {}).warnings


@given(st.integers(0, len(stream(WHOLE)) - 3))
def test_a_stream_cut_anywhere_is_an_error_that_may_be_billed(length: int) -> None:
    error = failure(stream(WHOLE)[:length])
    assert (error.kind, error.billed, error.retryable) == (ErrorKind.MALFORMED, Billed.MAYBE, True)


@pytest.mark.parametrize("missing", [3, 4])
def test_a_stream_without_its_end_or_its_usage_is_an_error(missing: int) -> None:
    assert failure(stream(WHOLE[:missing] + WHOLE[missing + 1 :])).kind is ErrorKind.MALFORMED


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 3}, {"prompt_tokens": "3"}])
def test_a_usage_without_its_counts_is_an_error(usage: dict[str, Any]) -> None:
    assert (
        failure(stream([*WHOLE[:-1], chunk(choices=[], usage=usage)])).kind is ErrorKind.MALFORMED
    )


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ('event: error\ndata: {"code":"data_inspection_failed","message":"canary"}', "rejected"),
        ('data: {"error":{"code":"internal_error","message":"canary"}}', "internal"),
        ('data: {"error":{"code":"limit_requests","message":"canary"}}', "rate_limited"),
        ("data: <html>", "malformed"),
    ],
)
def test_an_error_in_a_stream_is_classified_by_its_code(frame: str, kind: str) -> None:
    error = failure(stream(WHOLE[:3], f"{frame}\n\n"))
    assert error.kind == kind
    assert "canary" not in error.log
