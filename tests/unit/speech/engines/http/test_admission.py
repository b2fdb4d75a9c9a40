"""Call slots, rate limit, breaker and retry budget of one provider account.

Covers: app.speech.engines.http.admission, app.speech.engines.http.latency
"""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from app.errors import DatabaseUnavailable
from app.net.breaker import PROBE_SECONDS
from app.net.rate_limiter import MemorySlots, RateLimiter
from app.speech.engine import EngineError, ErrorKind
from app.speech.engines.http.admission import CallAdmission

pytestmark = pytest.mark.anyio
ILL = (
    ErrorKind.UNAVAILABLE,
    ErrorKind.TIMEOUT,
    ErrorKind.NETWORK,
    ErrorKind.MALFORMED,
    ErrorKind.INTERNAL,
)
FOR_EVER = 1e6
WELL = (ErrorKind.RATE_LIMITED, ErrorKind.REJECTED, ErrorKind.ACCOUNT)


class Hand:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(clock: Hand, per_minute: float | None = None) -> CallAdmission:
    rates = {"m": per_minute} if per_minute else {}
    return CallAdmission("account", RateLimiter(MemorySlots(clock), clock), rates, clock)


async def entered(here: CallAdmission, max_wait_seconds: float = 9) -> None:
    """Be admitted, and return at once."""
    async with here.admit("m", max_wait_seconds):
        pass


@pytest.mark.parametrize("kind", ILL)
async def test_a_failing_provider_is_not_called_and_probed_once(kind: ErrorKind) -> None:
    clock = Hand()
    here = admission(clock)
    for _ in range(20):
        async with here.admit("m", 9):
            await here.record_error("m", EngineError(kind, "x"))
    with pytest.raises(EngineError) as caught:
        await entered(here)
    assert (caught.value.kind, caught.value.retry_after) == (ErrorKind.UNAVAILABLE, 15)
    assert (here.state, here.paused_seconds) == ("open", 15)
    clock.now += 15
    assert here.paused_seconds == 0
    await entered(here)
    assert here.paused_seconds == PROBE_SECONDS  # while the probe is under way
    with pytest.raises(EngineError):
        await entered(here)
    here.record_answer()
    await entered(here)


async def test_calls_that_waited_while_the_breaker_opened_are_not_made() -> None:
    here = CallAdmission("account", RateLimiter(MemorySlots()), {"m": 60 / 0.1})
    waiting = [asyncio.create_task(entered(here)) for _ in range(5)]
    await asyncio.sleep(0)
    for _ in range(20):
        await here.record_error("m", EngineError(ErrorKind.NETWORK, "x"))
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [getattr(error, "kind", None) for error in ended] == [ErrorKind.UNAVAILABLE] * 5


async def test_a_call_from_before_the_probe_does_not_end_it() -> None:
    clock = Hand()
    here = admission(clock)
    long_ago = await here.begin("m")
    for _ in range(20):
        await here.record_error("m", EngineError(ErrorKind.NETWORK, "x"))
    clock.now += 15
    await entered(here)
    await here.record_error("m", EngineError(ErrorKind.TIMEOUT, "x"), long_ago)
    assert here.state == "half_open"
    here.record_answer(await here.begin("m"))
    assert here.state == "closed"


@pytest.mark.parametrize("kind", WELL)
async def test_rejections_are_no_failures_of_the_provider(kind: ErrorKind) -> None:
    here = admission(Hand())
    for _ in range(40):
        await here.record_error("m", EngineError(kind, "x"))
    assert here.state == "closed"


async def test_a_wait_beyond_the_patience_is_a_rate_limit_error() -> None:
    here = admission(Hand(), per_minute=1)
    with pytest.raises(EngineError) as caught:
        await entered(here, 1)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.RATE_LIMITED, True)
    assert caught.value.retry_after == pytest.approx(60 / 0.98 - 1)


class Calls:
    """Calls that end when the test allows it, and the order of their admission."""

    def __init__(self, here: CallAdmission) -> None:
        self.here = here
        self.turns: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ends: list[asyncio.Future[None]] = []

    async def begin(self, count: int) -> None:
        for _ in range(count):
            self.ends.append(asyncio.get_running_loop().create_future())
            self.tasks.append(asyncio.create_task(self._call(len(self.tasks))))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _call(self, number: int) -> None:
        async with self.here.admit("m", FOR_EVER):
            self.turns.append(number)
            await self.ends[number]


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    calls = Calls(CallAdmission("account", RateLimiter(MemorySlots()), {}, max_concurrent_calls=2))
    await calls.begin(7)
    yield calls
    for task in calls.tasks:
        task.cancel()
    await asyncio.gather(*calls.tasks, return_exceptions=True)


async def test_the_number_of_calls_in_flight_is_limited_and_the_others_wait_in_order(
    calls: Calls,
) -> None:
    assert calls.turns == [0, 1]
    calls.ends[1].set_result(None)
    await calls.settle()
    assert calls.turns == [0, 1, 2]


async def test_a_slot_is_released_however_a_call_ends(calls: Calls) -> None:
    calls.ends[0].set_result(None)
    calls.ends[1].set_exception(EngineError(ErrorKind.NETWORK, "x"))
    await calls.settle()
    calls.tasks[2].cancel()
    calls.tasks[5].cancel()  # still waits: it releases no slot that it never had
    await calls.settle()
    assert calls.turns == [0, 1, 2, 3, 4]
    assert isinstance(calls.tasks[1].exception(), EngineError)


async def test_waiting_for_a_call_slot_counts_against_the_patience(calls: Calls) -> None:
    began = time.monotonic()
    with pytest.raises(EngineError) as caught:
        await entered(calls.here, 0.1)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.RATE_LIMITED, True)
    assert 0.09 < time.monotonic() - began < 1
    for end in calls.ends:
        end.set_result(None)
    await asyncio.gather(*calls.tasks)
    assert calls.turns == list(range(7))
    await entered(calls.here, 0)


async def test_a_call_without_a_rate_limit_slot_releases_its_call_slot() -> None:
    here = CallAdmission("account", RateLimiter(MemorySlots()), {"m": 1}, max_concurrent_calls=1)
    for _ in range(3):
        with pytest.raises(EngineError) as caught:
            await entered(here, 0.01)
        assert "slot" in caught.value.log


async def test_try_admit_needs_a_free_call_slot() -> None:
    here = CallAdmission("account", RateLimiter(MemorySlots()), {}, max_concurrent_calls=1)
    slot = await here.try_admit("m")
    assert slot is not None
    assert await here.try_admit("m") is None
    waiting = asyncio.create_task(entered(here))
    await asyncio.sleep(0)
    slot.release()
    slot.release()  # gives back one slot, not two
    assert await here.try_admit("m") is None  # the waiting call has it
    await waiting
    again = await here.try_admit("m")
    assert again is not None
    assert await here.try_admit("m") is None


async def test_try_admit_needs_a_free_slot_of_the_rate_limit() -> None:
    clock = Hand()
    here = admission(clock, per_minute=60 / 0.98)
    assert await here.try_admit("m") is None  # the first interval after a start
    clock.now += 1
    assert await here.try_admit("m") is not None
    assert await here.try_admit("m") is None
    assert await here.try_admit("other") is not None  # a model without a rate
    clock.now += 1
    assert await here.try_admit("m") is not None


async def test_try_admit_keeps_no_call_slot_if_it_admits_no_call() -> None:
    here = CallAdmission("account", RateLimiter(MemorySlots()), {"m": 1}, max_concurrent_calls=1)
    assert await here.try_admit("m") is None
    assert await here.try_admit("other") is not None


async def test_try_admit_admits_no_call_while_the_breaker_is_open_or_probes() -> None:
    clock = Hand()
    here = admission(clock)
    for _ in range(20):
        await here.record_error("m", EngineError(ErrorKind.NETWORK, "x"))
    assert await here.try_admit("m") is None
    clock.now += 15
    assert await here.try_admit("m") is None  # the probe goes the ordinary way
    await entered(here)
    here.record_answer()
    assert await here.try_admit("m") is not None


async def test_try_admit_admits_no_call_without_the_database_of_the_rate_limit() -> None:
    here = CallAdmission("account", RateLimiter(AwaySteps()), {"m": 100}, max_concurrent_calls=1)
    assert await here.try_admit("m") is None
    assert await here.try_admit("other") is not None


class AwaySteps(MemorySlots):
    """A store whose database is unavailable."""

    async def reserve(self, *_: object) -> tuple[float, int | None]:
        raise DatabaseUnavailable

    async def block(self, *_: object) -> None:
        raise DatabaseUnavailable


async def test_no_call_is_made_without_the_database_of_the_rate_limit() -> None:
    here = CallAdmission("account", RateLimiter(AwaySteps()), {"m": 100}, max_concurrent_calls=1)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await entered(here)


async def test_a_failure_is_recorded_without_the_database_of_the_rate_limit() -> None:
    here = CallAdmission("account", RateLimiter(AwaySteps()), {"m": 100})
    busy = EngineError(ErrorKind.RATE_LIMITED, "x", retryable=True, retry_after=3)
    assert await here.record_error("m", busy) is busy
    assert (busy.retryable, busy.retry_after) == (True, 3)


async def test_retries_beyond_the_budget_are_deferred_and_never_given_up() -> None:
    clock = Hand()
    here = admission(clock)

    async def failed() -> EngineError:
        return await here.record_error("m", EngineError(ErrorKind.REJECTED, "x", retryable=True))

    for _ in range(10):
        assert (await failed()).retry_after is None
    clock.now += 20
    late = await failed()
    assert (late.retryable, late.retry_after) == (True, pytest.approx(40))


async def test_rate_limited_calls_do_not_use_the_retry_budget() -> None:
    here = admission(Hand())
    for _ in range(40):
        busy = EngineError(ErrorKind.RATE_LIMITED, "x", retryable=True)
        assert (await here.record_error("m", busy)).retryable


async def test_the_throughput_is_the_rate_limit_and_the_latency_of_the_last_calls() -> None:
    clock = Hand()
    here = admission(clock, per_minute=60 / 0.98)
    clock.now += 10
    found = here.throughput("m")
    assert (found.paused_seconds, found.call_seconds, found.measured_calls) == (0, 5.0, 0)
    assert found.interval_seconds == pytest.approx(1.0)
    began = await here.begin("m")
    clock.now += 3
    here.record_answer(began, "m")
    assert ((found := here.throughput("m")).call_seconds, found.measured_calls) == (3.0, 1)
    assert here.throughput("other").interval_seconds == 0


async def test_the_throughput_says_for_how_long_no_call_is_made() -> None:
    clock = Hand()
    here = admission(clock, per_minute=60)
    await here.record_error("m", EngineError(ErrorKind.RATE_LIMITED, "x", retry_after=7))
    found = here.throughput("m")
    assert (found.paused_seconds, found.pause_reason) == (7, "the provider limits the rate")
    clock.now += 8
    assert (here.throughput("m").paused_seconds, here.throughput("m").pause_reason) == (0, "")
    for _ in range(20):
        await here.record_error("m", EngineError(ErrorKind.NETWORK, "x"))
    found = here.throughput("m")
    assert (found.paused_seconds, found.pause_reason) == (15, "too many calls failed")
