"""The minimum rate of a request body."""

import asyncio
import time
from dataclasses import dataclass

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

    Only time spent waiting for the client counts: a slow disk of the gateway fails no request.
    """

    def __init__(self, receive: Receive, rate: BodyRate) -> None:
        self._receive, self._rate = receive, rate
        self._received_bytes = 0
        self._waited_seconds = 0.0
        self.is_complete = False

    async def receive(self) -> Message:
        """Return the next message; after the end of the body without any limit of time."""
        if self.is_complete:
            return await self._receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._rate.idle_seconds):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._waited_seconds += time.monotonic() - began
        self._received_bytes += len(message.get("body", b""))
        self.is_complete = not message.get("more_body", False)
        expected_bytes = self._rate.min_bytes_per_second * self._waited_seconds
        is_slow = self._received_bytes < expected_bytes
        if is_slow and not self.is_complete and self._waited_seconds > self._rate.grace_seconds:
            raise BodyTooSlow
        return message
