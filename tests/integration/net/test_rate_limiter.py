"""Slots at even intervals, never saved up; a block voids the slots reserved before it.

Both stores pass the same tests: in memory, and in rows shared by several processes.

Covers: app.net.rate_limiter, app.db.rate_limit
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from app.db.database import Database
from app.db.migrate import open_database
from app.db.rate_limit import RowSlots, rate_limit
from app.db.schema import database_now
from app.errors import DatabaseUnavailable
from app.net.rate_limiter import (
    LATE_SHARE,
    RATE_SHARE,
    MemorySlots,
    QueueTooLongError,
    RateLimiter,
    SlotStore,
)

pytestmark = pytest.mark.anyio
FOR_EVER = 1e6
Pass = Callable[[float], Awaitable[None]]


class Hand:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "rows"])
def stage(request: pytest.FixtureRequest) -> tuple[SlotStore, Pass]:
    """A store without reserved slots, and a function that advances its time."""
    if request.param == "memory":
        clock = Hand()

        async def turn(seconds: float) -> None:
            clock.now += seconds

        return MemorySlots(clock), turn

    db: Database = request.getfixturevalue("shared")

    async def age(seconds: float) -> None:
        past = sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        values = {name: rate_limit.c[name] - past for name in ("next_slot_at", "blocked_until")}
        await db.write(lambda tx: tx.execute(sa.update(rate_limit).values(values)))

    return RowSlots(db), age


def near(seconds: float) -> object:
    """Compare seconds of a store approximately, because the database's clock continues."""
    return pytest.approx(seconds, abs=0.25)


async def waits(steps: SlotStore, gap: float, count: int = 1, key: str = "k") -> list[float]:
    return [(await steps.reserve(key, gap, FOR_EVER))[0] for _ in range(count)]


async def test_the_first_slot_is_one_interval_after_the_start(
    stage: tuple[SlotStore, Pass],
) -> None:
    steps, _ = stage
    assert await waits(steps, 6, 2) == [near(6), near(12)]
    assert await waits(steps, 20, key="other") == [near(20)]


async def test_unused_slots_are_lost_and_an_idle_limiter_has_a_free_slot(
    stage: tuple[SlotStore, Pass],
) -> None:
    steps, passed = stage
    await waits(steps, 6)
    await passed(100)
    assert await waits(steps, 6, 3) == [near(0), near(6), near(12)]


async def test_a_slot_beyond_the_timeout_is_not_reserved(
    stage: tuple[SlotStore, Pass],
) -> None:
    steps, passed = stage
    assert await steps.reserve("k", 5.0, 4.0) == (near(5), None)
    assert await steps.reserve("k", 5.0, 5.5) == (near(5), 0)
    assert await steps.reserve("k", 5.0, 5.5) == (near(10), None)
    await passed(60)
    assert await steps.reserve("k", 5.0, 0.0) == (0, 0)


async def test_a_block_voids_the_reserved_slots_and_is_never_shortened(
    stage: tuple[SlotStore, Pass],
) -> None:
    steps, passed = stage
    await waits(steps, 6, 3)
    await steps.block("k", 70)
    await steps.block("k", 10)
    assert await steps.block_count("k") == 2
    assert await steps.reserve("k", 6, FOR_EVER) == (near(70), 2)
    assert await waits(steps, 6) == [near(76)]
    await passed(100)
    await steps.block("k", 3)
    assert await waits(steps, 6) == [near(3)]


async def test_a_block_may_come_before_any_slot_and_is_of_its_key_only(
    stage: tuple[SlotStore, Pass],
) -> None:
    steps, _ = stage
    assert await steps.block_count("k") == 0
    await steps.block("k", 9)
    assert await steps.reserve("k", 6, FOR_EVER) == (near(9), 1)
    assert await steps.block_count("other") == 0


async def test_processes_of_one_database_reserve_slots_by_one_clock(
    shared_url: str,
) -> None:
    gap, takers, steps_each = 0.5, 4, 12
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        dbs = [
            await stack.enter_async_context(open_database(shared_url, pool=3))
            for _ in range(takers)
        ]
        stores = [RowSlots(db) for db in dbs]
        began = loop.time()

        async def take(store: RowSlots) -> float:
            seconds, holds = await store.reserve("k", gap, FOR_EVER)
            assert holds == 0
            return loop.time() + seconds

        moments = sorted(await asyncio.gather(*(take(s) for s in stores * steps_each)))
        await stores[0].block("k", 40)
        assert await stores[1].block_count("k") == 1
        assert await stores[2].reserve("k", gap, 1) == (near(40), None)
    expected = [began + gap * (at + 1) for at in range(takers * steps_each)]
    # None is early, and all are late by the same time: that of the first query.
    assert all(-0.01 < moment - at < 1 for moment, at in zip(moments, expected, strict=True))
    assert min(b - a for a, b in itertools.pairwise(moments)) > gap - 0.2


async def test_without_its_database_there_are_no_slots() -> None:
    class Away:
        is_shared = True

        async def write(self, *_: object) -> None:
            raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        await RateLimiter(RowSlots(Away())).acquire("k", 60, 9)  # type: ignore[arg-type]


async def test_an_error_says_how_long_the_wait_would_be() -> None:
    with pytest.raises(QueueTooLongError) as caught:
        await RateLimiter(MemorySlots(Hand())).acquire("k", 6 / RATE_SHARE, 9)
    assert caught.value.seconds == pytest.approx(10)


async def test_calls_go_at_even_intervals_and_after_a_block() -> None:
    limiter = RateLimiter(MemorySlots())
    loop = asyncio.get_running_loop()
    left: list[float] = []

    async def call() -> None:
        await limiter.acquire("k", 60 / 0.02, FOR_EVER)
        left.append(loop.time())

    async with asyncio.TaskGroup() as group:
        began = loop.time()
        for _ in range(10):
            group.create_task(call())
        await asyncio.sleep(0.05)
        before = len(left)
        await limiter.block("k", 0.2)
    assert before < 4
    assert min(moment - began for moment in left[before:]) >= 0.24
    gaps = [b - a for a, b in itertools.pairwise(left[before:])]
    assert sum(gaps) >= 0.02 / RATE_SHARE * len(gaps) - 0.02


async def test_calls_delayed_by_a_stall_do_not_leave_in_a_burst() -> None:
    limiter = RateLimiter(MemorySlots())
    left: list[float] = []

    async def call() -> None:
        await limiter.acquire("k", 60 / 0.02, FOR_EVER)
        await limiter.pace_departure("k", 60 / 0.02)
        left.append(time.monotonic())

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(call())
        await asyncio.sleep(0.03)
        time.sleep(0.2)  # noqa: ASYNC251 - the stall
    assert len(left) == 20
    assert left[10] - left[1] >= 0.02 * (9 - LATE_SHARE)


async def test_a_block_is_a_minute_at_most() -> None:
    steps = MemorySlots(Hand())
    await RateLimiter(steps).block("k", 86_400)
    assert await waits(steps, 1) == [60]


@given(st.lists(st.floats(0, 5), max_size=60))
def test_no_two_slots_are_closer_than_the_interval(pauses: list[float]) -> None:
    clock = Hand()
    steps = MemorySlots(clock)
    moments = []
    for pause in pauses:
        clock.now += pause
        moments.append(clock.now + _take(steps))
    assert all(b - a >= 0.6 - 1e-6 for a, b in itertools.pairwise(moments))


def _take(steps: MemorySlots) -> float:
    """Run a coroutine that never waits, without an event loop."""
    taking = steps.reserve("k", 0.6, FOR_EVER)
    with pytest.raises(StopIteration) as end:
        taking.send(None)
    return float(end.value.value[0])


async def test_the_call_of_the_highest_priority_gets_the_next_slot() -> None:
    limiter, gap = RateLimiter(MemorySlots()), 0.04
    order: list[int] = []

    async def call(priority: int) -> None:
        await limiter.acquire("k", 60 / gap, FOR_EVER, priority)
        order.append(priority)

    async with asyncio.TaskGroup() as group:
        began = time.monotonic()
        for _ in range(8):
            group.create_task(call(0))
        await asyncio.sleep(gap / 4)
        group.create_task(call(-5))
        group.create_task(call(7))
    took = time.monotonic() - began
    assert order == [7, *[0] * 8, -5]
    assert took >= 10 * gap  # as many steps as callers: none was jumped into


async def test_try_acquire_takes_a_slot_only_if_one_is_free_and_no_call_waits() -> None:
    clock = Hand()
    steps = MemorySlots(clock)
    limiter = RateLimiter(steps, clock)
    assert not await limiter.try_acquire("k", 60)  # the first interval after a start
    clock.now += 60 / RATE_SHARE
    assert await limiter.try_acquire("k", 60)
    assert not await limiter.try_acquire("k", 60)
    assert await steps.reserve("k", 1 / RATE_SHARE, 0.0) == (pytest.approx(1 / RATE_SHARE), None)
    waiting = asyncio.create_task(limiter.acquire("k", 60, FOR_EVER))
    await asyncio.sleep(0)
    clock.now += 60
    assert not await limiter.try_acquire("k", 60)
    await waiting
    clock.now += 60
    assert await limiter.try_acquire("k", 60)


async def test_try_acquire_takes_a_slot_of_a_row_only_if_one_is_free(shared: Database) -> None:
    limiter = RateLimiter(RowSlots(shared))
    assert not await limiter.try_acquire("k", 60)
    await shared.write(
        lambda tx: tx.execute(sa.update(rate_limit).values(next_slot_at=database_now(-1)))
    )
    assert await limiter.try_acquire("k", 60)
    assert not await limiter.try_acquire("k", 60)


async def test_waiting_calls_use_every_slot_and_the_last_one_reserves_no_further_one() -> None:
    steps, interval = MemorySlots(), 0.02
    limiter = RateLimiter(steps)
    for _ in range(3):
        await asyncio.gather(*(limiter.acquire("k", 60 / interval, FOR_EVER) for _ in range(2)))
    next_step, _ = await steps.reserve("k", interval / RATE_SHARE, FOR_EVER)
    assert next_step <= interval / RATE_SHARE


async def test_a_cancelled_call_leaves_its_slot_to_the_next_one() -> None:
    limiter, interval = RateLimiter(MemorySlots()), 0.05
    began = time.monotonic()
    first, second = (
        asyncio.create_task(limiter.acquire("k", 60 / interval, FOR_EVER)) for _ in range(2)
    )
    await asyncio.sleep(0.01)
    first.cancel()
    await second
    assert time.monotonic() - began < 1.9 * interval
    third = asyncio.create_task(limiter.acquire("k", 60 / interval, FOR_EVER))
    await asyncio.sleep(0.01)
    third.cancel()
    await asyncio.wait({third})
    async with asyncio.timeout(1):
        await limiter.acquire("k", 60 / interval, FOR_EVER)


async def test_without_its_database_every_waiting_call_fails() -> None:
    class Failing(MemorySlots):
        async def block_count(self, key: str) -> int:
            raise DatabaseUnavailable(key)

    limiter = RateLimiter(Failing())
    calls = (limiter.acquire("k", 60 / 0.1, FOR_EVER) for _ in range(3))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [DatabaseUnavailable] * 3


async def test_a_call_overtaken_beyond_its_timeout_fails() -> None:
    limiter, gap = RateLimiter(MemorySlots()), 0.1
    hasty = asyncio.create_task(limiter.acquire("k", 60 / gap, 1.5 * gap))
    await asyncio.sleep(0)
    await limiter.acquire("k", 60 / gap, FOR_EVER, priority=1)
    with pytest.raises(QueueTooLongError):
        await hasty
