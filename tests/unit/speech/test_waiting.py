"""When a text is there, beside a plain simulation of what would happen."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.speech.engines.http.latency import LatencyAverage
from app.speech.planning.queue_simulation import Ahead, Lane, seconds_until_text

PACED = Lane(next_seconds=0.5, gap_seconds=0.5, call_seconds=2.0, max_concurrent_calls=100)
FREE = Lane(0.0, 0.0, 2.0, 100)
NARROW = Lane(0.0, 0.0, 2.0, 2)


def until(
    lane: Lane,
    ahead: list[Ahead] | None = None,
    calls: int = 1,
    *,
    at_once: int = 32,
    together: int = 1,
    **others: Lane,
) -> float:
    return seconds_until_text(
        {"a": lane, **others},
        ahead or [],
        Ahead("a", calls, is_running=False),
        jobs_at_once=at_once,
        calls_together=together,
    )


def waiting(count: int, calls: int = 1, lane: str = "a") -> list[Ahead]:
    return [Ahead(lane, calls, is_running=False)] * count


def running(count: int, calls: int = 1, lane: str = "a") -> list[Ahead]:
    return [Ahead(lane, calls, is_running=True)] * count


def test_alone_it_is_the_step_and_the_call() -> None:
    assert until(PACED) == 2.5
    assert until(FREE) == 2.0


def test_parts_follow_each_other_or_go_together() -> None:
    assert until(FREE, calls=3) == 6.0
    assert until(FREE, calls=3, together=3) == 2.0
    assert until(PACED, calls=3, together=3) == 0.5 + 2 * 0.5 + 2.0
    assert until(FREE, calls=5, together=2) == 6.0


def test_everybody_before_takes_a_step() -> None:
    assert until(PACED, waiting(10)) == pytest.approx(0.5 + 10 * 0.5 + 2.0)


def test_jobs_wait_for_a_slot_of_a_job() -> None:
    assert until(FREE, waiting(10), at_once=1) == pytest.approx(22.0)
    assert until(FREE, waiting(9), at_once=5) == pytest.approx(4.0)
    assert until(FREE, waiting(2, calls=3), at_once=1) == pytest.approx(14.0)


def test_calls_wait_for_a_slot_of_a_call() -> None:
    assert until(NARROW, waiting(5)) == pytest.approx(6.0)


def test_calls_under_way_end_when_they_have_lasted_long_enough() -> None:
    ages = (0.5, 1.5, 1.0, 0.2)
    calling = [Ahead("a", 1, is_running=True, ages=(age,)) for age in ages]
    assert until(FREE, calling, at_once=4) == pytest.approx(0.5 + 2.0)
    late = [Ahead("a", 1, is_running=True, ages=(9.0,))] * 4
    assert until(FREE, late, at_once=4) == pytest.approx(2.0)


def test_what_runs_and_has_no_call_yet_has_yet_to_ask_for_its_step() -> None:
    assert until(PACED, running(10)) == pytest.approx(0.5 + 9 * 0.5 + 2.0)


def test_several_calls_of_one_job_go_on_together() -> None:
    calling = [Ahead("a", 4, is_running=True, ages=(1.0, 1.5))]
    # Its two calls end after 0.5 and 1.0, the next two after 2.5 and 3.0; then it is our turn.
    assert until(FREE, calling, at_once=1, together=2) == pytest.approx(3.0 + 2.0)


def test_steps_that_are_taken_already_are_not_taken_twice() -> None:
    promised = Lane(next_seconds=5.0, gap_seconds=0.5, call_seconds=2.0, max_concurrent_calls=100)
    assert until(promised, running(10)) == pytest.approx(7.0)


def test_another_lanes_jobs_hold_slots_and_no_steps() -> None:
    slow = Lane(0.0, 0.0, 30.0, 100)
    assert until(PACED, waiting(10, lane="b"), b=slow) == 2.5
    assert until(PACED, waiting(1, lane="b"), at_once=1, b=slow) == pytest.approx(32.0)


def test_more_jobs_run_than_this_process_allows_where_others_run_some() -> None:
    busy = [Ahead("a", 1, is_running=True, ages=(age,)) for age in (0.5, 1.0, 1.5, 1.8)]
    found = until(FREE, busy, at_once=2)
    assert found == pytest.approx(1.0 + 2.0)  # three of them have to end before one more may begin


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=40),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 3),
    st.floats(0, 2),
    st.floats(0, 3),
)
def test_nobody_waits_less_than_the_pace_allows_nor_for_ever(
    earlier: list[tuple[bool, int]],
    calls: int,
    at_once: int,
    together: int,
    gap: float,
    step: float,
) -> None:
    ahead = sorted((Ahead("a", n, busy) for busy, n in earlier), key=lambda one: not one.is_running)
    lane = Lane(step, gap, 1.0, 3)
    found = until(lane, ahead, calls, at_once=at_once, together=together)
    total = calls + sum(n for _, n in earlier)
    assert found >= step + 1.0 + gap * (calls - 1) * (calls <= together) - 1e-6
    assert found <= step + (total + 1) * (1.0 + gap) + len(ahead) * gap + 1e-6


def test_an_average_follows_its_last_calls() -> None:
    speed = LatencyAverage()
    assert speed.of("m", 5.0) == (5.0, 0)
    for _ in range(3):
        speed.note("m", 1.0)
    assert speed.of("m", 5.0) == (pytest.approx(1.0), 3)
    for _ in range(20):
        speed.note("m", 3.0)
    average, calls = speed.of("m", 5.0)
    assert (2.9 < average < 3.0, calls) == (True, 23)


async def _play(lane: Lane, jobs: list[int], at_once: int) -> float:
    """Do what is played through, on a scaled clock: a plain queue of plain tasks."""
    scale, slots, calls = (
        0.02,
        asyncio.Semaphore(at_once),
        asyncio.Semaphore(lane.max_concurrent_calls),
    )
    loop = asyncio.get_running_loop()
    began, free = loop.time(), [lane.next_seconds]

    async def call() -> None:
        async with calls:
            at = max(free[0], (loop.time() - began) / scale)
            free[0] = at + lane.gap_seconds
            await asyncio.sleep(at * scale - (loop.time() - began))
            await asyncio.sleep(lane.call_seconds * scale)

    async def job(count: int) -> float:
        async with slots:
            for _ in range(count):
                await call()
        return (loop.time() - began) / scale

    return (await asyncio.gather(*map(job, jobs)))[-1]


@pytest.mark.anyio
@pytest.mark.parametrize("lane", [PACED, FREE, NARROW])
async def test_it_is_what_tasks_do(lane: Lane) -> None:
    jobs = [1, 3, 2, 1, 4, 1, 2, 2, 1, 3]
    ahead = [Ahead("a", count, is_running=False) for count in jobs[:-1]]
    found = until(lane, ahead, jobs[-1], at_once=4)
    assert found == pytest.approx(await _play(lane, jobs, 4), rel=0.25)
