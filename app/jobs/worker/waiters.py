"""Callers who wait for a job to end, in this process or in another one."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.db.database import Database
from app.jobs import queries
from app.jobs.store.job import JobView

POLL_SECONDS = 0.5  # between two reads of a job that another process may run
GLANCE_SECONDS = 5.0  # the same without other processes, in case a wake-up is missed


class Waiter:
    """One caller; `woken` is done once the job may have ended, with the job where it is known."""

    def __init__(self) -> None:
        self.woken: asyncio.Future[JobView | None] = asyncio.get_running_loop().create_future()

    def wake(self, view: JobView | None) -> None:
        if not self.woken.done():
            self.woken.set_result(view)


class Waiters:
    """The waiting callers of this process. `is_here` tells whether a job runs in this process."""

    def __init__(self, db: Database, is_here: Callable[[str], bool]) -> None:
        self._db = db
        self._is_here = is_here
        self._poll_seconds = POLL_SECONDS if db.is_shared else GLANCE_SECONDS
        self._waiting: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._limits: set[asyncio.Timeout] = set()
        self._end: float | None = None

    def has(self, job_id: str) -> bool:
        """Tell whether any caller waits for this job."""
        return job_id in self._waiting

    @contextmanager
    def registered(self, job_id: str) -> Iterator[Waiter]:
        """Register a waiting caller of this job until the block ends."""
        waiter = Waiter()
        self._waiting[job_id].add(waiter)
        try:
            yield waiter
        finally:
            self._waiting[job_id].discard(waiter)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def wait(
        self, job_id: str, seconds: float, gone: "asyncio.Future[None] | None" = None
    ) -> JobView | bool:
        """Wait for the end of the job; see `Worker.wait`."""
        limit = asyncio.timeout(seconds)
        with self.registered(job_id) as waiter:
            if gone is not None:
                gone.add_done_callback(lambda _: waiter.wake(None))
            try:
                async with limit:
                    self._limits.add(limit)
                    self._shorten(limit)
                    while not (gone is not None and gone.done()):
                        if self._is_here(job_id):
                            await waiter.woken
                        elif await self._has_ended(job_id):
                            return True
                        else:
                            await asyncio.wait({waiter.woken}, timeout=self._poll_seconds)
                        if waiter.woken.done():
                            if (view := waiter.woken.result()) is not None:
                                return view
                            waiter.woken = asyncio.get_running_loop().create_future()
                    return False
            except TimeoutError:
                return not self._is_here(job_id) and await self._has_ended(job_id)
            finally:
                self._limits.discard(limit)

    def wake(self, job_id: str, view: JobView | None = None) -> None:
        """Wake the callers who wait for this job, with the completed job where it is known."""
        for waiter in self._waiting.get(job_id, ()):
            waiter.wake(view)

    def set_deadline(self, end: float) -> None:
        """Limit every wait to this time of the event loop."""
        self._end = end
        for limit in self._limits:
            self._shorten(limit)

    def _shorten(self, limit: asyncio.Timeout) -> None:
        end = self._end
        if end is not None and (limit.when() or end) >= end:
            limit.reschedule(end)

    async def _has_ended(self, job_id: str) -> bool:
        return await self._db.read(queries.has_ended, job_id)
