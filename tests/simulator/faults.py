"""Faults of the provider and the network, by name: for the next calls, or random by the seed."""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.simulator import errors
from tests.simulator.errors import ApiError

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
    "twice",
]
Place = Literal["call", "submit", "task", "poll", "result", "policy", "upload"]
Fate = Literal["fails", "fails-partly", "is-forgotten", "sticks"]


@dataclass(frozen=True)
class Fault:
    """The effect of one fault.

    `refusal`: an error answer instead of work, free. `is_billed`: the work is done and charged
    first. `how`: the way in which the answer is then sent. `place`: the kind of request to which
    the fault applies; `call` is any request for work, including a submission; `task` is the work of
    a submitted task, with its `fate`.
    """

    name: str
    refusal: Callable[[], ApiError] | None = None
    how: How = "whole"
    is_billed: bool = True
    is_slow: bool = False
    place: Place = "call"
    fate: Fate | None = None


_CALL = (
    Fault("429", errors.too_often),
    Fault("429-retry-after", lambda: errors.too_often(retry_after=1)),
    Fault("429-burst", lambda: errors.too_often("Throttling.BurstRate")),
    Fault("429-quota", lambda: errors.too_often("Throttling.AllocationQuota")),
    Fault("500", errors.broken),
    Fault("503", errors.unavailable),
    Fault("arrearage", errors.arrearage),
    Fault("bad-key", errors.bad_key),
    Fault("data-inspection", errors.inspected),
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
    Fault("duplicate-frames", how="twice"),
)
_TASK = (
    Fault("submit-answer-lost", how="lost", place="submit"),
    Fault("task-failed", place="task", fate="fails", is_billed=False),
    Fault("task-partly-failed", place="task", fate="fails-partly"),
    Fault("task-unknown", place="task", fate="is-forgotten"),
    Fault("task-stuck", place="task", fate="sticks", is_billed=False),
)
_POLL = (
    Fault("poll-429", errors.too_often, place="poll"),
    Fault("poll-500", errors.broken, place="poll"),
    Fault("poll-503", errors.unavailable, place="poll"),
    Fault("poll-reset", how="reset", place="poll"),
    Fault("poll-hang", how="hang", place="poll"),
    Fault("poll-truncated-json", how="halved", place="poll"),
    Fault("poll-html-page", how="page", place="poll"),
    Fault("poll-slow", is_slow=True, place="poll"),
)
_RESULT = (
    Fault("result-403", errors.expired_address, place="result"),
    Fault("result-500", errors.store_broken, place="result"),
    Fault("result-reset", how="reset", place="result"),
    Fault("result-hang", how="hang", place="result"),
    Fault("result-cut-short", how="cut", place="result"),
    Fault("result-truncated-json", how="halved", place="result"),
    Fault("result-html-page", how="page", place="result"),
    Fault("result-drip", how="drip", place="result"),
    Fault("result-slow", is_slow=True, place="result"),
)
_UPLOAD = (
    Fault("policy-429", errors.too_often, place="policy"),
    Fault("policy-500", errors.broken, place="policy"),
    Fault("upload-refused", errors.expired_policy, place="upload"),
    Fault("upload-500", errors.store_broken, place="upload"),
    Fault("upload-reset", how="reset", place="upload"),
    Fault("upload-answer-lost", how="lost", place="upload"),
    Fault("upload-hang", how="hang", place="upload"),
)
FAULTS = {fault.name: fault for fault in _CALL}
TASK_FAULTS = {fault.name: fault for fault in (*_TASK, *_POLL, *_RESULT, *_UPLOAD)}
ALL_FAULTS = {**FAULTS, **TASK_FAULTS}
_AT_THE_STORE = {"result", "upload"}  # a host of its own, which a region does not take down


class Faults:
    """Decides the fault of each request."""

    def __init__(self, seed: int, chances: Mapping[str, float] | None = None) -> None:
        self.chances = dict(chances or {})
        self._seed = seed
        self._random: dict[Place, Random] = {"call": Random(f"faults {seed}")}
        self._next: defaultdict[Place, deque[Fault | None]] = defaultdict(deque)
        self._down: dict[str, Fault] = {}
        for name in self.chances:
            ALL_FAULTS[name]

    def next(self, *names: str | None, times: int = 1) -> None:
        """Apply these faults to the next requests of their kind, in this order.

        None lets a request pass: of the kind of the names around it, of calls if there is no name.
        """
        chosen = [ALL_FAULTS[name] if name else None for name in names]
        places: set[Place] = {fault.place for fault in chosen if fault} or {"call"}
        if len(places) > 1:
            raise ValueError(f"Faults of several kinds have no common order: {sorted(places)}.")
        self._next[places.pop()].extend(chosen * times)

    def down(self, region: str, name: str = "503") -> None:
        """Apply this fault to every request to a region, until `up` is called."""
        self._down[region] = ALL_FAULTS[name]

    def up(self, region: str) -> None:
        self._down.pop(region, None)

    def clear(self) -> None:
        self.chances.clear()
        self._next.clear()
        self._down.clear()

    def draw(self, region: str = "", place: Place = "call") -> Fault | None:
        """Return the fault of a new request, or None."""
        if region in self._down and place not in _AT_THE_STORE | {"task"}:
            return self._down[region]
        if self._next[place]:
            return self._next[place].popleft()
        return self._by_chance(place)

    def _by_chance(self, place: Place) -> Fault | None:
        if place not in self._random:
            self._random[place] = Random(f"faults {self._seed} {place}")
        point = self._random[place].random()
        for name, chance in self.chances.items():
            if ALL_FAULTS[name].place != place:
                continue
            if point < chance:
                return ALL_FAULTS[name]
            point -= chance
        return None
