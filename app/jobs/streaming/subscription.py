"""The wake-up of one reader of a job's events."""

import asyncio


class Subscription:
    """Notifications are coalesced: those that come before the reader runs again wake it once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_notified = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    def notify(self) -> None:
        """Wake the reader, or let its next `wait` return at once."""
        self._is_notified = True
        self._wake()

    def clear(self) -> None:
        """Clear notifications: the reader is about to read all that there is."""
        self._is_notified = False

    async def wait(self, seconds: float) -> None:
        """Return when notified since the last `clear`, or after so many seconds."""
        if self._is_notified:
            return
        self._deadline = self._loop.time() + seconds
        # A timer that is set already finds a later deadline by itself: most events need none.
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
