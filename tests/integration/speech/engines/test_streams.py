"""Streams of all providers: a complete stream is an answer, any other one is an error.

Covers: app.speech.engines.dashscope.sync_stream, app.speech.engines.http.incremental_text,
app.speech.engines.http.wire_format

FRAMES_SEED=7 FRAMES_ROUNDS=5000 pytest tests/integration/speech/engines/test_streams.py
"""

import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

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
from app.speech.engines.http import engine as remote
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.engine import RemoteEngine
from app.speech.engines.http.provider_account import ProviderAccount
from app.speech.engines.openai.engine import openai_engine
from tests.support import frames
from tests.support.chunked_reply import streams
from tests.support.stub_server import Reply, answers, qwen3_answer, refuses, upstream

pytestmark = pytest.mark.anyio
SEED = int(os.environ.get("FRAMES_SEED", random.SystemRandom().randrange(1 << 30)))
ROUNDS = int(os.environ.get("FRAMES_ROUNDS", "400"))
CUTS = {"cut", "no_end", "cut_in_letter", "lost_frame"}
QWEN3, INPUT_AUDIO = "qwen3-asr-flash", "qwen-audio-3.0-asr-flash"
PIECES = ["欢迎", "使用", "阿里", "云。", " Hello", " world."]
TEXT = "".join(PIECES)


@asynccontextmanager
async def engine_at(url: str, *, is_chat: bool = False) -> AsyncIterator[RemoteEngine]:
    admission = CallAdmission("test", RateLimiter(MemorySlots()), {})
    account = ProviderAccount("cn-beijing", url, "sk-canary")
    if is_chat:
        engine = openai_engine(account, ["asr"], "chat", admission, timeout_seconds=60)
    else:
        wires = {QWEN3: "qwen3", INPUT_AUDIO: "input-audio"}
        engine = dashscope_engine(account, wires, admission, timeout_seconds=60)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def hear(reply: Reply, model: str = QWEN3, **fields: Any) -> tuple[EngineAnswer, list[str]]:
    told: list[str] = []
    usual = {"audio": EncodedAudio(b"fLaC", "flac", 2000), "model": model, "deadline_seconds": 5.0}
    request = EngineRequest(**usual | fields)  # type: ignore[arg-type]
    async with upstream(reply) as there, engine_at(there.url, is_chat=model == "asr") as engine:
        return await engine.transcribe(request, told.append), told


async def failure(reply: Reply, model: str = QWEN3, **fields: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await hear(reply, model, **fields)
    return caught.value


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 6])
async def test_incremental_and_cumulative_frames(count: int, whole: bool, merged: bool) -> None:
    pieces = PIECES[:count]
    if whole and count == 1 and not merged:
        pytest.skip("one piece twice is two pieces: see the next test")
    answer, told = await hear(streams(frames.qwen3(pieces, whole=whole, merged=merged)))
    assert answer.text == "".join(told) == "".join(pieces)
    assert answer.usage.seconds == 2
    assert answer.usage.output_tokens == 6
    assert answer.request_id == "e84128d5"
    assert (answer.language, answer.emotion) == (("zh", "happy") if pieces else (None, None))


@pytest.mark.parametrize(
    "texts",
    [["对", "对", "对"], ["ha", "haha"], ["a", "ab", "c"], ["one", " one two", " one two three"]],
)
async def test_repeated_words_are_no_repeated_frames(texts: list[str]) -> None:
    """Incremental frames were requested, so ambiguous ones are incremental and no text is lost."""
    answer, told = await hear(streams(frames.qwen3(texts)))
    assert answer.text == "".join(told) == "".join(texts)


async def test_repeated_frames_count_once() -> None:
    twice = [frame for frame in frames.qwen3(PIECES) for _ in range(2)]
    answer, told = await hear(streams(twice))
    assert answer.text == "".join(told) == TEXT


async def test_rewritten_text_is_not_reported_twice() -> None:
    texts = ["Hello", "Hello word", "Hello word and", "Hello world, and"]
    bodies = [*map(frames.qwen3_body, texts), frames.qwen3_body("Hello world, and all.", "stop")]
    answer, told = await hear(streams([frames.native(n, b) for n, b in enumerate(bodies, 1)]))
    assert answer.text == "Hello world, and all."
    assert "".join(told) == "Hello word and"


async def test_the_request_of_a_stream() -> None:
    async with upstream(streams(frames.qwen3(PIECES))) as there, engine_at(there.url) as engine:
        sound = EncodedAudio(b"fLaC", "flac", 2000)
        await engine.transcribe(EngineRequest(sound, QWEN3, 5.0), lambda _: None)
        there.replies[:] = [answers(qwen3_answer("x"))]
        await engine.transcribe(EngineRequest(sound, QWEN3, 5.0))
    asked, plain = there.asked
    assert asked.headers["x-dashscope-sse"] == "enable"
    assert asked.headers["accept"] == "text/event-stream"
    assert asked.json["parameters"]["incremental_output"] is True
    assert "x-dashscope-sse" not in plain.headers
    assert "incremental_output" not in plain.json["parameters"]


async def test_sentences_one_after_the_other() -> None:
    stream = frames.input_audio([["Good", " morning."], [" It is", " ten."]])
    answer, told = await hear(streams(stream), INPUT_AUDIO)
    assert answer.text == "".join(told) == "Good morning. It is ten."
    assert [(one.start, one.text) for one in answer.segments] == [
        (1.0, "Good morning."),
        (2.0, " It is ten."),
    ]
    assert answer.usage.seconds == 2


async def test_an_input_audio_stream_needs_a_proper_end() -> None:
    """After a finished sentence only the end of the transfer shows that no other follows."""
    stream = frames.input_audio([["Good", " morning."], [" It is", " ten."]])[:2]
    assert (await hear(streams(stream), INPUT_AUDIO))[0].text == "Good morning."
    for ends in ("unframed", "torn"):
        assert (await failure(streams(stream, ends=ends), INPUT_AUDIO)).billed is Billed.MAYBE


async def test_a_chat_with_and_without_its_raw_beginning() -> None:
    answer, told = await hear(streams(frames.chat(PIECES)), "asr")
    assert answer.text == "".join(told) == TEXT
    assert (answer.language, answer.emotion) == ("zh", "happy")
    raw = ["lang", "uage Eng", "lish<asr", "_text>", "Hel", "lo."]
    answer, told = await hear(streams(frames.chat(raw)), "asr")
    assert answer.text == "".join(told) == "Hello."
    assert answer.language == "en"
    plain = ["language", " is", " a", " tool."]
    answer, told = await hear(streams(frames.chat(plain)), "asr")
    assert answer.text == "language is a tool."
    assert answer.text.startswith("".join(told))


async def test_a_chat_with_repeated_chunks_is_an_error() -> None:
    twice = [frame for frame in frames.chat(PIECES) for _ in range(2)]
    assert (await failure(streams(twice), "asr")).kind is ErrorKind.MALFORMED


async def test_json_instead_of_a_stream_is_an_answer() -> None:
    answer, told = await hear(answers(qwen3_answer("欢迎。")))
    assert answer.text == "欢迎。"
    assert told == []


async def test_a_stream_with_another_content_type_is_read() -> None:
    answer, _ = await hear(streams(frames.qwen3(PIECES), **{"content-type": "text/plain"}))
    assert answer.text == TEXT


async def test_errors_before_and_inside_a_stream() -> None:
    early = await failure(refuses("Arrearage"))
    assert (early.kind, early.billed) == (ErrorKind.ACCOUNT, Billed.NO)
    begun = frames.qwen3(PIECES)[:2]
    late = await failure(streams([*begun, frames.native(3, {"code": "ModelServingError"}, "error", 500)]))  # fmt: skip  # noqa: E501
    assert (late.kind, late.retryable, late.billed) == (ErrorKind.UNAVAILABLE, True, Billed.NO)
    odd = await failure(streams([*begun, frames.native(3, {"message": "?"}, "error", 500)]))
    assert odd.billed is Billed.MAYBE
    silent = streams([frames.native(1, {"code": "ASR_RESPONSE_HAVE_NO_WORDS"}, "error", 400)])
    assert (await hear(silent, INPUT_AUDIO))[0].text == ""


async def test_the_silence_limit_and_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = frames.qwen3(PIECES)[:2]
    monkeypatch.setattr(remote, "SILENCE_SECONDS", 0.2)
    silent = await failure(streams(begun, ends="silent"))
    assert (silent.kind, silent.billed) == (ErrorKind.TIMEOUT, Billed.MAYBE)
    assert "fell silent" in silent.log
    drip = await failure(streams([bytes([one]) for one in begun[0]], pause=0.1), deadline_seconds=0.5)  # fmt: skip  # noqa: E501
    assert drip.kind is ErrorKind.TIMEOUT
    assert "no whole answer" in drip.log


async def test_a_complete_answer_needs_no_proper_end_of_the_stream() -> None:
    for ends in ("torn", "unframed"):
        answer, _ = await hear(streams(frames.qwen3(PIECES), ends=ends))
        assert answer.text == TEXT


async def test_an_endless_stream_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_ANSWER_BYTES", 1 << 16)
    error = await failure(streams([b": " + b"x" * 1000 + b"\n"] * 100))
    assert (error.kind, error.billed) == (ErrorKind.MALFORMED, Billed.MAYBE)


async def test_no_damaged_stream_is_a_complete_answer() -> None:
    """A stream gives the whole text or an error."""
    sys.stdout.write(f"FRAMES_SEED={SEED} FRAMES_ROUNDS={ROUNDS}\n")
    chance = random.Random(SEED)
    async with (
        upstream(refuses("x")) as there,
        engine_at(there.url) as native,
        engine_at(there.url, is_chat=True) as chat,
    ):
        for number in range(ROUNDS):
            form = chance.choice(["qwen3", "qwen3-whole", "input-audio", "chat"])
            stream, text, model = made(form, chance)
            how, shape = (
                chance.choice([*frames.HARMFUL, "", ""]),
                chance.choice([*frames.HARMLESS, ""]),
            )
            if how:
                stream = frames.with_fault(stream, form, how, chance)
            chunks = frames.split(frames.reshaped(stream, shape), chance)
            there.replies[:] = [streams(chunks, ends=_end(form, how, chunks, chance))]
            told: list[str] = []
            request = EngineRequest(EncodedAudio(b"fLaC", "flac", 2000), model, 5.0)
            case = (SEED, number, form, how, shape, b"".join(chunks))
            heard: str | None = None
            with suppress(EngineError):
                answer = await (chat if model == "asr" else native).transcribe(request, told.append)
                heard = answer.text.strip()
            assert heard == (None if how else text), case
            assert text.startswith("".join(told).strip()), case
            assert how or "".join(told).strip() == text, case


def _end(form: str, how: str, chunks: Sequence[bytes], chance: random.Random) -> str:
    """Return how the transfer ends: the input-audio shape has no last frame, only a last byte."""
    ended = (b"\n\n", b"\r\r", b"\r\n\r\n")
    if form == "input-audio" and how in CUTS and b"".join(chunks).endswith(ended):
        return "torn"
    return chance.choice(["well", "torn"]) if how else "well"


def made(form: str, chance: random.Random) -> tuple[list[bytes], str, str]:
    words = ["对", " one", " two", "好的。", ' "q"', " a,b", " \\", "😀", " x"]
    pieces = [f"{chance.choice(words)}{n}" for n in range(chance.randrange(2, 9))]
    if form == "chat":
        return frames.chat(pieces), "".join(pieces).strip(), "asr"
    if form == "input-audio":
        half = len(pieces) // 2
        return (
            frames.input_audio([pieces[:half], pieces[half:]]),
            "".join(pieces).strip(),
            INPUT_AUDIO,
        )
    merged = chance.random() < 0.5
    whole = form == "qwen3-whole" and len(pieces) > 2
    return frames.qwen3(pieces, whole=whole, merged=merged), "".join(pieces).strip(), QWEN3
