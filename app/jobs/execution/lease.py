"""Renewal of a run's lease, and the end of the run when the lease is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.store.job import Run
from app.jobs.store.runs import StaleRun, renew
from app.kit.log import log

RENEWALS_PER_LEASE = 3


class _Renewal:
    """Renews the lease of a run, from the first renewal that is due; most runs end before it."""

    def __init__(self, db: Database, run: Run) -> None:
        self.is_lost = False
        self._db = db
        self._run = run
        self._worker = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._interval = run.lease_seconds / RENEWALS_PER_LEASE
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._start)

    async def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _start(self) -> None:
        self._task = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            try:
                await self._db.write(renew, self._run)
            except StaleRun:
                self.is_lost = True
                if self._worker is not None:
                    self._worker.cancel()
                return
            except DatabaseUnavailable:
                # While the database stays unavailable, the run's next write ends the run.
                log.warning("lease.not_renewed", job=self._run.job_id)
            await asyncio.sleep(self._interval)


@asynccontextmanager
async def renewing_lease(db: Database, run: Run) -> AsyncIterator[None]:
    """Renew the run's lease until the block ends; raise StaleRun inside it when it is lost."""
    renewal = _Renewal(db, run)
    try:
        yield
    except asyncio.CancelledError:
        if not renewal.is_lost:
            raise
        if (worker := asyncio.current_task()) is not None:
            worker.uncancel()
        raise StaleRun(run.job_id) from None
    finally:
        await renewal.stop()
