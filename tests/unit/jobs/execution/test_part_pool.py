"""What becomes of a job's other parts when one of them cannot go on.

Covers: app.jobs.execution.part_pool, app.jobs.upstream.call_permit
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from app.errors import DatabaseUnavailable, EngineRefused
from app.jobs.execution.part_pool import PartPool
from app.jobs.store.runs import Deferred, StaleRun
from app.jobs.upstream.call_permit import CallPermit, CallsStopped

pytestmark = pytest.mark.anyio

Work = Callable[[CallPermit], Coroutine[Any, Any, None]]


def raising(error: Exception) -> Work:
    async def work(sending: CallPermit) -> None:
        sending.begin()
        raise error

    return work


async def begun(crew: PartPool, *works: Work) -> list[int]:
    """Have a crew do these works; return the order in which they were over."""
    over: list[int] = []

    async def lead() -> None:
        for number, work in enumerate(works):
            await crew.begin(work, lambda number=number: over.append(number))  # type: ignore[misc]

    await crew.work(lead())
    return over


class Call:
    """A call under way that goes on until it is let go."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.began = asyncio.Event()
        self.ended = ""

    async def __call__(self, sending: CallPermit) -> None:
        sending.begin()
        self.began.set()
        try:
            await self.answer.wait()
            self.ended = "kept"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        sending.ended()
        sending.begin()  # a second one, which a crew that goes no further does not allow


async def test_only_so_many_are_worked_on_at_once() -> None:
    now, most = 0, 0

    async def work(_sending: CallPermit) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    assert sorted(await begun(PartPool(3), *[work] * 10)) == list(range(10))
    assert most == 3


async def test_what_is_under_way_is_finished_and_nothing_new_is_sent() -> None:
    call, waits = Call(), asyncio.Event()

    async def fails(_sending: CallPermit) -> None:
        await call.began.wait()
        asyncio.get_running_loop().call_later(0.05, call.answer.set)
        raise EngineRefused

    async def has_not_sent(_sending: CallPermit) -> None:
        await waits.wait()

    with pytest.raises(EngineRefused):
        await begun(PartPool(3), call, has_not_sent, fails, raising(AssertionError()))
    assert call.ended == "kept"


async def test_a_run_that_lost_its_job_stops_at_once() -> None:
    call = Call()
    with pytest.raises(StaleRun):
        await begun(PartPool(2), call, raising(StaleRun("tr")))
    assert call.ended == "cancelled"


async def test_cancelling_ends_all() -> None:
    call = Call()
    running = asyncio.create_task(begun(PartPool(2), call))
    await call.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert call.ended == "cancelled"


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([Deferred(9), EngineRefused()], EngineRefused),
        ([EngineRefused(), StaleRun("tr")], StaleRun),
        ([DatabaseUnavailable(), EngineRefused()], EngineRefused),
        ([Deferred(9), DatabaseUnavailable()], DatabaseUnavailable),
        ([EngineRefused(), ZeroDivisionError()], ZeroDivisionError),
    ],
)
async def test_of_several_errors_the_most_telling_is_raised(
    errors: list[Exception], told: type[Exception]
) -> None:
    together = asyncio.Barrier(len(errors))

    def late(error: Exception) -> Work:
        async def work(sending: CallPermit) -> None:
            sending.begin()
            await together.wait()
            raise error

        return work

    with pytest.raises(told):
        await begun(PartPool(len(errors)), *map(late, errors))


async def test_of_several_waits_the_shortest_counts() -> None:
    together = asyncio.Barrier(2)

    def late(seconds: float) -> Work:
        async def work(sending: CallPermit) -> None:
            sending.begin()
            await together.wait()
            raise Deferred(seconds)

        return work

    with pytest.raises(Deferred) as put_off:
        await begun(PartPool(2), late(30), late(6))
    assert put_off.value.seconds == 6


def test_what_was_called_off_makes_no_call() -> None:
    sending = CallPermit()
    sending.revoke()
    with pytest.raises(CallsStopped):
        sending.begin()
    assert not sending.in_flight
