"""Keeping a lease while a run is at work, and stopping the run once it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.store.job import Run
from app.jobs.store.runs import StaleRun, renew

RENEWALS_A_LEASE = 3

log = structlog.get_logger()


@asynccontextmanager
async def renewing_lease(db: Database, run: Run) -> AsyncIterator[None]:
    """Renew the run's lease until the block ends; raise StaleRun inside it when that fails."""
    lost = asyncio.Event()
    renewing = asyncio.create_task(_renew(db, run, lost, asyncio.current_task()))
    try:
        yield
    except asyncio.CancelledError:
        if not lost.is_set():
            raise
        if (worker := asyncio.current_task()) is not None:
            worker.uncancel()
        raise StaleRun(run.job_id) from None
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


async def _renew(
    db: Database, run: Run, lost: asyncio.Event, worker: "asyncio.Task[object] | None"
) -> None:
    while True:
        await asyncio.sleep(run.lease_seconds / RENEWALS_A_LEASE)
        try:
            await db.write(renew, run)
        except StaleRun:
            lost.set()
            if worker is not None:
                worker.cancel()
            return
        except DatabaseUnavailable:
            # For a moment, perhaps; if it stays away, the run's own next write ends the run.
            log.warning("lease.not_renewed", job=run.job_id)
