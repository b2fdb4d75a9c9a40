"""What all engines far away have in common: a pool, a turn, one exchange, and a verdict.

What differs between them is a `Dialect`: where to ask, how, and how to read what comes.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from app.net.http.event_stream import EventReader, StreamEvent, StreamTooLargeError
from app.net.http.exchange import Answer, Body, ExchangeError, HttpClient
from app.net.http.selection import open_http_client
from app.speech.engine import (
    AudioFormat,
    CallSlot,
    DeltaSink,
    EngineAnswer,
    EngineError,
    EngineRequest,
    ErrorKind,
    Readiness,
    Throughput,
)
from app.speech.engines.http.account import ProviderAccount
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.json_body import MOST_ANSWER_BYTES, malformed_response, no_answer
from app.speech.task_engine import TaskEngine

SILENCE_SECONDS = 60.0  # between two chunks of a stream, once it has begun


class StreamParser(Protocol):
    """Makes an answer of the events of one stream; tells text on the way. Pure."""

    @property
    def is_whole(self) -> bool:
        """Whether the last event has come, after which nothing else is to be known."""

    def take(self, event: StreamEvent) -> None:
        """Take one event in. Raises EngineError for one that says so, or that nobody can read."""

    def answer(self, head: Answer) -> EngineAnswer:
        """Return what was heard. Raises EngineError where the end of it never came."""


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How a dialect asks for a stream and reads it; `gather` begins with one anew.

    `is_only_way`: it answers in no other way, even where nobody listens.
    """

    write: Callable[[EngineRequest], Body]
    gather: Callable[[EngineRequest, DeltaSink], StreamParser]
    headers: Mapping[str, str]
    stream_only: bool = False


@dataclass(frozen=True, slots=True)
class WireFormat:
    """One way of asking. `write` and `read` are pure, and raise nothing but EngineError.

    Without `streaming` an answer comes whole, whoever listens.
    """

    route: str
    write: Callable[[EngineRequest], Body]
    read: Callable[[EngineRequest, Answer], EngineAnswer]
    streaming: StreamFormat | None = None


class TasksOfBundle(TaskEngine, Protocol):
    """What the same account does by tasks; opened and closed with the engine."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


class RemoteEngine:
    """An Engine, for each of whose models there is a dialect."""

    remote = True
    accepts: AudioFormat = "file"

    def __init__(
        self,
        name: str,
        bundle: ProviderAccount,
        dialects: Mapping[str, WireFormat],
        admission: CallAdmission,
        *,
        answer_seconds: float,
        tasks: TasksOfBundle | None = None,
    ) -> None:
        """Take what differs; `tasks` are for those models that are asked by tasks."""
        self.name = name
        self.region = bundle.region
        self.max_concurrent_calls = admission.max_concurrent_calls
        self._bundle = bundle
        self._dialects = dialects
        self._admission = admission
        self._answer_seconds = answer_seconds
        self.tasks = tasks
        self._client: HttpClient | None = None

    async def open(self) -> None:
        """Open the pool; a connection comes with the first call."""
        # The deadline is the call's own: a long part is minutes of silence before its answer.
        self._client = open_http_client(
            self._bundle.base_url,
            silence_seconds=self._answer_seconds,
            max_connections=self._admission.max_concurrent_calls,
        )
        if self.tasks is not None:
            await self.tasks.open()

    async def close(self) -> None:
        """Close the pool; calls that still run end with an error."""
        if self.tasks is not None:
            await self.tasks.close()
        if self._client is not None:
            await self._client.close()
            self._client = None

    def readiness(self, model: str) -> Readiness:
        """Tell whether `model` can be called now, as far as its last calls show."""
        if model not in self._dialects and not (self.tasks and self.tasks.knows(model)):
            return Readiness(ready=False, unmet=f"no model {model!r} is known to this engine")
        # Only while it rests: whoever sends no calls to what is not ready would never send a probe.
        if seconds := self._admission.rest_seconds:
            words = f"resting after too many failures, for {seconds:.0f} s more"
            return Readiness(ready=False, unmet=words)
        return Readiness(ready=True)

    def throughput(self, model: str, _audio_seconds: float) -> Throughput:
        """Return how fast calls are made now; see Engine."""
        return self._admission.throughput(model)

    def admit(
        self, model: str, patience: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait for a free slot and the account's next step; see Engine."""
        return self._admission.admit(model, patience, priority)

    async def try_admit(self, model: str) -> CallSlot | None:
        """Admit a call if that needs no waiting; see Engine."""
        return await self._admission.try_admit(model)

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Make one call, streamed where somebody listens; see Engine."""
        began = await self._admission.begin(request.model)
        try:
            answer = await self._call(request, on_delta)
        except EngineError as error:
            raise await self._admission.note_error(request.model, error, began) from error
        self._admission.note_answer(began, request.model)
        return answer

    async def _call(self, request: EngineRequest, on_delta: DeltaSink | None) -> EngineAnswer:
        dialect = self._dialects.get(request.model)
        if dialect is None or self._client is None:
            raise EngineError(ErrorKind.UNAVAILABLE, "closed, or a model of another engine")
        try:
            streaming = dialect.streaming
            if streaming is None or (on_delta is None and not streaming.stream_only):
                return await self._whole(self._client, dialect, request)
            gathering = streaming.gather(request, on_delta or _unheard)
            reader = EventReader()
            answer = await self._client.post_streamed(
                dialect.route,
                streaming.write(request),
                _taker(reader, gathering),
                headers={**self._bundle.headers(), **streaming.headers},
                deadline_seconds=self._deadline(request),
                silence_seconds=SILENCE_SECONDS,
                max_bytes=MOST_ANSWER_BYTES,
            )
        except ExchangeError as error:
            raise no_answer(error) from error
        if not answer.was_streamed:
            return dialect.read(request, answer)
        if not gathering.is_whole and not reader.is_between_events:
            raise malformed_response("a stream that ended inside an event")
        return gathering.answer(answer)

    async def _whole(
        self, client: HttpClient, dialect: WireFormat, request: EngineRequest
    ) -> EngineAnswer:
        answer = await client.post(
            dialect.route,
            dialect.write(request),
            headers=self._bundle.headers(),
            deadline_seconds=self._deadline(request),
            max_bytes=MOST_ANSWER_BYTES,
        )
        return dialect.read(request, answer)

    def _deadline(self, request: EngineRequest) -> float:
        return min(request.deadline_seconds, self._answer_seconds)


def _unheard(_text: str) -> None:
    """Nobody listens."""


def _taker(reader: EventReader, gathering: StreamParser) -> Callable[[bytes], bool]:
    def take(chunk: bytes) -> bool:
        try:
            for event in reader.feed(chunk):
                if not gathering.is_whole:
                    gathering.take(event)
        except StreamTooLargeError as error:
            raise malformed_response(str(error)) from error
        return gathering.is_whole

    return take
