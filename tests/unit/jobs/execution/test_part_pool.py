"""The part pool: concurrency, and the end of the other parts when one of them fails.

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
    async def work(permit: CallPermit) -> None:
        permit.begin()
        raise error

    return work


async def run_in(pool: PartPool, *works: Work) -> list[int]:
    """Run these works in a pool; return the order of their ends."""
    over: list[int] = []

    async def lead() -> None:
        for number, work in enumerate(works):
            await pool.begin(work, lambda number=number: over.append(number))  # type: ignore[misc]

    await pool.work(lead())
    return over


class Call:
    """A call in flight until `let_go` is called."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.began = asyncio.Event()
        self.ended = ""

    async def __call__(self, permit: CallPermit) -> None:
        permit.begin()
        self.began.set()
        try:
            await self.answer.wait()
            self.ended = "kept"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        permit.ended()
        permit.begin()  # a second call, which the pool refuses after an error


async def test_concurrency_is_limited() -> None:
    now, most = 0, 0

    async def work(_sending: CallPermit) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    assert sorted(await run_in(PartPool(3), *[work] * 10)) == list(range(10))
    assert most == 3


async def test_after_an_error_calls_in_flight_finish_and_no_new_call_is_made() -> None:
    call, waits = Call(), asyncio.Event()

    async def fails(_sending: CallPermit) -> None:
        await call.began.wait()
        asyncio.get_running_loop().call_later(0.05, call.answer.set)
        raise EngineRefused

    async def has_not_sent(_sending: CallPermit) -> None:
        await waits.wait()

    with pytest.raises(EngineRefused):
        await run_in(PartPool(3), call, has_not_sent, fails, raising(AssertionError()))
    assert call.ended == "kept"


async def test_a_stale_run_stops_at_once() -> None:
    call = Call()
    with pytest.raises(StaleRun):
        await run_in(PartPool(2), call, raising(StaleRun("tr")))
    assert call.ended == "cancelled"


async def test_cancelling_ends_all_parts() -> None:
    call = Call()
    running = asyncio.create_task(run_in(PartPool(2), call))
    await call.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert call.ended == "cancelled"


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([Deferred(9, "call_failed"), EngineRefused()], EngineRefused),
        ([EngineRefused(), StaleRun("tr")], StaleRun),
        ([DatabaseUnavailable(), EngineRefused()], EngineRefused),
        ([Deferred(9, "call_failed"), DatabaseUnavailable()], DatabaseUnavailable),
        ([EngineRefused(), ZeroDivisionError()], ZeroDivisionError),
    ],
)
async def test_the_most_severe_error_is_raised(
    errors: list[Exception], told: type[Exception]
) -> None:
    together = asyncio.Barrier(len(errors))

    def late(error: Exception) -> Work:
        async def work(permit: CallPermit) -> None:
            permit.begin()
            await together.wait()
            raise error

        return work

    with pytest.raises(told):
        await run_in(PartPool(len(errors)), *map(late, errors))


async def test_the_shortest_deferral_is_raised() -> None:
    together = asyncio.Barrier(2)

    def late(seconds: float) -> Work:
        async def work(permit: CallPermit) -> None:
            permit.begin()
            await together.wait()
            raise Deferred(seconds, "call_failed")

        return work

    with pytest.raises(Deferred) as put_off:
        await run_in(PartPool(2), late(30), late(6))
    assert put_off.value.seconds == 6


def test_a_revoked_permit_allows_no_call() -> None:
    permit = CallPermit()
    permit.revoke()
    with pytest.raises(CallsStopped):
        permit.begin()
    assert not permit.in_flight
