"""DashScope's synchronous route: requests, answers, and every kind of failure.

Covers: app.speech.engines.dashscope.sync, app.speech.engines.dashscope.sync_requests,
app.speech.engines.http.engine, app.speech.engines.http.json_body,
app.speech.engines.http.json_reading
"""

import asyncio
import base64
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.net.rate_limiter import MemorySlots, RateLimiter
from app.speech.engine import (
    Billed,
    EncodedAudio,
    EngineAnswer,
    EngineError,
    EngineRequest,
    ErrorKind,
)
from app.speech.engines.dashscope.sync import dashscope_engine
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.engine import RemoteEngine
from app.speech.engines.http.json_body import (
    AUDIO_MARK,
    SLICE_BYTES,
    json_bytes,
    json_with_audio,
)
from app.speech.engines.http.json_reading import read_object
from app.speech.engines.http.provider_account import ProviderAccount
from tests.support.stub_server import (
    ReceivedRequest,
    Reply,
    Upstream,
    answers,
    qwen3_answer,
    refuses,
    socket_server,
    upstream,
)

pytestmark = pytest.mark.anyio
FLAC = bytes(range(256)) * 2_000
DEADLINE = 1.0


@asynccontextmanager
async def engine_at(url: str) -> AsyncIterator[RemoteEngine]:
    engine = dashscope_engine(
        ProviderAccount("cn-beijing", url, "sk-canary"),
        {"qwen3-asr-flash": "qwen3", "qwen-audio-3.0-asr-flash": "input-audio"},
        CallAdmission("dashscope/test", RateLimiter(MemorySlots()), {}),
        timeout_seconds=60,
    )
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def request(model: str = "qwen3-asr-flash", **fields: object) -> EngineRequest:
    audio = EncodedAudio(FLAC, "flac", 100)
    return EngineRequest(**{"audio": audio, "model": model, "deadline_seconds": DEADLINE} | fields)  # type: ignore[arg-type]


async def heard(reply: Reply, **fields: object) -> tuple[EngineAnswer, ReceivedRequest]:
    async with upstream(reply) as there, engine_at(there.url) as engine:
        return await engine.transcribe(request(**fields)), there.asked[-1]  # type: ignore[arg-type]


async def failure(reply: Reply, **fields: object) -> EngineError:
    async with upstream(reply) as there, engine_at(there.url) as engine:
        with pytest.raises(EngineError) as caught:
            await engine.transcribe(request(**fields))  # type: ignore[arg-type]
    assert "canary" not in caught.value.log
    return caught.value


async def test_a_request_in_the_qwen3_form() -> None:
    answer, asked = await heard(
        answers(qwen3_answer()), language="zh", context="Ada 洛夫莱斯", options={"enable_itn": True}
    )
    assert (answer.text, answer.language, answer.emotion) == ("欢迎使用阿里云。", "zh", "neutral")
    assert (answer.usage.seconds, answer.usage.output_tokens) == (2, 6)
    assert answer.usage.raw == qwen3_answer()["usage"]
    assert answer.request_id == "568e2bf0-d6f2-97f8-9f15-a57b11dc6977"
    assert asked.path == "/api/v1/services/aigc/multimodal-generation/generation"
    assert asked.headers["authorization"] == "Bearer sk-canary"
    assert asked.headers["content-type"] == "application/json"
    assert asked.sound == FLAC
    system, user = asked.json["input"]["messages"]
    assert system == {"role": "system", "content": [{"text": "Ada 洛夫莱斯"}]}
    assert user["content"][0]["audio"].startswith("data:audio/flac;base64,")
    assert asked.json["parameters"] == {
        "result_format": "message",
        "asr_options": {"language": "zh", "enable_itn": True},
    }


async def test_a_request_in_the_input_audio_form() -> None:
    word = {"begin_time": 0, "end_time": 160, "text": "欢", "punctuation": "。", "speaker_id": None}
    sentence = {"begin_time": 0, "end_time": 1680, "text": "欢。", "words": [word]}
    reply = {"output": {"sentence": sentence, "text": "欢。"}, "usage": {"duration": 2}}
    answer, asked = await heard(
        answers(reply),
        model="qwen-audio-3.0-asr-flash",
        language="zh",
        context="x" * 2_500,
        word_timestamps=True,
        options={"vocabulary_id": "vocab-1"},
    )
    assert (answer.text, answer.usage.seconds) == ("欢。", 2)
    (segment,) = answer.segments
    assert (segment.start, segment.end, segment.timing) == (0, 1.68, "upstream")
    assert [(w.text, w.end) for w in segment.words] == [("欢。", 0.16)]
    assert answer.warnings
    *earlier, last = asked.json["input"]["messages"]
    assert [len(message["content"][0]["text"]) for message in earlier] == [400] * 5
    assert last["content"][0]["input_audio"]["data"].startswith("data:audio/flac;base64,")
    assert asked.json["parameters"] == {
        "format": "flac",
        "sample_rate": "16000",
        "language_hints": ["zh"],
        "vocabulary_id": "vocab-1",
    }


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("mp3", "audio/mpeg"), ("wav", "audio/wav"), ("opus", "audio/ogg")],
)
async def test_audio_sent_as_received_has_its_own_format(form: str, media_type: str) -> None:
    sound = EncodedAudio(FLAC, form, 1_000)
    model = "qwen-audio-3.0-asr-flash"
    _, asked = await heard(answers({"output": {"text": "a"}}), model=model, audio=sound)
    (message,) = asked.json["input"]["messages"]
    assert asked.json["parameters"]["format"] == form
    assert message["content"][0]["input_audio"]["data"].startswith(f"data:{media_type};base64,")
    _, asked = await heard(answers(qwen3_answer()), audio=sound)
    (message,) = asked.json["input"]["messages"]
    assert message["content"][0]["audio"].startswith(f"data:{media_type};base64,")


@pytest.mark.parametrize(
    ("code", "format_rejected"),
    [("InvalidParameter", True), ("DataInspectionFailed", False), ("InvalidApiKey", False)],
)
async def test_a_rejection_says_whether_another_format_might_be_accepted(
    code: str, format_rejected: bool
) -> None:
    assert (await failure(refuses(code))).format_rejected is format_rejected


async def test_an_error_that_means_no_speech_is_an_empty_free_answer() -> None:
    answer, _ = await heard(refuses("ASR_RESPONSE_HAVE_NO_WORDS"), model="qwen-audio-3.0-asr-flash")
    assert (answer.text, answer.usage.seconds) == ("", 0)


async def test_a_part_that_is_too_large_encoded_is_never_sent() -> None:
    async with upstream(answers({})) as there, engine_at(there.url) as engine:
        with pytest.raises(EngineError) as caught:
            await engine.transcribe(request(audio=EncodedAudio(bytes(8 << 20), "flac", 100)))
    assert (caught.value.kind, there.asked) == (ErrorKind.REJECTED, [])


async def reset_before(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()


async def reset_after(asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.05)
    await reset_before(asked, writer)


async def close_before(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def cut_body(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"output":')
    await writer.drain()
    writer.close()


async def cut_without_length(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"output":')
    await writer.drain()
    writer.close()


async def garbage(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01 nothing like it\r\n\r\n")
    await writer.drain()
    writer.close()


async def silence(_asked: ReceivedRequest, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(10)


async def drip(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    for _ in range(100):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_head(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" * 10:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b" " * (1 << 20))
        await writer.drain()


async def cut_error(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 90\r\n\r\n{")
    await writer.drain()
    writer.close()


FAULTS = {
    "reset before the first byte": (reset_before, ErrorKind.NETWORK, Billed.MAYBE),
    "reset after it": (reset_after, ErrorKind.NETWORK, Billed.MAYBE),
    "closed without a word": (close_before, ErrorKind.NETWORK, Billed.MAYBE),
    "body cut short": (cut_body, ErrorKind.NETWORK, Billed.MAYBE),
    "JSON cut short": (cut_without_length, ErrorKind.MALFORMED, Billed.MAYBE),
    "not HTTP": (garbage, ErrorKind.NETWORK, Billed.MAYBE),
    "silence": (silence, ErrorKind.TIMEOUT, Billed.MAYBE),
    "body drips": (drip, ErrorKind.TIMEOUT, Billed.MAYBE),
    "head drips": (drip_head, ErrorKind.TIMEOUT, Billed.MAYBE),
    "a flood": (flood, ErrorKind.MALFORMED, Billed.MAYBE),
    "a page": (
        answers(b"<html>", content_type="text/html"),
        ErrorKind.MALFORMED,
        Billed.MAYBE,
    ),
    "another JSON": (answers([]), ErrorKind.MALFORMED, Billed.MAYBE),
    "429 cut short": (cut_error, ErrorKind.RATE_LIMITED, Billed.NO),
    "500 of DashScope": (
        refuses("InternalError.Algo", "500 Oops"),
        ErrorKind.INTERNAL,
        Billed.NO,
    ),
    "502 of a proxy": (answers(b"<html>", "502 Bad"), ErrorKind.UNAVAILABLE, Billed.MAYBE),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_has_its_kind_and_ends_by_the_deadline(fault: str) -> None:
    reply, kind, billed = FAULTS[fault]
    began = time.monotonic()
    error = await failure(reply)
    assert (error.kind, error.billed, error.retryable) == (kind, billed, True), error.log
    took = time.monotonic() - began
    assert took < DEADLINE + 0.5
    assert (took > DEADLINE - 0.1) is (kind is ErrorKind.TIMEOUT)


async def test_without_a_connection_nothing_is_billed() -> None:
    async with engine_at("http://127.0.0.1:9") as engine:
        with pytest.raises(EngineError) as caught:
            await engine.transcribe(request())
    assert (caught.value.kind, caught.value.billed) == (ErrorKind.NETWORK, Billed.NO)


async def test_a_request_that_was_not_sent_completely_is_not_billed() -> None:
    async def stuck(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(10)

    async with socket_server(stuck) as url, engine_at(url) as engine:
        with pytest.raises(EngineError) as caught:
            await engine.transcribe(request(audio=EncodedAudio(bytes(7 << 20), "flac", 100)))
    assert (caught.value.kind, caught.value.billed) == (ErrorKind.TIMEOUT, Billed.NO)


@pytest.mark.parametrize("header", ["7", "Thu, 01 Jan 1970 00:00:00 GMT", "soon", ""])
async def test_retry_after_is_read_in_both_forms(header: str) -> None:
    error = await failure(refuses("Throttling.RateQuota", "429 Slow down", retry_after=header))
    assert error.kind is ErrorKind.RATE_LIMITED
    assert error.retry_after == {"7": 7.0, "Thu, 01 Jan 1970 00:00:00 GMT": 0.0}.get(header)


async def test_after_a_429_all_calls_wait() -> None:
    async def once(there: Upstream) -> float:
        limiter = RateLimiter(MemorySlots())
        admission = CallAdmission("a", limiter, {"qwen3-asr-flash": 60_000.0})
        account = ProviderAccount("cn-beijing", there.url, "k")
        engine = dashscope_engine(
            account, {"qwen3-asr-flash": "qwen3"}, admission, timeout_seconds=9
        )
        await engine.open()
        with pytest.raises(EngineError):
            async with engine.admit("qwen3-asr-flash", 9):
                await engine.transcribe(request())
        began = time.monotonic()
        async with engine.admit("qwen3-asr-flash", 9):
            waited = time.monotonic() - began
        await engine.close()
        return waited

    async with upstream(refuses("Throttling", "429 No", retry_after="0.4")) as there:
        assert 0.35 < await once(there) < 0.8


async def test_an_engine_that_is_not_open_is_unavailable() -> None:
    account = ProviderAccount("cn-beijing", "http://127.0.0.1:9", "k")
    engine = dashscope_engine(
        account, {}, CallAdmission("a", RateLimiter(MemorySlots()), {}), timeout_seconds=9
    )
    with pytest.raises(EngineError) as caught:
        await engine.transcribe(request())
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    assert not engine.readiness("x").ready


def test_a_key_is_not_shown() -> None:
    assert "canary" not in repr(ProviderAccount("cn-beijing", "http://x", "canary"))


def test_a_body_is_json_with_any_context() -> None:
    value = {"a": '"\\ \n data:', "b": AUDIO_MARK, "c": 1}
    body = json_with_audio(value, EncodedAudio(b"1234", "mp3", 1))
    whole = b"".join(body.chunks())
    assert len(whole) == body.length
    assert json.loads(whole) == {
        "a": '"\\ \n data:',
        "b": "data:audio/mpeg;base64,MTIzNA==",
        "c": 1,
    }


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, SLICE_BYTES - 1, SLICE_BYTES, 2 * SLICE_BYTES + 1])
def test_audio_of_any_size_is_one_base64_text(size: int) -> None:
    audio = bytes(n % 251 for n in range(size))
    body = json_with_audio({"a": AUDIO_MARK}, EncodedAudio(audio, "wav", 1))
    whole = b"".join(body.chunks())  # type: ignore[arg-type]
    assert len(whole) == body.length
    assert base64.b64decode(json.loads(whole)["a"].partition(",")[2], validate=True) == audio


def test_numbers_beyond_64_bits_are_written_and_read() -> None:
    assert json.loads(json_bytes({"a": 1 << 70, "b": "\u6d1b"})) == {"a": 1 << 70, "b": "\u6d1b"}
    assert read_object(b'{"seconds": 18446744073709551616}') == {"seconds": 2.0**64}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'{"a": NaN}', {"a": None}),  # what no database can store is replaced (ATTACKS M7)
        (b'{"a": "\\ud800"}', {"a": "\ufffd"}),
        (b"[1]", None),
        (b'{"a": 1', None),
        (b"\xff", None),
        (b"[" * 5000, None),
        (b"", None),
    ],
)
def test_an_answer_is_read_as_leniently_as_before(text: bytes, value: object) -> None:
    assert read_object(text) == value
