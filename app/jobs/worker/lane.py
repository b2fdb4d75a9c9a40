"""Entries and lanes of the queue: one lane for jobs that work, one for tasks that wait."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from app.kit.priority_semaphore import PrioritySemaphore


class Entry(NamedTuple):
    """A job to be advanced after `delay`. There is one entry for each job and epoch."""

    lane: str
    job_id: str
    epoch: int
    priority: int = 0
    delay: timedelta = timedelta(0)


Tick = Callable[[str], Awaitable[timedelta | None]]
"""Advances the job of this id; returns when to call again, None for never.

Raises NoSlot. Takes its slot before it awaits anything.
"""


class NoSlot(Exception):
    """The job could not be started: it goes back to the queue, which alone decides the order."""


@dataclass
class Lane:
    """Jobs of one kind: `slots` bounds the jobs that run, `max_held` the entries taken here.

    `is_backlogged`: the queue may have held more jobs than could be started when it was last read.
    `held` has the handlers of the entries that this process has taken, by the id of the entry.
    """

    name: str
    tick: Tick
    slots: PrioritySemaphore
    max_held: int
    is_backlogged: bool = False
    held: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def capacity(self) -> int:
        """Number of entries that could be started if they were taken now."""
        return min(self.slots.free, self.max_held - len(self.held))
