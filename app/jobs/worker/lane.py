"""What waits in the queue, and in which of its lanes: jobs that work, and tasks that wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from app.kit.priority_semaphore import PrioritySemaphore

ARRIVES_SECONDS = 5.0  # between taking an entry and beginning it, far more than it takes


class Entry(NamedTuple):
    """A job that wants to be advanced, after `delay`. There is one of a job and an epoch."""

    lane: str
    job_id: str
    epoch: int
    priority: int = 0
    delay: timedelta = timedelta(0)


Tick = Callable[[str, "asyncio.Future[None]"], Awaitable[timedelta | None]]
"""Advances a job of this id; returns when to call again, None for never. Raises NoSlot. Once the
future is done its result will not be heard, and it returns at once."""


class NoSlot(Exception):
    """The job could not be begun: it goes back to the queue, which alone says who is next."""


@dataclass
class Lane:
    """Jobs of one sort: `slots` bound how many are begun at once, `most` how many are here at all.

    `is_pressed`: there may be more in the queue than could be begun when it was last looked at.
    """

    name: str
    tick: Tick
    slots: PrioritySemaphore
    most: int
    is_backlogged: bool = False
    here: set[int] = field(default_factory=set)
    arriving: dict[int, float] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """How many entries could be begun if they were taken now."""
        now = time.monotonic()
        coming = sum(now - since < ARRIVES_SECONDS for since in self.arriving.values())
        return min(self.slots.free, self.most - len(self.here)) - coming

    def arrive(self, picked: Sequence[int]) -> None:
        """Take note of entries that were taken and will begin in a moment."""
        now = time.monotonic()
        self.arriving |= {one: now for one in picked if one not in self.here}
