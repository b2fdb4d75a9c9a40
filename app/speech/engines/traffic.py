"""When an upstream may be called, and what its failures mean for the calls to come.

One for each bundle of key and host, whatever engines use it: its pace, its rest while it is
down, and the retries it is given.
"""

import time
from collections.abc import Mapping

from app.net.breaker import Breaker
from app.net.limiter import Limiter, QueueTooLongError, Ticks
from app.net.retry import RetryBudget
from app.speech.contract import EngineError, ErrorKind

HELD_SECONDS = 2.0  # after a 429 that does not say how long

# What says that the upstream is ill; the other kinds are answers of one that is well.
_ILL = {
    ErrorKind.UNAVAILABLE,
    ErrorKind.TIMEOUT,
    ErrorKind.NETWORK,
    ErrorKind.GARBLED,
    ErrorKind.INTERNAL,
}


class Traffic:
    """`account` names whose limits are shared; `rates` are calls a minute of its models."""

    def __init__(
        self,
        account: str,
        limiter: Limiter,
        rates: Mapping[str, float],
        ticks: Ticks = time.monotonic,
    ) -> None:
        self._account = account
        self._limiter = limiter
        self._rates = rates
        self._ticks = ticks
        self._breaker = Breaker()
        self._budget = RetryBudget()

    @property
    def state(self) -> str:
        return self._breaker.state

    async def admit(self, model: str, patience: float) -> None:
        """Wait for this call's turn. Raises EngineError: not now, and when to ask again."""
        self._refuse_while_down()
        if model in self._rates:
            try:
                await self._limiter.wait(self._key(model), self._rates[model], patience)
            except QueueTooLongError as error:
                raise EngineError(
                    ErrorKind.RATE_LIMITED,
                    str(error),
                    retryable=True,
                    retry_after=max(1.0, error.seconds - patience),
                ) from error
        self._budget.note_call(self._ticks())

    def note_answer(self) -> None:
        self._breaker.note(self._ticks(), was_well=True)

    async def note_error(self, model: str, error: EngineError) -> EngineError:
        """Take in a failure; return it with what is known here of when to try again."""
        now = self._ticks()
        self._breaker.note(now, was_well=error.kind not in _ILL)
        if error.kind is ErrorKind.RATE_LIMITED:
            # Its pace is the limiter's matter: what waits for its turn is no flood of retries.
            await self._limiter.hold(self._key(model), error.retry_after or HELD_SECONDS)
        elif error.retryable and (put_off := self._budget.reserve(now)):
            error.retry_after = max(error.retry_after or 0.0, put_off)
        return error

    def _refuse_while_down(self) -> None:
        if seconds := self._breaker.pause(self._ticks()):
            words = f"{self._account} is left alone after too many failures"
            raise EngineError(
                ErrorKind.UNAVAILABLE, words, retryable=True, retry_after=max(seconds, 1.0)
            )

    def _key(self, model: str) -> str:
        return f"{self._account}/{model}"
