"""Threads for the blocking work of the audio store."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 8

_Work = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class WorkThreads:
    """At most `most` threads, started with the first pieces of work; they end with the process.

    A ThreadPoolExecutor takes more time for a small file than the file's system calls: it has two
    futures and several locks for each piece of work.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._queue: queue.SimpleQueue[_Work] = queue.SimpleQueue()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work. If the caller is cancelled, the work still completes."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()
        self._queue.put((loop, future, lambda: context.run(work, *args, **kwargs)))
        if self._started < self._most:
            self._started += 1
            threading.Thread(target=self._serve, name="audio-store", daemon=True).start()
        return await future

    def _serve(self) -> None:
        while True:
            self._complete(*self._queue.get())

    @staticmethod
    def _complete(
        loop: asyncio.AbstractEventLoop, future: "asyncio.Future[T]", work: Callable[[], T]
    ) -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - the caller raises it
            error = raised

        def resolve() -> None:
            if future.done():  # the caller was cancelled
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        with suppress(RuntimeError):  # the loop is closed: no caller waits
            loop.call_soon_threadsafe(resolve)


store_threads = WorkThreads(MAX_THREADS)
