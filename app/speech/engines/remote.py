"""What all engines far away have in common: a pool, a turn, one exchange, and a verdict.

What differs between them is a `Dialect`: where to ask, how, and how to read what comes.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app.net.client import Client, open_client
from app.net.exchange import Answer, Body, ExchangeError, post
from app.speech.contract import (
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineRequest,
    ErrorKind,
    Readiness,
    Sound,
)
from app.speech.engines.bundle import Bundle
from app.speech.engines.traffic import Traffic
from app.speech.engines.wire import MOST_ANSWER_BYTES, no_answer


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of asking. `write` and `read` are pure, and raise nothing but EngineError."""

    route: str
    write: Callable[[EngineRequest], Body]
    read: Callable[[EngineRequest, Answer], EngineAnswer]


class RemoteEngine:
    """An Engine, for each of whose models there is a dialect."""

    remote = True
    takes: Sound = "file"

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        dialects: Mapping[str, Dialect],
        traffic: Traffic,
        *,
        answer_seconds: float,
    ) -> None:
        self.name = name
        self.region = bundle.region
        self.calls_at_once = traffic.calls_at_once
        self._bundle = bundle
        self._dialects = dialects
        self._traffic = traffic
        self._answer_seconds = answer_seconds
        self._client: Client | None = None

    async def open(self) -> None:
        """Open the pool; a connection comes with the first call."""
        # The deadline is the call's own: a long part is minutes of silence before its answer.
        self._client = open_client(
            base_url=self._bundle.base_url,
            silence_seconds=self._answer_seconds,
            max_connections=self._traffic.calls_at_once,
        )

    async def close(self) -> None:
        """Close the pool; calls that still run end with an error."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def readiness(self, model: str) -> Readiness:
        """Tell whether `model` can be called now, as far as its last calls show."""
        if model not in self._dialects:
            return Readiness(ready=False, missing=f"no model {model!r} is known to this engine")
        # Only while it rests: whoever sends no calls to what is not ready would never send a probe.
        if seconds := self._traffic.rest_seconds:
            words = f"resting after too many failures, for {seconds:.0f} s more"
            return Readiness(ready=False, missing=words)
        return Readiness(ready=True)

    def admit(self, model: str, patience: float) -> AbstractAsyncContextManager[None]:
        """Wait for a free slot and the account's next step; see Engine."""
        return self._traffic.admit(model, patience)

    async def transcribe(
        self, request: EngineRequest, _on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Make one call; see Engine."""
        began = await self._traffic.begin(request.model)
        try:
            answer = await self._call(request)
        except EngineError as error:
            raise await self._traffic.note_error(request.model, error, began) from error
        self._traffic.note_answer(began)
        return answer

    async def _call(self, request: EngineRequest) -> EngineAnswer:
        dialect = self._dialects.get(request.model)
        if dialect is None or self._client is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "closed, or a model of another engine")
        try:
            answer = await post(
                self._client,
                dialect.route,
                dialect.write(request),
                headers=self._bundle.headers(),
                deadline_seconds=min(request.deadline_seconds, self._answer_seconds),
                max_bytes=MOST_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise no_answer(error) from error
        return dialect.read(request, answer)
