"""Follows the event log of a job from any position, as it grows.

A reader holds only its position. In the process that runs the job it reads from the live log,
elsewhere from the database.
"""

import asyncio
from collections.abc import Sequence

from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.streaming.cursor import Position
from app.jobs.streaming.hub import StreamHub
from app.jobs.streaming.log import LogItem
from app.jobs.streaming.stored_log import read_events
from app.jobs.streaming.subscription import Subscription
from app.jobs.tables import ENDED
from app.kit.log import log


class EventReader:
    """One reader of one job. `has_ended`: nothing follows the items that `next` has returned.

    `is_new`: the job was created just now, so that nothing is stored behind `at`.
    """

    def __init__(
        self,
        db: Database,
        hub: StreamHub,
        job_id: str,
        at: Position,
        *,
        subscription: Subscription,
        poll_seconds: float,
        is_new: bool = False,
    ) -> None:
        self.has_ended = self.is_erased = False
        self._db, self._hub, self._job_id, self._at = db, hub, job_id, at
        self._subscription = subscription
        self._poll_seconds = poll_seconds
        self._is_new = is_new

    @property
    def is_closing(self) -> bool:
        """Whether this process is shutting down, and the client has to reconnect to another one."""
        return self._hub.is_closing

    async def next(self, seconds: float) -> Sequence[LogItem]:
        """Return the next items; none if there are none within so many seconds, or at the end."""
        now = asyncio.get_running_loop().time
        until = now() + seconds
        while not self.is_closing:
            self._subscription.clear()
            live = self._hub.live_log(self._job_id)
            items = None if live is None else live.after(self._at)
            is_live = items is not None
            if items is None:
                items = await self._read_stored()
            elif items:
                last = items[-1]
                self._at, self.has_ended = Position(last.seq, last.offset), last.type in ENDED
            left = until - now()
            if items or self.has_ended or left <= 0:
                return items
            await self._subscription.wait(left if is_live else min(left, self._poll_seconds))
        return ()

    async def _read_stored(self) -> Sequence[LogItem]:
        if self._is_new:
            self._is_new = False
            return ()
        try:
            found = await self._db.read(read_events, self._job_id, self._at)
        except DatabaseUnavailable:
            log.warning("events.database_unavailable", job=self._job_id)
            return ()
        if not found.is_all:
            self._subscription.notify()
        self._at, self.has_ended, self.is_erased = found.at, found.has_ended, found.is_erased
        return found.items
