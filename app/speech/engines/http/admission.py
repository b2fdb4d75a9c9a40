"""Admission of calls to one provider account: call slots, rate limit, circuit breaker, retries.

One CallAdmission serves all engines that use the same key and host.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from app.errors import DatabaseUnavailable
from app.kit.log import log
from app.kit.priority_semaphore import PrioritySemaphore
from app.net.breaker import Breaker, State
from app.net.rate_limiter import QueueTooLongError, RateLimiter, Ticks, interval_of
from app.net.retry import RetryBudget
from app.speech.engine import DEFAULT_CALL_SECONDS, CallSlot, EngineError, ErrorKind, Throughput
from app.speech.engines.http.latency import LatencyAverage

BLOCK_SECONDS = 2.0  # after a 429 without a Retry-After

# Kinds that count as failures of the provider. The others are answers of a healthy provider.
_FAILURES = {
    ErrorKind.UNAVAILABLE,
    ErrorKind.TIMEOUT,
    ErrorKind.NETWORK,
    ErrorKind.MALFORMED,
    ErrorKind.INTERNAL,
}


class CallAdmission:
    """`account` names the account whose limits are shared; `rates` are calls a minute by model.

    `max_concurrent_calls` bounds the calls of this process only.
    """

    def __init__(
        self,
        account: str,
        limiter: RateLimiter,
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
        self._latency = LatencyAverage()
        self._blocked_until: dict[str, float] = {}

    @property
    def state(self) -> str:
        return self._breaker.state

    @property
    def paused_seconds(self) -> float:
        """For how many seconds the breaker allows no call; 0 as soon as a probe is allowed."""
        return self._breaker.open_for(self._ticks())

    @asynccontextmanager
    async def admit(
        self, model: str, max_wait_seconds: float, priority: int = 0
    ) -> AsyncIterator[None]:
        """Wait for a call slot and a slot of the rate limit; the call is made in the block.

        Waiting calls of this process go by priority. Raises EngineError with `retry_after` if the
        wait would be longer than `max_wait_seconds` or the breaker is open, and DatabaseUnavailable
        if the rate limit is kept in a database.
        """
        until = self._ticks() + max_wait_seconds
        self._check_breaker(self._breaker.open_for(self._ticks()))
        await self._take_slot(max_wait_seconds, priority)
        try:
            await self._wait_for_rate(model, until - self._ticks(), priority)
            # The provider may have gone down meanwhile. A call that passes here then is the probe.
            self._check_breaker(self._breaker.try_acquire(self._ticks()))
            self._budget.record_call(self._ticks())
            yield
        finally:
            self._slots.release()

    async def try_admit(self, model: str) -> CallSlot | None:
        """Admit a call if that needs no waiting; see Engine. A probe is never admitted here."""
        if self._breaker.state is not State.CLOSED or not self._slots.try_acquire():
            return None
        slot, is_admitted = CallSlot(self._slots.release), False
        try:
            is_in_rate = model not in self._rates or await self._limiter.try_acquire(
                self._limit_id(model), self._rates[model]
            )
            is_admitted = is_in_rate and self._breaker.state is State.CLOSED
        except DatabaseUnavailable:
            log.debug("rate_limit.unavailable", account=self._account, model=model)
        finally:
            if not is_admitted:
                slot.release()
        if not is_admitted:
            return None
        self._budget.record_call(self._ticks())
        return slot

    async def begin(self, model: str) -> float:
        """Begin an admitted call, no closer to the last one than the rate limit allows.

        Return the moment to pass to `record_answer` or `record_error`.
        """
        if model in self._rates:
            await self._limiter.pace_departure(self._limit_id(model), self._rates[model])
        return self._ticks()

    def record_answer(self, began: float | None = None, model: str = "") -> None:
        """Record an answer, and with both arguments its duration."""
        now = self._ticks()
        self._breaker.record(now, success=True, began=began)
        if began is not None and model:
            self._latency.record(model, now - began)

    async def record_error(
        self, model: str, error: EngineError, began: float | None = None
    ) -> EngineError:
        """Record a failure. Return it, with the earliest time of a retry in `retry_after`."""
        now = self._ticks()
        self._breaker.record(now, success=error.kind not in _FAILURES, began=began)
        is_rate_limited = error.kind is ErrorKind.RATE_LIMITED
        if is_rate_limited and model in self._rates:
            # The rate limiter spaces these retries, so they are no flood and need no budget.
            seconds = error.retry_after or BLOCK_SECONDS
            self._blocked_until[model] = now + seconds
            try:
                await self._limiter.block(self._limit_id(model), seconds)
            except DatabaseUnavailable:
                # The result of the call must not be lost because of this. Without the database
                # there are no slots, so no call is made too early either.
                log.warning("rate_limit.block_not_stored", account=self._account, model=model)
        elif not is_rate_limited and error.retryable and (seconds := self._budget.reserve(now)):
            error.retry_after = max(error.retry_after or 0.0, seconds)
        return error

    def throughput(self, model: str) -> Throughput:
        """Return how fast calls of a model are made now."""
        now, rate = self._ticks(), self._rates.get(model)
        paused, blocked = self.paused_seconds, max(0.0, self._blocked_until.get(model, now) - now)
        reason = "too many calls failed" if paused else "the provider limits the rate"
        call_seconds, measured = self._latency.of(model, DEFAULT_CALL_SECONDS)
        return Throughput(
            interval_of(rate) if rate else 0.0,
            call_seconds,
            self.max_concurrent_calls,
            measured,
            max(paused, blocked),
            reason if paused or blocked else "",
        )

    async def _take_slot(self, max_wait_seconds: float, priority: int) -> None:
        if self._slots.try_acquire():
            return
        try:
            async with asyncio.timeout(max_wait_seconds):
                await self._slots.acquire(priority)
        except TimeoutError as error:
            reason = f"{self.max_concurrent_calls} calls are in flight"
            raise EngineError(ErrorKind.RATE_LIMITED, reason, retryable=True) from error

    async def _wait_for_rate(self, model: str, max_wait_seconds: float, priority: int) -> None:
        if model not in self._rates:
            return
        try:
            await self._limiter.acquire(
                self._limit_id(model), self._rates[model], max_wait_seconds, priority
            )
        except QueueTooLongError as error:
            raise EngineError(
                ErrorKind.RATE_LIMITED,
                str(error),
                retryable=True,
                retry_after=max(1.0, error.seconds - max_wait_seconds),
            ) from error

    def _check_breaker(self, seconds: float) -> None:
        if seconds:
            raise EngineError(
                ErrorKind.UNAVAILABLE,
                f"{self._account} is not called after too many failures",
                retryable=True,
                retry_after=max(seconds, 1.0),
            )

    def _limit_id(self, model: str) -> str:
        return f"{self._account}/{model}"
