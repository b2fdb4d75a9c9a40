"""Slots: never more than there are, and the highest priority first.

Covers: app.kit.priority_semaphore
"""

import asyncio

import pytest

from app.kit.priority_semaphore import PrioritySemaphore

pytestmark = pytest.mark.anyio


async def test_the_highest_priority_is_next_and_equals_keep_their_order() -> None:
    slots, order = PrioritySemaphore(1), list[str]()
    await slots.take()

    async def want(name: str, priority: int) -> None:
        await slots.take(priority)
        order.append(name)
        slots.give()

    wanting = [
        asyncio.create_task(want(name, priority))
        for name, priority in (("a", 0), ("b", 0), ("low", -5), ("high", 9))
    ]
    await asyncio.sleep(0)
    slots.give()
    await asyncio.gather(*wanting)
    assert order == ["high", "a", "b", "low"]
    assert slots.free == 1


async def test_who_gives_up_leaves_no_slot_behind() -> None:
    slots = PrioritySemaphore(1)
    assert slots.take_free()
    assert not slots.take_free()
    early, late = (asyncio.create_task(slots.take()) for _ in range(2))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.wait({early})
    slots.give()
    await late
    assert slots.free == 0


async def test_a_slot_handed_over_at_the_moment_of_a_cancellation_is_not_lost() -> None:
    slots = PrioritySemaphore(1)
    assert slots.take_free()
    unlucky = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.give()
    unlucky.cancel()
    await asyncio.wait({unlucky})
    assert unlucky.cancelled()
    assert slots.free == 1
