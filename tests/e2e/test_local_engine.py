"""The local engine with the real base model, from the cache or the package index.

Covers: app.speech.engines.local.engine, app.speech.engines.local.whisper
"""

import asyncio
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event

import jiwer
import numpy as np
import pytest

from app.settings import LocalEngineSettings
from app.speech.engine import EngineError, EngineRequest, ErrorKind, Pcm
from app.speech.engines.local import engine as local
from app.speech.engines.local.engine import CONTEXT_CUT, NOT_INSTALLED, LocalEngine
from app.speech.engines.local.whisper import Check, SegmentSink, WhisperOutput, WhisperRequest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

MEDIA = Path(__file__).parents[1] / "media"
SAID = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them he was not an ill disposed young man"
)
SETTINGS = LocalEngineSettings(sources=["wheels", "hub"])
SAMPLE_RATE = 16_000


def recording(name: str) -> Pcm:
    with wave.open(str(MEDIA / name)) as file:
        assert (file.getframerate(), file.getnchannels()) == (SAMPLE_RATE, 1)
        return Pcm(file.readframes(file.getnframes()))


def made(samples: np.ndarray) -> Pcm:
    return Pcm((samples * 32767).astype("<i2").tobytes())


def ask(audio: Pcm, **more: object) -> EngineRequest:
    return replace(EngineRequest(audio=audio, model="base", deadline_seconds=240), **more)


def plain(text: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return " ".join("mister" if word == "mr" else word for word in words)


@asynccontextmanager
async def opened(engine: LocalEngine) -> AsyncIterator[LocalEngine]:
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture
async def engine() -> AsyncIterator[LocalEngine]:
    async with opened(LocalEngine(SETTINGS)) as engine:
        yield engine


async def test_english_is_transcribed_with_few_errors_and_streamed(engine: LocalEngine) -> None:
    deltas: list[str] = []
    answer = await engine.transcribe(
        ask(recording("en_clean_10s.wav"), word_timestamps=True), deltas.append
    )
    assert jiwer.wer(SAID, plain(answer.text)) < 0.1
    assert answer.language == "en"
    assert "".join(deltas) == answer.text
    assert answer.usage.seconds is None
    assert all(segment.timing == "upstream" for segment in answer.segments)
    words = [word for segment in answer.segments for word in segment.words]
    assert "".join(word.text for word in words) == "".join(answer.text.split())
    assert all(0 <= a.start <= a.end <= b.end <= 10.4 for a, b in pairwise(words))
    assert engine.readiness("base").ready


async def test_silence_noise_and_tone_have_no_text(engine: LocalEngine) -> None:
    rng = np.random.default_rng(7)
    clock = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    brown = np.cumsum(rng.standard_normal(10 * SAMPLE_RATE))
    sounds = (
        np.zeros(10 * SAMPLE_RATE),
        np.zeros(0),
        np.zeros(SAMPLE_RATE // 2),
        rng.standard_normal(10 * SAMPLE_RATE).clip(-3, 3) / 12,
        brown / np.abs(brown).max() / 2,
        np.sin(2 * np.pi * 440 * clock) / 2,
    )
    for sound in sounds:
        answer = await engine.transcribe(ask(made(sound)))
        assert (answer.text, answer.language, answer.segments) == ("", None, ())
    asked = await engine.transcribe(ask(made(sounds[0]), language="zh"))
    assert asked.language == "zh"


async def test_a_context_that_does_not_fit_keeps_its_end_with_a_warning(
    engine: LocalEngine,
) -> None:
    answer = await engine.transcribe(
        ask(recording("en_clean_10s.wav"), language="en", context="Elinor Marianne. " * 200)
    )
    assert answer.warnings == (CONTEXT_CUT,)
    assert jiwer.wer(SAID, plain(answer.text)) < 0.2


async def test_hints_restrict_the_detected_language(engine: LocalEngine) -> None:
    audio = Pcm(recording("en_clean_10s.wav").data[: 6 * SAMPLE_RATE])
    answer = await engine.transcribe(ask(audio, options={"language_hints": ["zh", "en"]}))
    assert answer.language == "en"
    answer = await engine.transcribe(ask(audio, options={"language_hints": ["fr", "de"]}))
    assert answer.language in ("fr", "de")


async def test_the_event_loop_is_free_while_whisper_works(engine: LocalEngine) -> None:
    await engine.transcribe(ask(made(np.zeros(1))))
    work = asyncio.create_task(engine.transcribe(ask(recording("en_clean_10s.wav"))))
    lags = []
    while not work.done():
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(time.perf_counter() - before - 0.005)
    assert sorted(lags)[len(lags) * 95 // 100] < 0.1


async def test_without_the_extra_it_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda _name: None)
    async with opened(LocalEngine(SETTINGS)) as engine:
        assert engine.readiness("base").unmet == NOT_INSTALLED
        with pytest.raises(EngineError, match="not installed"):
            await engine.transcribe(ask(made(np.zeros(1))))


async def test_an_unknown_model_is_not_ready(tmp_path: Path) -> None:
    async with opened(LocalEngine(SETTINGS, warm=())) as engine:
        assert engine.readiness("huge").unmet == "no model 'huge' is known to this engine"
        with pytest.raises(EngineError, match="huge"):
            await engine.transcribe(ask(made(np.zeros(1)), model="huge"))


class SlowWhisper:
    """A model that returns a word when a test allows it, and checks for cancellation."""

    def __init__(self) -> None:
        self.began, self.go, self.ended = Event(), Event(), Event()

    def transcribe(
        self, _request: WhisperRequest, check: Check, sink: SegmentSink
    ) -> WhisperOutput:
        try:
            check()
            sink("one")
            self.began.set()
            while not self.go.wait(0.01):
                check()
            check()
            sink(" two")
            return WhisperOutput("one two", "en", (), is_context_cut=False)
        finally:
            self.ended.set()


@asynccontextmanager
async def slow_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[LocalEngine, SlowWhisper]]:
    whisper = SlowWhisper()

    async def no_pull(*_: object) -> Path:
        return Path()

    monkeypatch.setattr(local, "pull", no_pull)
    monkeypatch.setattr(LocalEngine, "_load", lambda *_: whisper)
    async with opened(LocalEngine(LocalEngineSettings(workers=1))) as engine:
        yield engine, whisper


async def until(event: Event) -> None:
    async with asyncio.timeout(5):
        while not event.is_set():
            await asyncio.sleep(0.01)


async def test_a_cancelled_call_frees_its_thread_and_streams_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deltas: list[str] = []
    async with slow_engine(monkeypatch) as (engine, whisper):
        call = asyncio.create_task(engine.transcribe(ask(made(np.zeros(1))), deltas.append))
        await until(whisper.began)
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(whisper.ended)
        assert not whisper.go.is_set()
        assert deltas == ["one"]


async def test_a_deadline_ends_running_and_queued_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with slow_engine(monkeypatch) as (engine, whisper):
        short = ask(made(np.zeros(1)), deadline_seconds=0.2)
        calls = await asyncio.gather(
            engine.transcribe(short), engine.transcribe(short), return_exceptions=True
        )
        kinds = [error.kind for error in calls if isinstance(error, EngineError)]
        assert kinds == [ErrorKind.TIMEOUT, ErrorKind.TIMEOUT]
        await until(whisper.ended)


async def test_closing_ends_running_and_queued_calls_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with slow_engine(monkeypatch) as (engine, whisper):
        calls = [asyncio.create_task(engine.transcribe(ask(made(np.zeros(1))))) for _ in range(3)]
        await until(whisper.began)
        await engine.close()
        for call in calls:
            with pytest.raises(EngineError, match="closed"):
                await call
        with pytest.raises(EngineError, match="closed"):
            await engine.transcribe(ask(made(np.zeros(1))))


async def test_a_call_is_expected_to_take_longer_with_more_audio() -> None:
    engine = LocalEngine(LocalEngineSettings(workers=3), warm=())
    (short, long) = [engine.throughput("base", seconds) for seconds in (10, 100)]
    assert (short.call_seconds, long.call_seconds, short.measured_calls) == (1.0, 10.0, 0)
    assert (short.max_concurrent_calls, short.interval_seconds) == (3, 0)
    await engine.close()
