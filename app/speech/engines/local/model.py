"""One model's way into memory: fetched, loaded, and tried again after a pause when that failed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from app.speech.engine import EngineError, ErrorKind, Readiness
from app.speech.engines.local.weights.sources import Progress

RETRY_SECONDS = 30.0  # after a fetch or a load that failed

log = structlog.get_logger(__name__)

Model = TypeVar("Model")


class LoadingModel(Generic[Model]):
    """A model that is there, on its way, or missing, with words for each."""

    def __init__(
        self,
        name: str,
        *,
        fetch: Callable[[Progress], Awaitable[Path]],
        load: Callable[[Path], Model],
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._load = load
        self._retry_seconds = retry_seconds
        self._task: asyncio.Task[None] | None = None
        self._model: Model | None = None
        self._missing = "model not loaded yet; the first request loads it"
        self._failed = False
        self._changed = asyncio.Event()

    @property
    def readiness(self) -> Readiness:
        return Readiness(ready=self._model is not None, unmet="" if self._model else self._missing)

    def start(self) -> None:
        """Begin, unless begun; returns at once."""
        if self._task is None:
            self._say("model loading")
            self._task = asyncio.create_task(self._come(), name=f"local-model-{self._name}")

    async def ready(self, deadline: float) -> Model:
        """Wait for the model until the loop's clock shows `deadline`.

        Raises EngineError at once where it is missing and will only be tried again later.
        """
        self.start()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while self._model is None and not self._failed:
                    await self._changed.wait()
        if self._model is None:
            pause = self._retry_seconds if self._failed else None
            raise EngineError(
                ErrorKind.UNAVAILABLE, self._missing, retryable=True, retry_after=pause
            )
        return self._model

    async def close(self) -> None:
        """Stop coming; whoever waits is told."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._model = None
        self._say("the engine is closed", failed=True)

    async def _come(self) -> None:
        while True:
            try:
                await self._try_once()
            except Exception as error:  # noqa: BLE001 - native code raises what it likes
                self._say(str(error) or type(error).__name__, failed=True)
                log.warning("model.unavailable", model=self._name, reason=self._missing)
            else:
                return
            await asyncio.sleep(self._retry_seconds)
            self._say("model loading")

    async def _try_once(self) -> None:
        folder = await self._fetch(self._progressed)
        self._say("model loading")
        self._model = await asyncio.to_thread(self._load, folder)
        self._say("")
        log.info("model.loaded", model=self._name)

    def _progressed(self, done: int, total: int) -> None:
        self._say(f"model downloading {100 * done // total if total else 0} %")

    def _say(self, unmet: str, *, failed: bool = False) -> None:
        self._missing = unmet
        self._failed = failed
        if failed or self._model is not None:
            self._changed.set()
        else:
            self._changed.clear()
