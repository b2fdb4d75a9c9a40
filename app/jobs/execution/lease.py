"""Renewal of a run's lease, and the end of the run when the lease is lost."""

import asyncio
from typing import Any

from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.store.job import Run
from app.jobs.store.runs import StaleRun, renew
from app.kit.log import log

RENEWALS_PER_LEASE = 3


class RenewedLease:
    """Renews the lease of a run until the block ends, and raises StaleRun in it when it is lost.

    The first renewal is due after a third of the lease; most runs end before it.
    """

    def __init__(self, db: Database, run: Run) -> None:
        self._db, self._run = db, run
        self._is_lost = False
        self._worker: asyncio.Task[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._interval = run.lease_seconds / RENEWALS_PER_LEASE

    async def __aenter__(self) -> None:
        self._worker = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._start)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        was_lost = self._is_lost and kind is asyncio.CancelledError
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if was_lost:
            if self._worker is not None:
                self._worker.uncancel()
            raise StaleRun(self._run.job_id) from None

    def _start(self) -> None:
        self._task = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            try:
                await self._db.write(renew, self._run)
            except StaleRun:
                self._is_lost = True
                if self._worker is not None:
                    self._worker.cancel()
                return
            except DatabaseUnavailable:
                # While the database stays unavailable, the run's next write ends the run.
                log.warning("lease.not_renewed", job=self._run.job_id)
            await asyncio.sleep(self._interval)
