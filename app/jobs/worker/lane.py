"""Entries and lanes of the queue: one lane for jobs that work, one for tasks that wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from app.kit.priority_semaphore import PrioritySemaphore

ARRIVES_SECONDS = 5.0  # between taking an entry and starting it, far more than it takes


class Entry(NamedTuple):
    """A job to be advanced after `delay`. There is one entry for each job and epoch."""

    lane: str
    job_id: str
    epoch: int
    priority: int = 0
    delay: timedelta = timedelta(0)


Tick = Callable[[str, "asyncio.Future[None]"], Awaitable[timedelta | None]]
"""Advances a job of this id; returns when to call again, None for never. Raises NoSlot. Once the
future is done its result will not be heard, and it returns at once."""


class NoSlot(Exception):
    """The job could not be started: it goes back to the queue, which alone decides the order."""


@dataclass
class Lane:
    """Jobs of one kind: `slots` bounds the jobs that run, `most` the jobs claimed by this process.

    `is_backlogged`: the queue may have held more jobs than could be started when it was last read.
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
        """Number of entries that could be started if they were taken now."""
        now = time.monotonic()
        coming = sum(now - since < ARRIVES_SECONDS for since in self.arriving.values())
        return min(self.slots.free, self.most - len(self.here)) - coming

    def arrive(self, picked: Sequence[int]) -> None:
        """Note entries that were taken and will start in a moment."""
        now = time.monotonic()
        self.arriving |= {one: now for one in picked if one not in self.here}
