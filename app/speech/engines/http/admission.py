"""When an upstream may be called, and what its failures mean for the calls to come.

One for each bundle of key and host, whatever engines use it: its pace, how many calls are under
way, its rest while it is down, and the retries it is given.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from app.errors import DatabaseUnavailable
from app.kit.priority_semaphore import PrioritySemaphore
from app.net.breaker import Breaker, State
from app.net.limiter import MINUTE, SHARE, Limiter, QueueTooLongError, Ticks
from app.net.retry import RetryBudget
from app.speech.engine import DEFAULT_CALL_SECONDS, CallSlot, EngineError, ErrorKind, Throughput
from app.speech.engines.http.latency import LatencyAverage

HELD_SECONDS = 2.0  # after a 429 that does not say how long

# What says that the upstream is ill; the other kinds are answers of one that is well.
_ILL = {
    ErrorKind.UNAVAILABLE,
    ErrorKind.TIMEOUT,
    ErrorKind.NETWORK,
    ErrorKind.MALFORMED,
    ErrorKind.INTERNAL,
}

log = structlog.get_logger()


class CallAdmission:
    """`account` names whose limits are shared; `rates` are calls a minute of its models.

    `calls_at_once` bounds the calls of this process only.
    """

    def __init__(
        self,
        account: str,
        limiter: Limiter,
        rates: Mapping[str, float],
        ticks: Ticks = time.monotonic,
        *,
        max_concurrent_calls: int = 100,
    ) -> None:
        self.max_concurrent_calls = max_concurrent_calls
        self._slots = PrioritySemaphore(max_concurrent_calls)
        self._account = account
        self._limiter = limiter
        self._rates = rates
        self._ticks = ticks
        self._breaker = Breaker()
        self._budget = RetryBudget()
        self._speed = LatencyAverage()
        self._blocked_until: dict[str, float] = {}

    @property
    def state(self) -> str:
        return self._breaker.state

    @property
    def rest_seconds(self) -> float:
        """How long nobody will be let through; 0 once a probe may go, though none has yet."""
        return self._breaker.rest(self._ticks())

    @asynccontextmanager
    async def admit(self, model: str, patience: float, priority: int = 0) -> AsyncIterator[None]:
        """Lend a slot from this call's turn on. Raises EngineError: not now, and when to ask again.

        Of those that wait in this process the one with the highest priority is next.
        Raises DatabaseAway where the pace is kept in a database.
        """
        until = self._ticks() + patience
        self._refuse(self._breaker.rest(self._ticks()))
        await self._take_slot(patience, priority)
        try:
            await self._wait_for_step(model, until - self._ticks(), priority)
            # It may have gone down meanwhile; where it is down, who gets past this is the probe.
            self._refuse(self._breaker.pause(self._ticks()))
            self._budget.note_call(self._ticks())
            yield
        finally:
            self._slots.give()

    async def try_admit(self, model: str) -> CallSlot | None:
        """Admit a call if that needs no waiting; see Engine. A probe of the breaker never does."""
        if self._breaker.state is not State.CLOSED or not self._slots.take_free():
            return None
        slot, is_admitted = CallSlot(self._slots.give), False
        try:
            has_step = model not in self._rates or await self._limiter.try_take(
                self._key(model), self._rates[model]
            )
            is_admitted = has_step and self._breaker.state is State.CLOSED
        except DatabaseUnavailable:
            log.debug("pace.not_asked", account=self._account, model=model)
        finally:
            if not is_admitted:
                slot.release()
        if not is_admitted:
            return None
        self._budget.note_call(self._ticks())
        return slot

    async def begin(self, model: str) -> float:
        """Go ahead with an admitted call, no closer to the last than the account's rate allows.

        Returns the moment to hand to `note_answer` or `note_error` when it has ended.
        """
        if model in self._rates:
            await self._limiter.leave(self._key(model), self._rates[model])
        return self._ticks()

    def note_answer(self, began: float | None = None, model: str = "") -> None:
        """Take in an answer; with both arguments, how long it took as well."""
        now = self._ticks()
        self._breaker.note(now, was_well=True, began=began)
        if began is not None and model:
            self._speed.note(model, now - began)

    def throughput(self, model: str) -> Throughput:
        """Return how fast calls of a model are made now."""
        now, rate = self._ticks(), self._rates.get(model)
        rest, blocked = self.rest_seconds, max(0.0, self._blocked_until.get(model, now) - now)
        reason = "too many calls failed" if rest else "the provider limits the rate"
        call_seconds, measured = self._speed.of(model, DEFAULT_CALL_SECONDS)
        return Throughput(
            MINUTE / (rate * SHARE) if rate else 0.0,
            call_seconds,
            self.max_concurrent_calls,
            measured,
            max(rest, blocked),
            reason if rest or blocked else "",
        )

    async def note_error(
        self, model: str, error: EngineError, began: float | None = None
    ) -> EngineError:
        """Take in a failure; return it with what is known here of when to try again."""
        now = self._ticks()
        self._breaker.note(now, was_well=error.kind not in _ILL, began=began)
        if error.kind is ErrorKind.RATE_LIMITED:
            # Its pace is the limiter's matter: what waits for its turn is no flood of retries.
            await self._hold(model, error.retry_after or HELD_SECONDS)
        elif error.retryable and (put_off := self._budget.reserve(now)):
            error.retry_after = max(error.retry_after or 0.0, put_off)
        return error

    async def _take_slot(self, patience: float, priority: int) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._slots.take(priority)
        except TimeoutError as error:
            words = f"{self.max_concurrent_calls} calls are under way already"
            raise EngineError(ErrorKind.RATE_LIMITED, words, retryable=True) from error

    async def _wait_for_step(self, model: str, patience: float, priority: int) -> None:
        if model not in self._rates:
            return
        try:
            await self._limiter.wait(self._key(model), self._rates[model], patience, priority)
        except QueueTooLongError as error:
            raise EngineError(
                ErrorKind.RATE_LIMITED,
                str(error),
                retryable=True,
                retry_after=max(1.0, error.seconds - patience),
            ) from error

    async def _hold(self, model: str, seconds: float) -> None:
        if model not in self._rates:
            return
        self._blocked_until[model] = self._ticks() + seconds
        try:
            await self._limiter.hold(self._key(model), seconds)
        except DatabaseUnavailable:
            # What is known of the call must not be lost over it; no step is given meanwhile.
            log.warning("pace.hold_lost", account=self._account, model=model)

    def _refuse(self, seconds: float) -> None:
        if seconds:
            words = f"{self._account} is left alone after too many failures"
            raise EngineError(
                ErrorKind.UNAVAILABLE, words, retryable=True, retry_after=max(seconds, 1.0)
            )

    def _key(self, model: str) -> str:
        return f"{self._account}/{model}"
