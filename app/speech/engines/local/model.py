"""A model that is fetched and loaded in the background, again after a pause if that failed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from app.kit.log import log
from app.speech.engine import EngineError, EngineReadiness, ErrorKind
from app.speech.engines.local.weights.sources import Progress

RETRY_SECONDS = 30.0  # after a fetch or a load that failed


LoadedModel = TypeVar("LoadedModel")


class LoadingModel(Generic[LoadedModel]):
    """A model that is loaded, being loaded or missing. `readiness` says which and why."""

    def __init__(
        self,
        name: str,
        *,
        fetch: Callable[[Progress], Awaitable[Path]],
        load: Callable[[Path], LoadedModel],
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._load = load
        self._retry_seconds = retry_seconds
        self._task: asyncio.Task[None] | None = None
        self._model: LoadedModel | None = None
        self._unmet = "model not loaded yet; the first request loads it"
        self._failed = False
        self._changed = asyncio.Event()

    @property
    def readiness(self) -> EngineReadiness:
        return EngineReadiness(
            ready=self._model is not None, unmet="" if self._model else self._unmet
        )

    def start(self) -> None:
        """Start to load, unless started. Returns at once."""
        if self._task is None:
            self._set_unmet("model loading")
            self._task = asyncio.create_task(self._run(), name=f"local-model-{self._name}")

    async def loaded(self, deadline: float) -> LoadedModel:
        """Wait for the model until `deadline` of the loop's clock.

        Raises EngineError at once if loading has failed and is tried again later.
        """
        self.start()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while self._model is None and not self._failed:
                    await self._changed.wait()
        if self._model is None:
            pause = self._retry_seconds if self._failed else None
            raise EngineError(ErrorKind.UNAVAILABLE, self._unmet, retryable=True, retry_after=pause)
        return self._model

    async def close(self) -> None:
        """Stop loading. Callers of `loaded` get an EngineError."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._model = None
        self._set_unmet("the engine is closed", failed=True)

    async def _run(self) -> None:
        def report(done: int, total: int) -> None:
            self._set_unmet(f"model downloading {100 * done // total if total else 0} %")

        while True:
            try:
                folder = await self._fetch(report)
                self._set_unmet("model loading")
                self._model = await asyncio.to_thread(self._load, folder)
            except Exception as error:  # noqa: BLE001 - native code raises any exception
                self._set_unmet(str(error) or type(error).__name__, failed=True)
                log.warning("model.unavailable", model=self._name, reason=self._unmet)
            else:
                self._set_unmet("")
                log.info("model.loaded", model=self._name)
                return
            await asyncio.sleep(self._retry_seconds)
            self._set_unmet("model loading")

    def _set_unmet(self, unmet: str, *, failed: bool = False) -> None:
        self._unmet = unmet
        self._failed = failed
        if failed or self._model is not None:
            self._changed.set()
        else:
            self._changed.clear()
