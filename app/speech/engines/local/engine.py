"""The local engine: Whisper on the CPU of this machine, without key, cost or network.

CTranslate2 releases the GIL, so the work is done in threads.
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
    EngineReadiness,
    EngineRequest,
    ErrorKind,
    Pcm,
    Throughput,
)
from app.speech.engines.http.latency import LatencyAverage
from app.speech.engines.local.model import RETRY_SECONDS, LoadingModel
from app.speech.engines.local.weights.files import pull
from app.speech.engines.local.weights.pinned import pinned_models
from app.speech.engines.local.whisper import Whisper, WhisperOutput, WhisperRequest

NOT_INSTALLED = "faster-whisper is not installed: pip install asr-gateway[local]"
DEFAULT_SHARE = 0.1  # of the audio's length, until a call was measured
CONTEXT_CUT = "`context` is longer than the model takes; its beginning was left out."


class _StoppedError(Exception):
    """The call of this thread was cancelled, or the engine was closed."""


class LocalEngine:
    """An Engine. The `warm` models are loaded at `open`, the others by their first call."""

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
        self._latency = LatencyAverage()

    async def open(self) -> None:
        """Start to fetch and load the warm models. Returns at once."""
        if self._installed:
            for name in self._warm:
                self._model(name).start()

    async def close(self) -> None:
        """Stop the running calls at their next segment, and wait for their threads."""
        self._closed = True
        for model in self._models.values():
            await model.close()
        for stop in self._running:
            stop.set()
        await asyncio.to_thread(self._pool.shutdown)

    def readiness(self, model: str) -> EngineReadiness:
        """Return whether `model` can be called now."""
        if not self._installed:
            return EngineReadiness(ready=False, unmet=NOT_INSTALLED)
        if model not in pinned_models():
            return EngineReadiness(ready=False, unmet=f"no model {model!r} is known to this engine")
        return self._model(model).readiness

    def throughput(self, model: str, audio_seconds: float) -> Throughput:
        """Return how fast calls are made now: a call takes a share of the audio's length."""
        share, measured = self._latency.of(model, DEFAULT_SHARE)
        return Throughput(
            call_seconds=share * audio_seconds,
            max_concurrent_calls=self._settings.workers,
            measured_calls=measured,
        )

    def admit(
        self, _model: str, _max_wait_seconds: float, _priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Admit every call at once: it waits for a thread, and costs nothing."""
        return nullcontext()

    async def try_admit(self, _model: str) -> CallSlot | None:
        """Admit every call; see `admit`."""
        return CallSlot()

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Transcribe one part; see Engine. If cancelled, its thread ends at the next segment."""
        deadline = asyncio.get_running_loop().time() + request.deadline_seconds
        if self._closed:
            raise _failure(ErrorKind.UNAVAILABLE, "the engine is closed")
        if not self._installed or request.model not in pinned_models():
            raise EngineError(ErrorKind.UNAVAILABLE, self.readiness(request.model).unmet)
        whisper = await self._model(request.model).loaded(deadline)
        began = asyncio.get_running_loop().time()
        stop = threading.Event()
        self._running.add(stop)
        try:
            async with asyncio.timeout_at(deadline):
                output = await self._run(whisper, request, stop, on_delta)
        except TimeoutError as error:
            raise _failure(ErrorKind.TIMEOUT, "the deadline passed while transcribing") from error
        except _StoppedError as error:
            raise _failure(ErrorKind.UNAVAILABLE, "the engine was closed") from error
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EngineError(ErrorKind.INTERNAL, f"whisper: {error}") from error
        finally:
            stop.set()
            self._running.discard(stop)
        seconds = asyncio.get_running_loop().time() - began
        if audio_seconds := request.audio.millis / 1000:
            self._latency.record(request.model, seconds / audio_seconds)
        return EngineAnswer(
            text=output.text,
            language=output.language,
            segments=output.segments,
            warnings=(CONTEXT_CUT,) if output.is_context_cut else (),
        )

    async def _run(
        self,
        whisper: Whisper,
        request: EngineRequest,
        stop: threading.Event,
        on_delta: DeltaSink | None,
    ) -> WhisperOutput:
        if not isinstance(request.audio, Pcm):
            raise EngineError(ErrorKind.INTERNAL, "the part is not PCM")
        loop = asyncio.get_running_loop()
        call = WhisperRequest(
            pcm=request.audio.data,
            language=request.language,
            hints=tuple(request.options.get("language_hints", ())),
            context=request.context,
            word_timestamps=request.word_timestamps,
        )

        def check() -> None:
            if stop.is_set():
                raise _StoppedError

        def deliver(text: str) -> None:
            if on_delta and not stop.is_set():
                on_delta(text)

        def sink(text: str) -> None:
            loop.call_soon_threadsafe(deliver, text)

        return await loop.run_in_executor(
            self._pool, partial(whisper.transcribe, call, check, sink)
        )

    def _model(self, name: str) -> LoadingModel[Whisper]:
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


def _failure(kind: ErrorKind, reason: str) -> EngineError:
    return EngineError(kind, reason, retryable=True)
