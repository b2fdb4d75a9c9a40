"""The budget of decoded audio in memory: its limit, its order, and its two exceptions.

Covers: app.jobs.execution.audio_budget
"""

import asyncio

import pytest

from app.jobs.execution.audio_budget import Allocation, AudioBudget, RunShare

pytestmark = pytest.mark.anyio


async def waiting(share: RunShare, size: int) -> "asyncio.Task[Allocation]":
    task = asyncio.create_task(share.take(size))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_allocations_stay_within_the_budget_and_shrinking_frees_bytes() -> None:
    budget = AudioBudget(100)
    share = RunShare(budget)
    first = await share.take(60)
    second = await waiting(share, 60)
    assert not second.done()
    first.shrink(40)
    assert (await second).bytes == 60
    assert budget.used == 100


async def test_a_run_without_a_part_always_gets_one() -> None:
    budget = AudioBudget(100)
    others = RunShare(budget)
    await others.take(100)
    mine = RunShare(budget)
    held = await mine.take(500)
    again = await waiting(mine, 1)
    assert not again.done()
    held.release()
    assert (await again).bytes == 1
    assert budget.used == 101


async def test_allocations_are_granted_in_order() -> None:
    budget = AudioBudget(100)
    shares = [RunShare(budget) for _ in range(3)]
    helds = [await share.take(30) for share in shares]
    large = await waiting(shares[0], 40)
    small = await waiting(shares[1], 5)
    assert not large.done()
    assert not small.done()  # behind the other one, although it would fit
    helds[2].release()
    await large
    assert not small.done()
    large.result().release()
    await small


async def test_a_cancelled_wait_allocates_nothing() -> None:
    budget = AudioBudget(100)
    share = RunShare(budget)
    held = await share.take(90)
    given_up = await waiting(share, 50)
    next_one = await waiting(share, 10)
    given_up.cancel()
    await next_one
    held.release()
    held.release()
    assert budget.used == 10


async def test_an_allocation_granted_during_a_cancel_is_released() -> None:
    budget = AudioBudget(100)
    share = RunShare(budget)
    held = await share.take(100)
    late = await waiting(share, 100)
    held.release()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (budget.used, share.bytes) == (0, 0)


async def opened(share: RunShare, size: int) -> tuple["asyncio.Task[None]", asyncio.Event]:
    """Open a window in a task, which closes it when the event is set."""
    closing = asyncio.Event()

    async def hold() -> None:
        async with share.window(size):
            await closing.wait()

    task = asyncio.create_task(hold())
    for _ in range(3):
        await asyncio.sleep(0)
    return task, closing


async def test_windows_wait_for_free_bytes() -> None:
    budget = AudioBudget(100)
    first, close_first = await opened(RunShare(budget), 60)
    second, close_second = await opened(RunShare(budget), 60)
    assert (budget.used, budget.windows) == (60, 1)
    close_first.set()
    await first
    await asyncio.sleep(0)
    assert (budget.used, budget.windows) == (60, 1)
    close_second.set()
    await second
    assert (budget.used, budget.windows) == (0, 0)


async def test_the_first_window_is_granted_at_any_size() -> None:
    budget = AudioBudget(100)
    mine = RunShare(budget)
    task, close = await opened(mine, 500)
    held = await mine.take(500)  # the only part of its run
    other, close_other = await opened(RunShare(budget), 1)
    again = await waiting(mine, 1)
    assert not again.done()
    held.release()
    assert (await again).bytes == 1  # before the waiting window
    close.set()
    await task
    await asyncio.sleep(0)
    assert (budget.used, budget.windows) == (2, 1)
    close_other.set()
    await other


async def test_a_cancelled_window_allocates_nothing() -> None:
    budget = AudioBudget(100)
    first, close = await opened(RunShare(budget), 100)
    given_up, _ = await opened(RunShare(budget), 10)
    given_up.cancel()
    late, _ = await opened(RunShare(budget), 100)
    close.set()
    await first
    late.cancel()  # at the moment at which it is granted
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (budget.used, budget.windows) == (0, 0)
