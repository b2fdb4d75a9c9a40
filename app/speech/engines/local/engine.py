"""The local engine: Whisper on this machine's CPU, for no key, no money and no network.

CTranslate2 lets go of the GIL, so threads do the work; the event loop only waits.
"""

import asyncio
import importlib.util
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path

from app.settings import LocalEngineSettings
from app.speech.engine import (
    AudioFormat,
    CallSlot,
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineRequest,
    ErrorKind,
    Pcm,
    Readiness,
    Throughput,
)
from app.speech.engines.http.latency import LatencyAverage
from app.speech.engines.local.model import RETRY_SECONDS, LoadingModel
from app.speech.engines.local.weights.files import pull
from app.speech.engines.local.weights.pinned import pinned_models
from app.speech.engines.local.whisper import Heard, Question, Whisper

NOT_INSTALLED = "faster-whisper is not installed: pip install asr-gateway[local]"
DEFAULT_SHARE = 0.1  # of a recording's length, until one was measured
CONTEXT_CUT = "`context` is longer than the model takes; its beginning was left out."


class _StoppedError(Exception):
    """Nobody waits for this thread's answer any more."""


class LocalEngine:
    """An Engine. `warm` are the models that are made ready at `open`, the rest when asked for."""

    name = "local"
    region = "local"
    remote = False
    accepts: AudioFormat = "pcm"

    def __init__(
        self,
        settings: LocalEngineSettings,
        warm: Sequence[str] = ("base",),
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._settings = settings
        self._warm = tuple(warm)
        self._retry_seconds = retry_seconds
        self.max_concurrent_calls = settings.workers
        self._installed = importlib.util.find_spec("faster_whisper") is not None
        self._models: dict[str, LoadingModel[Whisper]] = {}
        self._running: set[threading.Event] = set()
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="whisper")
        self._closed = False
        self._speed = LatencyAverage()

    async def open(self) -> None:
        """Begin to fetch and load the warm models; returns at once."""
        if self._installed:
            for name in self._warm:
                self._coming(name).start()

    async def close(self) -> None:
        """End the running calls at their next segment, and wait for their threads."""
        self._closed = True
        for coming in self._models.values():
            await coming.close()
        for stop in self._running:
            stop.set()
        await asyncio.to_thread(self._pool.shutdown)

    def readiness(self, model: str) -> Readiness:
        """Tell whether `model` can be called now."""
        if not self._installed:
            return Readiness(ready=False, unmet=NOT_INSTALLED)
        if model not in pinned_models():
            return Readiness(ready=False, unmet=f"no model {model!r} is known to this engine")
        return self._coming(model).readiness

    def throughput(self, model: str, audio_seconds: float) -> Throughput:
        """Return how fast calls are made now: a call takes a share of the audio's length."""
        share, measured = self._speed.of(model, DEFAULT_SHARE)
        return Throughput(
            call_seconds=share * audio_seconds,
            max_concurrent_calls=self._settings.workers,
            measured_calls=measured,
        )

    def admit(
        self, _model: str, _patience: float, _priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Make nobody wait: calls wait for a thread, and cost nothing."""
        return nullcontext()

    async def try_admit(self, _model: str) -> CallSlot | None:
        """Admit every call: it waits for a thread, and costs nothing."""
        return CallSlot()

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Hear one part; see Engine. Cancelling it frees its thread at the next segment."""
        deadline = asyncio.get_running_loop().time() + request.deadline_seconds
        whisper = await self._ready(request.model, deadline)
        began = asyncio.get_running_loop().time()
        stop = threading.Event()
        self._running.add(stop)
        try:
            async with asyncio.timeout_at(deadline):
                heard = await self._hear(whisper, request, stop, on_delta)
        except TimeoutError as error:
            raise _failure(ErrorKind.TIMEOUT, "the deadline passed while transcribing") from error
        except _StoppedError as error:
            raise _failure(ErrorKind.UNAVAILABLE, "the engine was closed") from error
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EngineError(ErrorKind.INTERNAL, f"whisper: {error}") from error
        finally:
            stop.set()
            self._running.discard(stop)
        took = asyncio.get_running_loop().time() - began
        if sound := request.audio.millis / 1000:
            self._speed.note(request.model, took / sound)
        return _answer(heard)

    async def _ready(self, model: str, deadline: float) -> Whisper:
        if self._closed:
            raise _failure(ErrorKind.UNAVAILABLE, "the engine is closed")
        if not self._installed or model not in pinned_models():
            raise EngineError(ErrorKind.UNAVAILABLE, self.readiness(model).unmet)
        return await self._coming(model).ready(deadline)

    async def _hear(
        self,
        whisper: Whisper,
        request: EngineRequest,
        stop: threading.Event,
        on_delta: DeltaSink | None,
    ) -> Heard:
        loop = asyncio.get_running_loop()

        def check() -> None:
            if stop.is_set():
                raise _StoppedError

        def deliver(text: str) -> None:
            if on_delta and not stop.is_set():
                on_delta(text)

        def sink(text: str) -> None:
            loop.call_soon_threadsafe(deliver, text)

        return await loop.run_in_executor(
            self._pool, partial(whisper.hear, _question(request), check, sink)
        )

    def _coming(self, name: str) -> LoadingModel[Whisper]:
        if name not in self._models:
            self._models[name] = LoadingModel(
                name,
                fetch=partial(pull, name, self._settings),
                load=self._load,
                retry_seconds=self._retry_seconds,
            )
        return self._models[name]

    def _load(self, folder: Path) -> Whisper:
        whisper = Whisper(folder, threads=self._settings.threads, workers=self._settings.workers)
        whisper.warm()
        return whisper


def _question(request: EngineRequest) -> Question:
    if not isinstance(request.audio, Pcm):
        raise EngineError(ErrorKind.INTERNAL, "the part is not PCM")
    return Question(
        pcm=request.audio.data,
        language=request.language,
        hints=tuple(request.options.get("language_hints", ())),
        context=request.context,
        words=request.words,
    )


def _answer(heard: Heard) -> EngineAnswer:
    return EngineAnswer(
        text=heard.text,
        language=heard.language,
        segments=heard.segments,
        warnings=(CONTEXT_CUT,) if heard.context_was_cut else (),
    )


def _failure(kind: ErrorKind, words: str) -> EngineError:
    return EngineError(kind, words, retryable=True)
