"""Regular maintenance: requeue jobs without a worker, and remove blobs without an owner.

It runs at the start and then each minute; work that fails in one round is tried again in the next.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from app.audio.store import BlobStore
from app.db.database import Database
from app.db.stalled_sessions import terminate_stalled_sessions
from app.errors import DatabaseUnavailable
from app.jobs import erase
from app.jobs.erase import PendingPurge
from app.jobs.store import runs
from app.jobs.worker.worker import Worker
from app.kit.clock import Clock
from app.kit.log import log, safe_traceback

FORSAKEN_AT_ONCE = 500
ORPHAN_AGE_SECONDS = 24 * 3600.0  # by then the commit that a blob waits for has long been made
ORPHANS_EVERY_SECONDS = 24 * 3600.0


class Maintenance:
    """Requeues open jobs and removes unused blobs."""

    def __init__(
        self, db: Database, store: BlobStore, runner: Worker, *, every_seconds: float, clock: Clock
    ) -> None:
        self._db = db
        self._store = store
        self._runner = runner
        self._every_seconds = every_seconds
        self._now = clock
        self._orphans_due = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, alone: bool) -> None:
        """Start; `alone` on a database that no other process can share."""
        if alone:
            await self._db.write(runs.clear_leases)
        self._task = asyncio.create_task(self._loop())

    async def stop(self) -> None:
        """Stop; jobs already claimed continue."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def purge(self, leftovers: Iterable[PendingPurge]) -> None:
        """Remove erased audio from the store; a removal that fails is tried again later."""
        for leftover in leftovers:
            try:
                await self._store.erase(leftover.blob_key)
                await self._db.write(erase.mark_purged, leftover.audio_id, now=self._now())
            except (DatabaseUnavailable, OSError) as error:
                log.warning(
                    "purge.postponed", audio=leftover.audio_id, frames=safe_traceback(error)
                )

    async def _loop(self) -> None:
        while True:
            try:
                await self._terminate_stalled()
                await self._put_back_forsaken()
                await self._runner.tidy()
                await self.purge(await self._db.read(erase.pending_purges))
                await self._remove_orphans()
            except Exception as error:  # noqa: BLE001 - the next round must run
                log.error("maintenance.failed", frames=safe_traceback(error))
            await asyncio.sleep(self._every_seconds)

    async def _terminate_stalled(self) -> None:
        """End database sessions of stalled processes: their locks block claims of their jobs."""
        if self._db.is_shared and (ended := await self._db.write(terminate_stalled_sessions)):
            log.warning("database.stalled_sessions_ended", count=ended)

    async def _put_back_forsaken(self) -> None:
        """Put every open job that has no worker and no queue entry back into the queue."""
        last = ""
        while found := await self._db.read(runs.find_stalled, after=last, limit=FORSAKEN_AT_ONCE):
            if added := await self._runner.requeue(found):
                log.info("jobs.requeued", count=added)
            last = found[-1].job_id

    async def _remove_orphans(self) -> None:
        """Remove blobs that no row names: their process ended between storing and committing."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._orphans_due:
            return
        async for keys in self._store.older_than(ORPHAN_AGE_SECONDS):
            for key in await self._db.read(erase.orphans, keys):
                try:
                    await self._store.erase(key)
                    log.info("store.orphan_removed")
                except OSError as error:
                    log.warning("store.orphan_not_removed", frames=safe_traceback(error))
        self._orphans_due = loop.time() + ORPHANS_EVERY_SECONDS
