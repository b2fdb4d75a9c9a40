"""An upstream's pace, rest and retries, as an engine asks for them."""

import pytest

from app.net.limiter import Limiter, MemorySteps
from app.speech.contract import EngineError, ErrorKind
from app.speech.engines.traffic import Traffic

pytestmark = pytest.mark.anyio
ILL = (
    ErrorKind.UNAVAILABLE,
    ErrorKind.TIMEOUT,
    ErrorKind.NETWORK,
    ErrorKind.GARBLED,
    ErrorKind.INTERNAL,
)
WELL = (ErrorKind.RATE_LIMITED, ErrorKind.REFUSED, ErrorKind.ACCOUNT)


class Hand:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def traffic(clock: Hand, per_minute: float | None = None) -> Traffic:
    rates = {"m": per_minute} if per_minute else {}
    return Traffic("account", Limiter(MemorySteps(clock), clock), rates, clock)


@pytest.mark.parametrize("kind", ILL)
async def test_an_upstream_that_is_ill_is_left_alone_and_probed_once(kind: ErrorKind) -> None:
    clock = Hand()
    here = traffic(clock)
    for _ in range(20):
        await here.admit("m", 9)
        await here.note_error("m", EngineError(kind, "x"))
    with pytest.raises(EngineError) as caught:
        await here.admit("m", 9)
    assert (caught.value.kind, caught.value.retry_after) == (ErrorKind.UNAVAILABLE, 15)
    assert here.state == "open"
    clock.now += 15
    await here.admit("m", 9)
    with pytest.raises(EngineError):
        await here.admit("m", 9)
    here.note_answer()
    await here.admit("m", 9)


@pytest.mark.parametrize("kind", WELL)
async def test_answers_that_we_do_not_like_do_not_mean_that_it_is_ill(kind: ErrorKind) -> None:
    here = traffic(Hand())
    for _ in range(40):
        await here.note_error("m", EngineError(kind, "x"))
    assert here.state == "closed"


async def test_a_queue_longer_than_ones_patience_is_said_to_be_busy() -> None:
    here = traffic(Hand(), per_minute=1)
    with pytest.raises(EngineError) as caught:
        await here.admit("m", 1)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.RATE_LIMITED, True)
    assert caught.value.retry_after == pytest.approx(60 / 0.98 - 1)


async def test_retries_beyond_the_budget_are_put_off_and_never_given_up() -> None:
    clock = Hand()
    here = traffic(clock)

    async def failed() -> EngineError:
        return await here.note_error("m", EngineError(ErrorKind.REFUSED, "x", retryable=True))

    for _ in range(10):
        assert (await failed()).retry_after is None
    clock.now += 20
    late = await failed()
    assert (late.retryable, late.retry_after) == (True, pytest.approx(40))


async def test_calls_that_were_too_fast_are_the_limiters_matter() -> None:
    here = traffic(Hand())
    for _ in range(40):
        busy = EngineError(ErrorKind.RATE_LIMITED, "x", retryable=True)
        assert (await here.note_error("m", busy)).retryable
