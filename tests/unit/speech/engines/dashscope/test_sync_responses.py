"""DashScope's JSON: every form that was seen is read, everything else is an EngineError.

Covers: app.speech.engines.dashscope.sync_responses, app.speech.engines.dashscope.errors,
app.speech.engines.http.failures
"""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.speech.engine import Billed, EngineError, EngineRequest, ErrorKind, Pcm
from app.speech.engines.dashscope.errors import dashscope_error
from app.speech.engines.dashscope.sync_responses import (
    CUT_AT_LENGTH,
    parse_input_audio,
    parse_qwen3,
    parse_usage,
)
from tests.support.stub_server import qwen3_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "output",
                    "choices",
                    "message",
                    "content",
                    "text",
                    "sentence",
                    "usage",
                    "words",
                    "annotations",
                    "seconds",
                    "duration",
                    "begin_time",
                    "end_time",
                    "request_id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": []}, ""),
        ({"content": [{"text": ""}]}, ""),
        ({"content": [{"text": "a"}, {"text": "b"}]}, "ab"),
        ({"content": "plain"}, "plain"),
    ],
)
def test_contents_of_the_qwen3_form(message: dict[str, Any], text: str) -> None:
    answer = parse_qwen3(encoded(qwen3_answer(message=message)))
    assert (answer.text, answer.language, answer.emotion) == (text, None, None)


def test_an_answer_cut_at_the_output_limit_has_a_warning() -> None:
    assert parse_qwen3(encoded(qwen3_answer(finish_reason="length"))).warnings == (CUT_AT_LENGTH,)
    assert parse_qwen3(encoded(qwen3_answer())).warnings == ()


REQUEST = EngineRequest(Pcm(b""), "m", 1.0, word_timestamps=True)
REQUEST = EngineRequest(Pcm(b""), "m", 1.0, word_timestamps=True)
SENTENCE = {"begin_time": 0, "end_time": 900, "text": "Hi.", "words": []}


@pytest.mark.parametrize(
    "body",
    [
        {"output": {"sentence": SENTENCE, "text": "Hi."}},
        {"output": {"sentence": SENTENCE}},
        {"output": {"output": {"sentence": SENTENCE}}},
        {"output": {"sentences": [SENTENCE], "text": "Hi."}},
        {"output": {}, "sentence": SENTENCE, "text": "Hi."},
        {"sentence": SENTENCE},
    ],
)
def test_places_of_text_in_the_input_audio_form(body: dict[str, Any]) -> None:
    answer = parse_input_audio(encoded(body), REQUEST)
    assert answer.text == "Hi."
    assert [(s.start, s.end, s.text) for s in answer.segments] == [(0, 0.9, "Hi.")]


def test_a_sentence_that_is_not_all_of_the_text_gives_no_times() -> None:
    body = {"output": {"sentence": SENTENCE, "text": "Before. Hi."}}
    assert parse_input_audio(encoded(body), REQUEST).segments == ()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"seconds": 1}, (1, 0, 0)),
        ({"duration": 2, "input_tokens": 245, "output_tokens": 35}, (2, 245, 35)),
        ({"audio_tokens": 752, "input_tokens": 783, "output_tokens": 7}, (None, 783, 7)),
        ({"output_tokens_details": {"text_tokens": 6}, "seconds": 0}, (0, 0, 6)),
        ({"seconds": -1, "input_tokens": True}, (None, 0, 0)),
        ({"seconds": "1"}, (None, 0, 0)),
        (None, (None, 0, 0)),
    ],
)
def test_usage_in_every_form(usage: Any, expected: tuple[Any, ...]) -> None:
    found = parse_usage(usage)
    assert (found.seconds, found.input_tokens, found.output_tokens) == expected


@given(JSON)
def test_any_json_is_an_answer_or_malformed(value: Any) -> None:
    for parse in (parse_qwen3, partial(parse_input_audio, request=REQUEST)):
        try:
            parse(encoded(value))
        except EngineError as error:
            assert (error.kind, error.billed) == (ErrorKind.MALFORMED, Billed.MAYBE)  # noqa: PT017


@given(st.binary())
def test_any_bytes_are_malformed(body: bytes) -> None:
    for parse in (parse_qwen3, partial(parse_input_audio, request=REQUEST)):
        with pytest.raises(EngineError):
            parse(body)


A, B, R, L = ErrorKind.ACCOUNT, ErrorKind.RATE_LIMITED, ErrorKind.REJECTED, ErrorKind.TIMEOUT
I, U, N = ErrorKind.INTERNAL, ErrorKind.UNAVAILABLE, ErrorKind.NETWORK  # noqa: E741


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidParameter", R),
        (400, "BadRequest.TooLarge", R),
        (400, "BadRequest.UnsupportedFileFormat", R),
        (400, "InvalidURL.Timeout", R),
        (400, "InvalidFile.AudioLengthError", R),
        (400, "AUDIO_DURATION_TOO_LONG", R),
        (400, "DataInspectionFailed", R),
        (400, "InvalidParameter.DataInspection", R),
        (400, "Arrearage", A),
        (400, "UnsupportedOperation", R),
        (400, "ClientDisconnect", N),
        (400, "Throttling.AllocationQuota", B),
        (400, "InternalError.Algo.InvalidParameter", R),
        (400, "", R),
        (401, "InvalidApiKey", A),
        (401, "invalid_api_key", A),
        (401, "NOT AUTHORIZED", A),
        (403, "AccessDenied", A),
        (403, "AccessDenied.Unpurchased", A),
        (403, "Model.AccessDenied", A),
        (403, "Workspace.AccessDenied", A),
        (403, "AllocationQuota.FreeTierOnly", A),
        (404, "ModelNotFound", A),
        (404, "model_not_supported", A),
        (409, "Conflict", R),
        (408, "", L),
        (429, "Throttling", B),
        (429, "Throttling.RateQuota", B),
        (429, "Throttling.BurstRate", B),
        (429, "limit_requests", B),
        (429, "insufficient_quota", B),
        (429, "", B),
        (429, "CommodityNotPurchased", A),
        (429, "PrepaidBillOverdue", A),
        (429, "PostpaidBillOverdue", A),
        (430, "Audio.Something", R),
        (500, "InternalError", I),
        (500, "InternalError.Algo", I),
        (500, "internal_error", I),
        (500, "SystemError", I),
        (500, "ModelServiceFailed", I),
        (500, "RequestTimeOut", L),
        (500, "InternalError.Timeout", L),
        (503, "ModelUnavailable", U),
        (503, "ModelServingError", U),
    ],
)
def test_every_code_has_its_kind_and_is_free(status: int, code: str, kind: ErrorKind) -> None:
    error = dashscope_error(status, {}, encoded({"code": code, "message": "canary"}))
    assert error.kind is kind
    assert error.retryable is (kind not in {A, R})
    assert error.billed is Billed.NO
    assert "canary" not in error.log


def test_a_server_error_without_an_envelope_may_have_been_billed() -> None:
    assert dashscope_error(502, {}, b"<html>").billed is Billed.MAYBE
    assert dashscope_error(400, {}, b"<html>").billed is Billed.NO


def test_the_openai_envelope_is_read_even_as_an_event() -> None:
    body = b'data: {"error":{"code":"invalid_api_key","message":"x"}}\n\n'
    assert dashscope_error(400, {}, body).kind is A


@given(st.integers(300, 599), st.binary() | JSON.map(encoded))
def test_any_error_is_classified(status: int, body: bytes) -> None:
    assert dashscope_error(status, {"retry-after": "x"}, body).kind in ErrorKind
