"""Everything that goes wrong out there, by name: on the next calls, or by chance from the seed."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.twin import refusals
from tests.twin.refusals import Refusal

How = Literal[
    "whole",
    "reset",
    "hang",
    "cut",
    "halved",
    "torn",
    "drip",
    "mislabelled",
    "page",
    "lost",
    "event",
]


@dataclass(frozen=True)
class Fault:
    """What one fault does.

    `refusal`: an error answer instead of work, free. `is_billed`: the work is done and charged
    first. `how`: the way the answer then takes.
    """

    name: str
    refusal: Callable[[], Refusal] | None = None
    how: How = "whole"
    is_billed: bool = True
    is_slow: bool = False


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("429", refusals.too_often),
        Fault("429-retry-after", lambda: refusals.too_often(retry_after=1)),
        Fault("429-burst", lambda: refusals.too_often("Throttling.BurstRate")),
        Fault("429-quota", lambda: refusals.too_often("Throttling.AllocationQuota")),
        Fault("500", refusals.broken),
        Fault("503", refusals.unavailable),
        Fault("arrearage", refusals.arrearage),
        Fault("bad-key", refusals.bad_key),
        Fault("data-inspection", refusals.inspected),
        Fault("reset-before-first-byte", how="reset", is_billed=False),
        Fault("hang", how="hang", is_billed=False),
        Fault("html-page", how="page", is_billed=False),
        Fault("reset-after-first-byte", how="torn"),
        Fault("cut-short", how="cut"),
        Fault("truncated-json", how="halved"),
        Fault("drip", how="drip"),
        Fault("wrong-content-type", how="mislabelled"),
        Fault("answer-lost", how="lost"),
        Fault("slow", is_slow=True),
        Fault("error-in-stream", how="event", is_billed=False),
    )
}


class Faults:
    """Decides which fault, if any, the next call meets."""

    def __init__(self, seed: int, chances: Mapping[str, float] | None = None) -> None:
        self.chances = dict(chances or {})
        self._random = Random(f"faults {seed}")
        self._next: deque[Fault | None] = deque()
        self._down: dict[str, Fault] = {}
        for name in self.chances:
            FAULTS[name]

    def next(self, *names: str | None, times: int = 1) -> None:
        """Give the next calls these faults, in this order; None lets one pass."""
        chosen = [FAULTS[name] if name else None for name in names]
        self._next.extend(chosen * times)

    def down(self, region: str, name: str = "503") -> None:
        """Give every call to a region this fault, until it is `up` again."""
        self._down[region] = FAULTS[name]

    def up(self, region: str) -> None:
        self._down.pop(region, None)

    def clear(self) -> None:
        self.chances.clear()
        self._next.clear()
        self._down.clear()

    def draw(self, region: str = "") -> Fault | None:
        """Return the fault of a call that just came in."""
        if region in self._down:
            return self._down[region]
        if self._next:
            return self._next.popleft()
        point = self._random.random()
        for name, chance in self.chances.items():
            if point < chance:
                return FAULTS[name]
            point -= chance
        return None
