"""OpenAI-compatible servers such as vLLM: both APIs, languages, and the error table.

Covers: app.speech.engines.openai.engine, app.speech.engines.openai.errors,
app.speech.engines.http.qwen_output, app.speech.engines.http.provider_account
"""

import email.parser
import email.policy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.net.rate_limiter import MemorySlots, RateLimiter
from app.settings import OpenAISettings
from app.speech.engine import (
    Billed,
    DeltaSink,
    EncodedAudio,
    EngineAnswer,
    EngineError,
    EngineRequest,
    ErrorKind,
)
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.provider_account import ProviderAccount, openai_account
from app.speech.engines.http.qwen_output import parse_output
from app.speech.engines.http.wire_format import CUT_AT_LENGTH
from app.speech.engines.openai.engine import Api, openai_engine
from tests.support.chunked_reply import streams
from tests.support.stub_server import ReceivedRequest, Reply, answers, upstream

pytestmark = pytest.mark.anyio
MODEL = "Qwen/Qwen3-ASR-1.7B"
FLAC = b"fLaC" + bytes(range(256)) * 1_000
SOUND = EncodedAudio(FLAC, "flac", 1_000)


def chat(content: Any, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message, **choice}],
        "usage": {"prompt_tokens": 42, "completion_tokens": 12, "total_tokens": 54},
    }


async def ask(
    form: Api,
    reply: Reply,
    sound: EncodedAudio = SOUND,
    on_delta: DeltaSink | None = None,
    **fields: Any,
) -> tuple[EngineAnswer, ReceivedRequest]:
    async with upstream(reply) as there:
        engine = openai_engine(
            ProviderAccount("self-hosted", there.url, ""),
            [MODEL],
            form,
            CallAdmission("openai", RateLimiter(MemorySlots()), {}),
            timeout_seconds=9,
        )
        await engine.open()
        request = EngineRequest(audio=sound, model=MODEL, deadline_seconds=5, **fields)
        try:
            async with engine.admit(MODEL, 5):
                return await engine.transcribe(request, on_delta), there.asked[0]
        finally:
            await engine.close()


async def test_a_chat_reports_the_detected_language() -> None:
    raw = "language Chinese<asr_text>欢迎使用。"
    answer, asked = await ask("chat", answers(chat(raw)), context="Ada")
    assert (answer.text, answer.language) == ("欢迎使用。", "zh")
    assert (answer.usage.seconds, answer.usage.input_tokens, answer.usage.output_tokens) == (
        None,
        42,
        12,
    )
    assert asked.path == "/v1/chat/completions"
    assert "authorization" not in asked.headers
    assert asked.sound == FLAC
    system, user = asked.json["messages"]
    assert system == {"role": "system", "content": "Ada"}
    assert user["content"][0]["type"] == "audio_url"
    assert "continue_final_message" not in asked.json


async def test_a_language_is_forced_by_the_beginning_of_the_output() -> None:
    answer, asked = await ask("chat", answers(chat("Hello.")), language="en")
    assert (answer.text, answer.language) == ("Hello.", "en")
    begun = {"role": "assistant", "content": "language English<asr_text>"}
    assert asked.json["messages"][-1] == begun
    assert asked.json["continue_final_message"] is True


async def test_a_chat_cut_at_the_output_limit_has_a_warning() -> None:
    answer, _ = await ask("chat", answers(chat("a", finish_reason="length")))
    assert answer.warnings == (CUT_AT_LENGTH,)


async def test_a_transcription_is_requested_with_a_form() -> None:
    reply = answers({"text": " Hello. ", "usage": {"type": "duration", "seconds": 3}})
    answer, asked = await ask("transcriptions", reply, language="en", context="Ada 洛")
    assert (answer.text, answer.language, answer.usage.seconds) == ("Hello.", "en", 3)
    assert asked.path == "/v1/audio/transcriptions"
    head = b"Content-Type: " + asked.headers["content-type"].encode() + b"\r\n\r\n"
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + asked.body)
    parts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in form.iter_parts()
    }
    assert parts == {
        "model": MODEL.encode(),
        "response_format": b"json",
        "language": b"en",
        "prompt": "Ada 洛".encode(),
        "file": FLAC,
    }


async def test_audio_sent_as_received_has_its_own_format() -> None:
    mp3 = EncodedAudio(FLAC, "mp3", 1_000)
    _, asked = await ask("transcriptions", answers({"text": "Hello."}), mp3)
    assert b'filename="part.mp3"\r\nContent-Type: audio/mpeg\r\n' in asked.body
    _, asked = await ask("chat", answers(chat("Hello.")), mp3)
    (user,) = asked.json["messages"]
    assert user["content"][0]["audio_url"]["url"].startswith("data:audio/mpeg;base64,")


@pytest.mark.parametrize("form", ["chat", "transcriptions"])
@pytest.mark.parametrize(
    ("status", "kind", "billed", "retryable"),
    [
        ("400 Bad", ErrorKind.REJECTED, Billed.NO, False),
        ("401 No", ErrorKind.ACCOUNT, Billed.NO, False),
        ("404 Not", ErrorKind.ACCOUNT, Billed.NO, False),
        ("429 Slow", ErrorKind.RATE_LIMITED, Billed.NO, True),
        ("500 Oops", ErrorKind.INTERNAL, Billed.NO, True),
        ("503 Away", ErrorKind.UNAVAILABLE, Billed.NO, True),
        ("200 OK", ErrorKind.MALFORMED, Billed.MAYBE, True),
    ],
)
async def test_errors_of_vllm(
    form: Api, status: str, kind: ErrorKind, billed: Billed, *, retryable: bool
) -> None:
    error = {"message": "canary", "type": "SomeError", "param": None, "code": int(status[:3])}
    with pytest.raises(EngineError) as caught:
        await ask(form, answers({"error": error}, status))
    found = caught.value
    assert (found.kind, found.billed, found.retryable) == (kind, billed, retryable)
    assert "canary" not in found.log


@pytest.mark.parametrize(
    ("raw", "text", "language"),
    [
        ("language English<asr_text>Hello world.", "Hello world.", "en"),
        ("language None<asr_text>", "", None),
        ("language Chinese,English<asr_text>a", "a", "zh"),
        ("language Klingon<asr_text>a", "a", None),
        ("system\nlanguage French<asr_text>a", "a", "fr"),
        ("plain text", "plain text", None),
        ("", "", None),
        ("language English<asr_text>a<asr_text>b", "a<asr_text>b", "en"),
    ],
)
def test_output_of_the_weights(raw: str, text: str, language: str | None) -> None:
    assert parse_output(raw) == (text, language)


@given(st.text())
def test_any_output_is_parsed(raw: str) -> None:
    text, _ = parse_output(raw)
    assert text in raw


def test_the_address_may_end_with_the_version() -> None:
    for url in ("http://x:1", "http://x:1/", "http://x:1/v1", "http://x:1/v1/"):
        assert openai_account(OpenAISettings.model_validate({"base_url": url})).base_url == (
            "http://x:1"
        )


def refusal(status: int, **members: Any) -> Reply:
    named = {"message": "canary", "type": None, "param": None, "code": None, **members}
    return answers({"error": named}, f"{status} Error")


@pytest.mark.parametrize("form", ["chat", "transcriptions"])
@pytest.mark.parametrize(
    ("status", "members", "kind", "retryable"),
    [
        # OpenAI: the account has no money or quota left. DashScope: too many tokens a minute.
        (429, {"code": "insufficient_quota"}, ErrorKind.ACCOUNT, False),
        (429, {"type": "insufficient_quota"}, ErrorKind.ACCOUNT, False),
        (429, {"code": "billing_hard_limit_reached"}, ErrorKind.ACCOUNT, False),
        (429, {"code": "rate_limit_exceeded", "type": "requests"}, ErrorKind.RATE_LIMITED, True),
        (400, {"code": "model_not_found"}, ErrorKind.ACCOUNT, False),
        (409, {"type": "conflict_error"}, ErrorKind.UNAVAILABLE, True),
        (413, {"type": "invalid_request_error"}, ErrorKind.REJECTED, False),
        (422, {"type": "UnprocessableEntityError", "code": 422}, ErrorKind.REJECTED, False),
        (502, {"type": "BadGateway"}, ErrorKind.UNAVAILABLE, True),
        (503, {"type": "overloaded_error"}, ErrorKind.UNAVAILABLE, True),
        # Codes of DashScope have no meaning here: the status decides.
        (400, {"code": "Throttling"}, ErrorKind.REJECTED, False),
        (400, {"code": "ModelUnavailable"}, ErrorKind.REJECTED, False),
        (500, {"code": "Arrearage"}, ErrorKind.INTERNAL, True),
        (500, {"code": "ASR_RESPONSE_HAVE_NO_WORDS"}, ErrorKind.INTERNAL, True),
    ],
)
async def test_errors_are_classified_by_the_table_of_the_openai_protocol(
    form: Api, status: int, members: dict[str, Any], kind: ErrorKind, *, retryable: bool
) -> None:
    with pytest.raises(EngineError) as caught:
        await ask(form, refusal(status, **members))
    found = caught.value
    assert (found.kind, found.retryable, found.billed) == (kind, retryable, Billed.NO)
    assert "canary" not in found.log


@pytest.mark.parametrize("status", [408, 504])
async def test_a_timeout_may_have_been_billed(status: int) -> None:
    with pytest.raises(EngineError) as caught:
        await ask("chat", refusal(status))
    found = caught.value
    assert (found.kind, found.retryable, found.billed) == (ErrorKind.TIMEOUT, True, Billed.MAYBE)


@pytest.mark.parametrize("code", ["content_policy_violation", "content_filter"])
async def test_rejected_content_is_not_a_matter_of_the_audio_format(code: str) -> None:
    with pytest.raises(EngineError) as caught:
        await ask("chat", refusal(400, code=code))
    assert (caught.value.kind, caught.value.format_rejected) == (ErrorKind.REJECTED, False)
    with pytest.raises(EngineError) as caught:
        await ask("chat", refusal(400, code="unsupported_format"))
    assert caught.value.format_rejected


@pytest.mark.parametrize(
    ("body", "billed"),
    [
        ({"error": {"message": "m", "type": "server_error"}}, Billed.NO),
        ({"object": "error", "message": "m", "type": "InternalServerError"}, Billed.NO),
        (b"<html>Bad gateway</html>", Billed.MAYBE),
        ({"message": "no upstream"}, Billed.MAYBE),
    ],
)
async def test_a_5xx_without_an_error_envelope_may_have_been_billed(
    body: Any, billed: Billed
) -> None:
    with pytest.raises(EngineError) as caught:
        await ask("chat", answers(body, "502 Bad"))
    assert (caught.value.kind, caught.value.billed) == (ErrorKind.UNAVAILABLE, billed)


@pytest.mark.parametrize(
    ("error", "kind", "retryable", "billed"),
    [
        ({"type": "InternalServerError", "code": 500}, ErrorKind.INTERNAL, True, Billed.MAYBE),
        ({"type": "server_error", "code": None}, ErrorKind.INTERNAL, True, Billed.MAYBE),
        ({"type": "something_new"}, ErrorKind.INTERNAL, True, Billed.MAYBE),
        ({"type": "BadRequestError", "code": 400}, ErrorKind.REJECTED, False, Billed.NO),
        ({"type": "invalid_request_error"}, ErrorKind.REJECTED, False, Billed.NO),
        ({"type": "rate_limit_error"}, ErrorKind.RATE_LIMITED, True, Billed.NO),
        ({"code": "insufficient_quota"}, ErrorKind.ACCOUNT, False, Billed.NO),
    ],
)
async def test_an_error_inside_a_stream_is_classified_by_its_code_or_type(
    error: dict[str, Any], kind: ErrorKind, billed: Billed, *, retryable: bool
) -> None:
    frame = json.dumps({"error": {"message": "canary", **error}})
    with pytest.raises(EngineError) as caught:
        await ask("chat", streams([f"data: {frame}\n\n".encode()]), on_delta=list[str]().append)
    found = caught.value
    assert (found.kind, found.retryable, found.billed) == (kind, retryable, billed)
    assert "canary" not in found.log
