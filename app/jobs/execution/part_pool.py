"""The concurrent tasks of one run, and how they end when one of them fails."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from app.errors import DatabaseUnavailable, GatewayError
from app.jobs.store.runs import Deferred, StaleRun
from app.jobs.upstream.call_permit import CallPermit, CallsStopped


class PartPool:
    """Works on at most `members` parts of a job at once.

    When one task raises, no new call is made. Calls in flight are paid for, so they may finish,
    except in a run that no longer holds its job.
    """

    def __init__(self, members: int) -> None:
        self._slots = asyncio.Semaphore(members)
        self._tasks: dict[asyncio.Task[None], CallPermit | None] = {}
        self._errors: list[BaseException] = []
        self._ended = asyncio.Event()

    async def work(self, leading: Coroutine[Any, Any, None]) -> None:
        """Return when `leading` and all tasks it began have ended; raise the most severe error."""
        self._start(leading, None)
        try:
            await self._ended.wait()
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            await self._ended.wait()
            raise
        if self._errors:
            raise min(self._errors, key=_severity)

    async def begin(
        self, work: Callable[[CallPermit], Coroutine[Any, Any, None]], after: Callable[[], None]
    ) -> None:
        """Start work on a part once a slot is free; `after` is called at its end in all cases."""
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            after()
            raise

        def leave(_task: asyncio.Task[None]) -> None:
            after()
            self._slots.release()

        permit = CallPermit()
        self._start(work(permit), permit).add_done_callback(leave)

    def _start(
        self, work: Coroutine[Any, Any, None], permit: CallPermit | None
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks[task] = permit
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Note a task's error and end the other tasks: at once where the run has lost its job."""
        del self._tasks[task]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CallsStopped):
            self._errors.append(error)
            for other, permit in self._tasks.items():
                if permit is not None:
                    permit.revoke()
                if isinstance(error, StaleRun) or permit is None or not permit.in_flight:
                    other.cancel()
        if not self._tasks:
            self._ended.set()


def _severity(error: BaseException) -> tuple[int, float]:
    """Order errors by their severity for the job; of several deferrals the shortest comes first."""
    seconds = error.seconds if isinstance(error, Deferred) else 0.0
    if isinstance(error, StaleRun):
        return 0, seconds
    if isinstance(error, DatabaseUnavailable):
        return 3, seconds
    if isinstance(error, GatewayError):
        return 2, seconds
    return (4 if isinstance(error, Deferred) else 1), seconds
