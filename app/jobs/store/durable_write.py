"""Database writes that must not be lost: they are retried, and shielded from cancellation."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Concatenate

import sqlalchemy as sa

from app.db.database import Database, P, T, Transaction
from app.errors import DatabaseUnavailable
from app.jobs.store.job import Job
from app.kit.log import log

DATABASE_PAUSE_SECONDS = 2.0  # between two attempts to write
LAST_WRITE_SECONDS = 5.0  # for which a cancelled run still attempts its last write


async def write_of_run(
    db: Database,
    transaction: Callable[Concatenate[sa.Connection, Job, P], T],
    job: Job,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Write durably as the job's run; see `write_durably`.

    Live text of the run is held back meanwhile, so that events written here keep their place in it.
    """
    async with job.run.live_text.holding_back():
        return await write_durably(db, transaction, job, *args, **kwargs)


async def write_durably(
    db: Database, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Write, and retry while the database is unavailable. A cancelled caller finishes the write."""
    return await shielded(retry_write(db, transaction, *args, **kwargs))


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; a cancelled caller lets it run on for at most LAST_WRITE_SECONDS."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):  # StaleRun or TimeoutError: nothing more can be done
            await asyncio.wait_for(task, LAST_WRITE_SECONDS)
        raise


async def retry_write(
    db: Database, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Write, and retry every DATABASE_PAUSE_SECONDS while the database is unavailable."""
    while True:
        try:
            return await db.write(transaction, *args, **kwargs)
        except DatabaseUnavailable:
            log.warning("run.database_unavailable")
            await asyncio.sleep(DATABASE_PAUSE_SECONDS)
