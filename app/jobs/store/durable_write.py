"""Writing what must not be lost."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Concatenate

import sqlalchemy as sa
import structlog

from app.db.database import Database, P, T, Transaction
from app.errors import DatabaseUnavailable
from app.jobs.store.job import Job

DATABASE_PAUSE_SECONDS = 2.0
LAST_WRITE_SECONDS = 5.0  # that a cancelled run takes to keep what it has

log = structlog.get_logger()


async def surely(
    db: Database,
    work: Callable[Concatenate[sa.Connection, Job, P], T],
    job: Job,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Write as the job's run, again and again while the database is away.

    What it tells meanwhile is held back, so that its events have their place in it. A cancelled
    run tries on as well, but not for ever.
    """
    async with job.run.live_text.holding_back():
        return await patiently(db, work, job, *args, **kwargs)


async def patiently(db: Database, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Write what is no step of a run, as `surely` does."""
    return await to_the_end(retried(db, work, *args, **kwargs))


async def to_the_end(keeping: Coroutine[Any, Any, T]) -> T:
    """Do what keeps something that was paid for; a cancelled run goes on with it for a moment."""
    task = asyncio.create_task(keeping)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):  # StaleRun, or TimeoutError: nothing more can be done
            await asyncio.wait_for(task, LAST_WRITE_SECONDS)
        raise


async def retried(db: Database, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Write, again and again while the database is away; for what runs `to_the_end`."""
    while True:
        try:
            return await db.write(work, *args, **kwargs)
        except DatabaseUnavailable:
            log.warning("run.database_unavailable")
            await asyncio.sleep(DATABASE_PAUSE_SECONDS)
