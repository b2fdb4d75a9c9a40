"""Slots are limited, and given to the highest priority first.

Covers: app.kit.priority_semaphore
"""

import asyncio

import pytest

from app.kit.priority_semaphore import PrioritySemaphore

pytestmark = pytest.mark.anyio


async def test_the_highest_priority_is_next_and_equals_keep_their_order() -> None:
    slots, order = PrioritySemaphore(1), list[str]()
    await slots.acquire()

    async def want(name: str, priority: int) -> None:
        await slots.acquire(priority)
        order.append(name)
        slots.release()

    wanting = [
        asyncio.create_task(want(name, priority))
        for name, priority in (("a", 0), ("b", 0), ("low", -5), ("high", 9))
    ]
    await asyncio.sleep(0)
    slots.release()
    await asyncio.gather(*wanting)
    assert order == ["high", "a", "b", "low"]
    assert slots.free == 1


async def test_a_cancelled_waiter_takes_no_slot() -> None:
    slots = PrioritySemaphore(1)
    assert slots.try_acquire()
    assert not slots.try_acquire()
    early, late = (asyncio.create_task(slots.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.wait({early})
    slots.release()
    await late
    assert slots.free == 0


async def test_a_slot_handed_over_at_the_moment_of_a_cancellation_is_not_lost() -> None:
    slots = PrioritySemaphore(1)
    assert slots.try_acquire()
    unlucky = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    slots.release()
    unlucky.cancel()
    await asyncio.wait({unlucky})
    assert unlucky.cancelled()
    assert slots.free == 1
