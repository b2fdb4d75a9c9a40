"""Even steps, nothing saved up, and a hold that voids the steps taken before it."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.net.limiter import SHARE, Limiter, MemorySteps, QueueTooLongError

pytestmark = pytest.mark.anyio
FOR_EVER = 1e9


class Hand:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_the_first_step_after_a_start_is_waited_for_too() -> None:
    clock = Hand()
    steps = MemorySteps(clock)
    assert (await steps.take("k", 0.6, FOR_EVER)).seconds == pytest.approx(0.6)
    assert (await steps.take("k", 0.6, FOR_EVER)).seconds == pytest.approx(1.2)
    assert (await steps.take("other", 2.0, FOR_EVER)).seconds == pytest.approx(2.0)


async def test_steps_that_nobody_took_are_gone_and_nobody_waits_when_idle() -> None:
    clock = Hand()
    steps = MemorySteps(clock)
    clock.now += 100
    waits = [(await steps.take("k", 0.6, FOR_EVER)).seconds for _ in range(3)]
    assert waits == pytest.approx([0, 0.6, 1.2])


async def test_a_queue_longer_than_ones_patience_takes_no_step() -> None:
    steps = MemorySteps(Hand())
    with pytest.raises(QueueTooLongError):
        await steps.take("k", 5.0, 4.0)
    assert (await steps.take("k", 5.0, 5.0)).seconds == 5.0


async def test_a_hold_voids_the_steps_taken_and_is_never_shortened() -> None:
    clock = Hand()
    steps = MemorySteps(clock)
    taken = await steps.take("k", 0.6, FOR_EVER)
    await steps.hold("k", 7)
    await steps.hold("k", 1)
    assert await steps.holds("k") != taken.holds
    assert (await steps.take("k", 0.6, FOR_EVER)).seconds == pytest.approx(7)
    assert (await steps.take("k", 0.6, FOR_EVER)).seconds == pytest.approx(7.6)


async def test_callers_leave_in_even_steps_and_wait_out_a_hold() -> None:
    limiter = Limiter(MemorySteps())
    loop = asyncio.get_running_loop()
    left: list[float] = []

    async def call() -> None:
        await limiter.wait("k", 60 / 0.02, FOR_EVER)
        left.append(loop.time())

    async with asyncio.TaskGroup() as group:
        began = loop.time()
        for _ in range(10):
            group.create_task(call())
        await asyncio.sleep(0.05)
        before = len(left)
        await limiter.hold("k", 0.2)
    assert before < 4
    assert min(moment - began for moment in left[before:]) >= 0.24
    gaps = [b - a for a, b in itertools.pairwise(left[before:])]
    assert sum(gaps) >= 0.02 / SHARE * len(gaps) - 0.02


async def test_a_hold_is_not_longer_than_a_minute_whatever_was_asked() -> None:
    clock = Hand()
    steps = MemorySteps(clock)
    await Limiter(steps, clock).hold("k", 86_400)
    assert (await steps.take("k", 1, FOR_EVER)).seconds == 60


@given(st.lists(st.floats(0, 5), max_size=60))
def test_no_two_steps_are_closer_than_the_gap(pauses: list[float]) -> None:
    clock = Hand()
    steps = MemorySteps(clock)
    moments = []
    for pause in pauses:
        clock.now += pause
        moments.append(clock.now + _take(steps))
    assert all(b - a >= 0.6 - 1e-6 for a, b in itertools.pairwise(moments))


def _take(steps: MemorySteps) -> float:
    """Run a coroutine that never waits, without the cost of a loop."""
    taking = steps.take("k", 0.6, FOR_EVER)
    with pytest.raises(StopIteration) as end:
        taking.send(None)
    return end.value.value.seconds
