"""The minimum rate of a request body."""

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.types import Message, Receive

from app.errors import BodyTooSlow


@dataclass(frozen=True, slots=True)
class BodyRate:
    """Limits of a body: its longest pause, and its bytes per second once `grace_seconds` passed."""

    idle_seconds: float
    grace_seconds: float
    min_bytes_per_second: int


class RatedBody:
    """A body whose `receive` raises BodyTooSlow when the client stalls or sends too slowly.

    Only time spent waiting for the client counts: a slow disk of the gateway fails no request. One
    timer serves all messages of a body: `asyncio.timeout` would set one for each.
    """

    def __init__(self, receive: Receive, rate: BodyRate) -> None:
        self._receive, self._rate = receive, rate
        self._received_bytes = 0
        self._waited_seconds = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._receiver: asyncio.Task[Any] | None = None  # while it waits for a message
        self._waits_since = 0.0  # by the clock of the loop
        self._is_idle = False  # the receiver was cancelled because the client stalled
        self.is_complete = False

    async def receive(self) -> Message:
        """Return the next message; after the end of the body without any limit of time."""
        if self.is_complete:
            return await self._receive()
        began = self._waits_since = self._loop.time()
        receiver = self._receiver = asyncio.current_task()
        cancellations = receiver.cancelling() if receiver else 0
        if self._timer is None:
            self._set_timer()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            # Another cancellation may have come at the same time, and counts more.
            if self._is_idle and receiver and receiver.uncancel() <= cancellations:
                raise BodyTooSlow from None
            raise
        finally:
            self._receiver = None
        self._waited_seconds += self._loop.time() - began
        self._received_bytes += len(message.get("body", b""))
        self.is_complete = not message.get("more_body", False)
        if self.is_complete:
            if self._timer is not None:
                self._timer.cancel()
            return message
        expected_bytes = self._rate.min_bytes_per_second * self._waited_seconds
        is_slow = self._received_bytes < expected_bytes
        if is_slow and self._waited_seconds > self._rate.grace_seconds:
            raise BodyTooSlow
        return message

    def _set_timer(self) -> None:
        when = self._waits_since + self._rate.idle_seconds
        self._timer = self._loop.call_at(when, self._check_idle)

    def _check_idle(self) -> None:
        """Cancel the receiver if it has waited for too long. Without a receiver the timer ends."""
        self._timer = None
        if self._receiver is None:
            return
        if self._loop.time() < self._waits_since + self._rate.idle_seconds:
            self._set_timer()
        else:
            self._is_idle = True
            self._receiver.cancel()
