"""When a job's text is there, played through beforehand: whose call goes when. Pure.

Calls leave in the order in which they ask, at an account's pace, as many at once as there are
slots; a job that waits gets its slot when one before it has ended.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lane:
    """Where calls of one model go: seconds until the next may leave, between two, and of each."""

    next_seconds: float
    gap_seconds: float
    call_seconds: float
    max_concurrent_calls: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """A job that came earlier and has so many calls left; `ages` of those that are under way."""

    lane: str
    calls: int
    is_running: bool
    ages: tuple[float, ...] = ()


@dataclass(slots=True)
class _Job:
    order: int
    lane: str
    to_begin: int
    to_end: int


@dataclass(slots=True)
class _Road:
    """A lane with what happens on it: `free` are the moments at which its slots are free."""

    lane: Lane
    step: float
    free: list[float] = field(default_factory=list)

    def leave(self, now: float) -> float:
        """Let a call leave that asks now; return when it has ended."""
        at = max(now, self.step)
        if len(self.free) >= self.lane.max_concurrent_calls:
            at = max(at, heapq.heappop(self.free))
        self.step = at + self.lane.gap_seconds
        return self.keep(at + self.lane.call_seconds)

    def keep(self, end: float) -> float:
        heapq.heappush(self.free, end)
        return end


def seconds_until_text(
    lanes: Mapping[str, Lane],
    ahead: Sequence[Ahead],
    mine: Ahead,
    *,
    jobs_at_once: int,
    calls_together: int,
) -> float:
    """Return in how many seconds a job that is sent now has its last answer.

    `ahead` is in the order in which it is worked on; a job has `calls_together` calls at once.
    """
    roads = {name: _Road(lane, lane.next_seconds) for name, lane in lanes.items()}
    jobs = [_Job(at, one.lane, one.calls, one.calls) for at, one in enumerate((*ahead, mine))]
    running = [jobs[at] for at, one in enumerate(ahead) if one.is_running]
    waiting = [jobs[at] for at, one in enumerate((*ahead, mine)) if not one.is_running][::-1]
    ended: list[tuple[float, int]] = []  # a call's end, and whose it is
    for job in running:
        ages = ahead[job.order].ages[: job.to_begin]
        job.to_begin -= len(ages)
        for age in ages:
            left = max(0.0, roads[job.lane].lane.call_seconds - age)
            heapq.heappush(ended, (roads[job.lane].keep(left), job.order))
    _keep_promises(roads, [job for job in running if not ahead[job.order].ages], ended)
    for job in running:
        _begin(roads, job, 0.0, calls_together - (job.to_end - job.to_begin), ended)
    too_many = max(0, len(running) - jobs_at_once)  # where several processes run jobs
    for _ in range(max(0, jobs_at_once - len(running))):
        _begin_next(roads, waiting, 0.0, calls_together, ended)
    while ended:
        now, order = heapq.heappop(ended)
        job = jobs[order]
        job.to_end -= 1
        if job.to_begin:
            _begin(roads, job, now, 1, ended)
        if job.to_end:
            continue
        if job is jobs[-1]:
            return now
        if too_many:
            too_many -= 1
        else:
            _begin_next(roads, waiting, now, calls_together, ended)
    return 0.0


def _begin_next(
    roads: Mapping[str, _Road],
    waiting: list[_Job],
    now: float,
    together: int,
    ended: list[tuple[float, int]],
) -> None:
    if waiting:
        _begin(roads, waiting.pop(), now, together, ended)


def _begin(
    roads: Mapping[str, _Road],
    job: _Job,
    now: float,
    calls: int,
    ended: list[tuple[float, int]],
) -> None:
    for _ in range(min(calls, job.to_begin)):
        job.to_begin -= 1
        heapq.heappush(ended, (roads[job.lane].leave(now), job.order))


def _keep_promises(
    roads: Mapping[str, _Road], silent: Sequence[_Job], ended: list[tuple[float, int]]
) -> None:
    """Let those go that wait for a step: all before the next free one are taken.

    Of the running jobs without a call the first are taken to have them, the others to be busy
    with their recording: they have yet to ask.
    """
    for name, road in roads.items():
        gap, first = road.lane.gap_seconds, road.lane.next_seconds
        here = [job for job in silent if job.lane == name]
        taken = int(min(len(here), first / gap)) if gap > 0 else 0
        for at, job in enumerate(here[:taken]):
            leaves = first - (taken - at) * gap
            job.to_begin -= 1
            heapq.heappush(ended, (road.keep(leaves + road.lane.call_seconds), job.order))
