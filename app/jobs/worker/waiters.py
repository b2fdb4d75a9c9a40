"""Callers who wait for a job to end, here or in another process."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from app.db.database import Database
from app.jobs import queries

POLL_SECONDS = 0.5  # between looks at a job that another process may have
GLANCE_SECONDS = 5.0  # the same where there is no other process: a net, should a waking be missed


class Waiters:
    """`is_here` tells whether a job runs in this process: then its end wakes who waits for it."""

    def __init__(self, db: Database, is_here: Callable[[str], bool]) -> None:
        self._db = db
        self._is_here = is_here
        self._poll_seconds = POLL_SECONDS if db.is_shared else GLANCE_SECONDS
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._limits: set[asyncio.Timeout] = set()
        self._end: float | None = None

    def has(self, job_id: str) -> bool:
        """Whether anybody waits for this job."""
        return job_id in self._waiting

    @contextmanager
    def present(self, job_id: str) -> Iterator[asyncio.Event]:
        """Count somebody who waits for this job, and lend what wakes them."""
        woken = asyncio.Event()
        self._waiting[job_id].add(woken)
        try:
            yield woken
        finally:
            self._waiting[job_id].discard(woken)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def wait(self, job_id: str, seconds: float) -> bool:
        """Wait until the job has ended; False when the time is over."""
        limit = asyncio.timeout(seconds)
        with self.present(job_id) as woken:
            try:
                async with limit:
                    self._limits.add(limit)
                    self._shorten(limit)
                    while not await self._has_ended(job_id):
                        await self._step(job_id, woken)
                    return True
            except TimeoutError:
                return await self._has_ended(job_id)
            finally:
                self._limits.discard(limit)

    def wake(self, job_id: str) -> None:
        """Let those who wait for this job look at it."""
        for woken in self._waiting.get(job_id, ()):
            woken.set()

    def set_deadline(self, end: float) -> None:
        """Let nobody wait beyond this time of the event loop."""
        self._end = end
        for limit in self._limits:
            self._shorten(limit)

    def _shorten(self, limit: asyncio.Timeout) -> None:
        end = self._end
        if end is not None and (limit.when() or end) >= end:
            limit.reschedule(end)

    async def _has_ended(self, job_id: str) -> bool:
        if self._is_here(job_id):
            return False
        return await self._db.read(queries.has_ended, job_id)

    async def _step(self, job_id: str, woken: asyncio.Event) -> None:
        poll = None if self._is_here(job_id) else self._poll_seconds
        with suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), poll)
        woken.clear()
