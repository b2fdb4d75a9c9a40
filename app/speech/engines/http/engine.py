"""An engine that calls a provider over HTTP: admission, one exchange, and the failure's meaning.

Everything that differs between providers is in their WireFormats.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.kit.log import log, safe_traceback
from app.net.http.event_stream import EventStreamReader
from app.net.http.exchange import ExchangeError, HttpClient
from app.net.http.selection import open_http_client
from app.speech.engine import (
    AudioFormat,
    CallSlot,
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineReadiness,
    EngineRequest,
    ErrorKind,
    Throughput,
)
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.failures import exchange_failure, malformed_response
from app.speech.engines.http.provider_account import ProviderAccount
from app.speech.engines.http.wire_format import StreamedFormat, WireFormat, feeding
from app.speech.task_engine import TaskEngine

SILENCE_SECONDS = 60.0  # between two chunks of a stream
MAX_ANSWER_BYTES = 8 << 20
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class AccountTasks(TaskEngine, Protocol):
    """The tasks of the same account. They are opened and closed with the engine."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


class RemoteEngine:
    """An Engine with one WireFormat for each model. `tasks` serves the models that need tasks."""

    remote = True
    accepts: AudioFormat = "file"

    def __init__(
        self,
        name: str,
        account: ProviderAccount,
        formats: Mapping[str, WireFormat],
        admission: CallAdmission,
        *,
        timeout_seconds: float,
        tasks: AccountTasks | None = None,
    ) -> None:
        """Keep the collaborators. `timeout_seconds` bounds every call."""
        self.name = name
        self.region = account.region
        self.max_concurrent_calls = admission.max_concurrent_calls
        self.tasks = tasks
        self._account = account
        self._formats = formats
        self._admission = admission
        self._timeout_seconds = timeout_seconds
        self._client: HttpClient | None = None

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the first calls."""
        # A long part is minutes of silence before its answer, so only the call's deadline counts.
        self._client = open_http_client(
            self._account.base_url,
            silence_seconds=self._timeout_seconds,
            max_connections=self._admission.max_concurrent_calls,
        )
        if self.tasks is not None:
            await self.tasks.open()

    async def close(self) -> None:
        """Close the HTTP client. Calls that still run end with an error."""
        if self.tasks is not None:
            await self.tasks.close()
        if self._client is not None:
            await self._client.close()
            self._client = None

    def readiness(self, model: str) -> EngineReadiness:
        """Return whether `model` can be called now, judged by the last calls."""
        if model not in self._formats and not (self.tasks and self.tasks.knows(model)):
            return EngineReadiness(ready=False, unmet=f"no model {model!r} is known to this engine")
        # Once a probe may be sent the engine is ready: otherwise no call would ever probe it.
        if seconds := self._admission.paused_seconds:
            return EngineReadiness(
                ready=False, unmet=f"not called for {seconds:.0f} s more after too many failures"
            )
        return EngineReadiness(ready=True)

    def throughput(self, model: str, _audio_seconds: float) -> Throughput:
        """Return how fast calls are made now; see Engine."""
        return self._admission.throughput(model)

    def admit(
        self, model: str, max_wait_seconds: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait for a call slot and a slot of the rate limit; see Engine."""
        return self._admission.admit(model, max_wait_seconds, priority)

    async def try_admit(self, model: str) -> CallSlot | None:
        """Admit a call if that needs no waiting; see Engine."""
        return await self._admission.try_admit(model)

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Make one call, as a stream if `on_delta` is given; see Engine."""
        began = await self._admission.begin(request.model)
        try:
            answer = await self._call(request, on_delta)
        except EngineError as error:
            raise await self._admission.record_error(request.model, error, began) from error
        self._admission.record_answer(began, request.model)
        return answer

    async def _call(self, request: EngineRequest, on_delta: DeltaSink | None) -> EngineAnswer:
        wire, client = self._formats.get(request.model), self._client
        if wire is None or client is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "closed, or a model of another engine")
        seconds = min(request.deadline_seconds, self._timeout_seconds)
        try:
            if not isinstance(wire, StreamedFormat) or (on_delta is None and not wire.stream_only):
                answer = await client.post(
                    wire.route,
                    wire.body(request, streamed=False),
                    headers=self._account.headers(),
                    deadline_seconds=seconds,
                    max_bytes=MAX_ANSWER_BYTES,
                )
                return wire.parse(request, answer)
            parser = wire.stream_parser(request, on_delta or (lambda _text: None))
            reader = EventStreamReader()
            answer = await client.post_streamed(
                wire.route,
                wire.body(request, streamed=True),
                feeding(reader, parser),
                headers={**self._account.headers(), **wire.stream_headers},
                deadline_seconds=seconds,
                silence_seconds=SILENCE_SECONDS,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise exchange_failure(error) from error
        except UNREADABLE as error:  # from a parser: the answer may be billed, so it is no crash
            log.error("call.answer_unreadable", frames=safe_traceback(error))
            raise malformed_response(f"unreadable: {type(error).__name__}") from error
        if not answer.was_streamed:
            return wire.parse(request, answer)
        if not parser.is_complete and not reader.is_between_events:
            raise malformed_response("a stream that ended inside an event")
        return parser.answer(answer)
