"""The formula of the wait, beside a plain queue of plain tasks: within 25 % of it.

Covers: app.jobs.estimate, app.jobs.store.backlog, app.speech.engines.http.latency
"""

import asyncio
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.estimate import expected_wait
from app.jobs.store.backlog import Backlog
from app.speech.engine import Throughput
from app.speech.engines.http.latency import LatencyAverage
from tests.support.virtual_clock import run_on_virtual_clock

PACED = Throughput(interval_seconds=0.5, call_seconds=2.0, max_concurrent_calls=100)
FREE = Throughput(0.0, 2.0, 100)
NARROW = Throughput(0.0, 2.0, 2)
SLOW = Throughput(0.0, 30.0, 100)
CLOSE = 0.25
ROUTE = ("a", "model")
Ahead = tuple[Backlog, Throughput]


def until(
    own: Throughput,
    ahead: Ahead | None = None,
    calls: int = 1,
    *,
    at_once: int = 32,
    together: int = 1,
) -> float:
    found, _ = expected_wait(
        [ahead] if ahead else [], ROUTE, own, calls, max_jobs=at_once, max_parts=together
    )
    return found


def backlog(
    own: Throughput,
    jobs: int,
    calls: int = 1,
    *,
    running: int = 0,
    open_calls: int = 0,
    engine: str = "a",
) -> Ahead:
    return Backlog(engine, "model", jobs, running, jobs * calls, open_calls), own


def close_to(seconds: float) -> float:
    return pytest.approx(seconds, rel=CLOSE)  # type: ignore[no-any-return]


def test_alone_it_is_the_call() -> None:
    assert until(PACED) == 2.0
    assert until(FREE) == 2.0


def test_parts_follow_each_other_or_go_together() -> None:
    assert until(FREE, calls=3) == 6.0
    assert until(FREE, calls=3, together=3) == 2.0
    assert until(PACED, calls=3, together=3) == 2 * 0.5 + 2.0
    assert until(FREE, calls=5, together=2) == 6.0
    assert until(NARROW, calls=4, together=4) == 4.0


def test_everybody_before_takes_a_step() -> None:
    assert until(PACED, backlog(PACED, 10)) == pytest.approx(10 * 0.5 + 2.0)


def test_jobs_wait_for_a_slot_of_a_job() -> None:
    assert until(FREE, backlog(FREE, 10), at_once=1) == pytest.approx(22.0)
    assert until(FREE, backlog(FREE, 9), at_once=5) == close_to(4.0)
    assert until(FREE, backlog(FREE, 2, 3), at_once=1) == pytest.approx(14.0)
    assert until(FREE, backlog(FREE, 4), at_once=5) == 2.0  # a slot is free


def test_calls_wait_for_a_slot_of_a_call() -> None:
    assert until(NARROW, backlog(NARROW, 5)) == close_to(6.0)


def test_running_jobs_are_taken_to_end_evenly() -> None:
    calling = backlog(FREE, 4, running=4, open_calls=4)
    assert until(FREE, calling, at_once=4) == close_to(2.0 + 0.5)  # one of them is 1.5 s old
    assert until(FREE, calling, at_once=4) == close_to(2.0)  # all of them are late


def test_what_runs_and_has_no_call_yet_has_yet_to_take_its_step() -> None:
    assert until(PACED, backlog(PACED, 10, running=10)) == close_to(0.5 + 9 * 0.5 + 2.0)


def test_calls_under_way_have_taken_their_step() -> None:
    assert until(PACED, backlog(PACED, 10, running=10, open_calls=10)) == 2.0


def test_several_calls_of_one_job_go_on_together() -> None:
    calling = backlog(FREE, 1, 4, running=1, open_calls=2)
    # Two calls that are 1.0 and 1.5 s old, then two more; then it is our turn.
    assert until(FREE, calling, at_once=1, together=2) == pytest.approx(3.0 + 2.0)


def test_jobs_of_another_engine_hold_job_slots_and_take_no_steps() -> None:
    assert until(PACED, backlog(SLOW, 10, engine="b")) == 2.0
    assert until(PACED, backlog(SLOW, 1, engine="b"), at_once=1) == pytest.approx(32.0)


def test_more_jobs_run_than_this_process_allows_where_others_run_some() -> None:
    # Calls that are 0.5, 1.0, 1.5 and 1.8 s old: two of them run elsewhere.
    busy = backlog(FREE, 4, running=4, open_calls=4)
    assert until(FREE, busy, at_once=2) == close_to(1.0 + 2.0)


def test_a_pause_of_the_engine_comes_first() -> None:
    resting = Throughput(0.5, 2.0, 100, 3, paused_seconds=12, pause_reason="it is down")
    found, basis = expected_wait([], ROUTE, resting, 1, max_jobs=1, max_parts=1)
    assert found == 14.0
    assert "moving average of 3 calls" in basis
    assert "it is down" in basis


@given(
    st.integers(0, 40),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 3),
    st.floats(0, 2),
    st.floats(0, 3),
)
def test_nobody_waits_less_than_the_rate_allows_nor_for_ever(
    jobs: int, each: int, calls: int, at_once: int, together: int, gap: float, pause: float
) -> None:
    own = Throughput(gap, 1.0, 3, paused_seconds=pause)
    ahead = backlog(own, jobs, each) if jobs else None
    found = until(own, ahead, calls, at_once=at_once, together=together)
    total = calls + jobs * each
    assert found >= pause + 1.0 + gap * (total - 1) - 1e-6
    assert found >= pause + ceil(calls / together) * 1.0
    assert found <= pause + (total + 1) * (1.0 + gap) + 1e-6


def test_an_average_follows_its_last_calls() -> None:
    speed = LatencyAverage()
    assert speed.of("m", 5.0) == (5.0, 0)
    for _ in range(3):
        speed.record("m", 1.0)
    assert speed.of("m", 5.0) == (pytest.approx(1.0), 3)
    for _ in range(20):
        speed.record("m", 3.0)
    average, calls = speed.of("m", 5.0)
    assert (2.9 < average < 3.0, calls) == (True, 23)


async def _play(own: Throughput, jobs: list[int], at_once: int) -> float:
    """Make the calls with a plain queue of plain tasks; return when the last job ended."""
    slots, calls = asyncio.Semaphore(at_once), asyncio.Semaphore(own.max_concurrent_calls)
    loop = asyncio.get_running_loop()
    next_call_at = own.interval_seconds

    async def call() -> None:
        nonlocal next_call_at
        async with calls:
            at = max(next_call_at, loop.time())
            next_call_at = at + own.interval_seconds
            await asyncio.sleep(at - loop.time())
            await asyncio.sleep(own.call_seconds)

    async def job(count: int) -> float:
        async with slots:
            for _ in range(count):
                await call()
        return loop.time()

    return (await asyncio.gather(*map(job, jobs)))[-1]


@pytest.mark.parametrize("own", [PACED, FREE, NARROW])
def test_the_estimate_is_close_to_the_wait_of_real_tasks(own: Throughput) -> None:
    jobs = [1, 3, 2, 1, 4, 1, 2, 2, 1, 3]
    ahead = Backlog(*ROUTE, len(jobs) - 1, 0, sum(jobs[:-1])), own
    waited = run_on_virtual_clock(_play(own, jobs, 4))
    assert until(own, ahead, jobs[-1], at_once=4) == close_to(waited)
