"""Maintenance: work that each process repeats, at its start and then every minute.

It requeues stalled jobs, deletes the bytes of erased audio, what a journal still
holds of erased jobs, and blobs without a row, and checks the
invariants. Work that fails is logged and repeated in the next round.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from app.audio.storage.blob_store import BlobStore
from app.db.database import Database
from app.db.time_limits import StatementTimeoutError, terminate_stalled_sessions
from app.errors import DatabaseUnavailable
from app.jobs import erase
from app.jobs.erase import PendingPurge
from app.jobs.invariants import INVARIANTS, find_violations
from app.jobs.store import runs
from app.jobs.worker.worker import Worker
from app.kit.clock import Clock
from app.kit.log import log, safe_traceback

STALLED_BATCH = 500
LOGGED_JOBS = 20  # ids of requeued jobs in one line of the log
ORPHAN_AGE_SECONDS = 24 * 3600.0  # by then the commit that a blob waits for has long been made
ORPHANS_INTERVAL_SECONDS = 24 * 3600.0
INVARIANTS_INTERVAL_SECONDS = 15 * 60.0
INVARIANT_TIMEOUT_SECONDS = 5.0


class Maintenance:
    """The maintenance of one process."""

    def __init__(
        self, db: Database, store: BlobStore, worker: Worker, *, every_seconds: float, clock: Clock
    ) -> None:
        self._db = db
        self._store = store
        self._worker = worker
        self._every_seconds = every_seconds
        self._now = clock
        self._has_erased = True  # also by a process that was killed
        self._orphans_due = 0.0
        self._invariants_due = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, alone: bool) -> None:
        """Start; `alone` on a database that no other process can share."""
        if alone:
            await self._db.write(runs.clear_leases)
        self._invariants_due = asyncio.get_running_loop().time() + INVARIANTS_INTERVAL_SECONDS
        self._task = asyncio.create_task(self._loop(), name="maintenance")

    async def stop(self) -> None:
        """Stop; jobs already claimed continue."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def note_erasure(self) -> None:
        """Have what was erased removed from the database's journal in the next round."""
        self._has_erased = True

    async def purge(self, pending: Iterable[PendingPurge]) -> None:
        """Delete the bytes of erased audio; a deletion that fails is repeated in a later round."""
        for one in pending:
            try:
                await self._store.erase(one.blob_key)
                await self._db.write(erase.mark_purged, one.audio_id, now=self._now())
            except (DatabaseUnavailable, OSError) as error:
                log.warning("purge.postponed", audio=one.audio_id, frames=safe_traceback(error))

    async def _loop(self) -> None:
        while True:
            try:
                await self._requeue_stalled()
                await self._worker.prune_queue()
                await self.purge(await self._db.read(erase.pending_purges))
                await self._empty_journal()
                await self._remove_orphans()
                await self._check_invariants()
            except Exception as error:  # noqa: BLE001 - the next round must run
                log.error("maintenance.failed", frames=safe_traceback(error))
            await asyncio.sleep(self._every_seconds)

    async def _requeue_stalled(self) -> None:
        """Put every open job that has no worker and no queue entry back into the queue."""
        # Sessions of stopped processes hold locks that block claims of their jobs.
        if self._db.is_shared and (ended := await self._db.write(terminate_stalled_sessions)):
            log.warning("database.stalled_sessions_ended", count=ended)
        last = ""
        while found := await self._db.read(runs.find_stalled, after=last, limit=STALLED_BATCH):
            if added := await self._worker.requeue(found):
                log.info("jobs.requeued", count=len(added), jobs=added[:LOGGED_JOBS])
            last = found[-1].job_id

    async def _empty_journal(self) -> None:
        if self._has_erased:
            self._has_erased = False
            if not await self._db.empty_journal():
                self._has_erased = True

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
        self._orphans_due = loop.time() + ORPHANS_INTERVAL_SECONDS

    async def _check_invariants(self) -> None:
        """Log each violated invariant. A check that takes too long is skipped until next time."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._invariants_due:
            return
        self._invariants_due = loop.time() + INVARIANTS_INTERVAL_SECONDS
        for name in INVARIANTS:
            try:
                found = await self._db.read(find_violations, INVARIANT_TIMEOUT_SECONDS, [name])
            except StatementTimeoutError:
                log.warning("invariant.not_checked", invariant=name)
                continue
            for violation in found:
                log.error(
                    "invariant.violated",
                    invariant=name,
                    count=violation.count,
                    examples=list(violation.examples),
                )
