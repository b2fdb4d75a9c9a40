"""What someone who writes an engine must read, and all of it.

An engine turns one part of a recording into words. It is told everything by value, keeps
nothing of a request, opens no transaction, and says by `EngineError.kind` what went wrong and
by `billed` whether the call may have cost money. Engines do not know each other.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from app.speech.transcript import Segment

SAMPLE_RATE = 16_000
BYTES_PER_SECOND = SAMPLE_RATE * 2
DEFAULT_CALL_SECONDS = 5.0  # of a call, until one was measured

DeltaSink = Callable[[str], None]
"""Receives text as it becomes final within the part; called on the event loop, never awaits."""


AudioFormat = Literal["pcm", "file"]
"""What an engine wants to be given: bare PCM, or a file of it that it can send away."""


@dataclass(frozen=True, slots=True)
class Pcm:
    """One stretch of sound: signed 16 bit little endian, mono, 16 kHz."""

    data: bytes

    @property
    def millis(self) -> int:
        return len(self.data) * 1000 // BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class Encoded:
    """One stretch of sound as a file: made by us, or a recording as it was received.

    `form` is one of FORMS: the file's format as upstreams name it.
    """

    data: bytes
    form: str
    millis: int

    @property
    def media_type(self) -> str:
        return FORMATS[self.form]


FORMATS = {
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}
"""The forms sound is sent in, each with its media type; `opus` is Opus in Ogg."""

PartAudio = Pcm | Encoded


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One call. `model` is the engine's own name for it; options are those it can honour.

    `audio` has the form that the engine `takes`.
    """

    audio: PartAudio
    model: str
    deadline_seconds: float
    language: str | None = None
    context: str | None = None
    words: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineUsage:
    """What the engine says it used, None where it reports nothing; `raw` is verbatim.

    `text_tokens` are those of the input tokens that are text, where it tells them from sound.
    """

    seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    text_tokens: int = 0
    raw: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """What one call heard. Segment times count from the start of the part."""

    text: str
    language: str | None = None
    emotion: str | None = None
    segments: tuple[Segment, ...] = ()
    usage: EngineUsage = EngineUsage()
    request_id: str | None = None
    warnings: tuple[str, ...] = ()
    raw: Mapping[str, Any] | None = None


class ErrorKind(StrEnum):
    UNAVAILABLE = "unavailable"  # not there, not ready, or being started
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    NETWORK = "network"
    REJECTED = "rejected"  # this audio or these options will never be taken
    MALFORMED = "malformed"  # an answer that could not be understood
    ACCOUNT = "account"  # key, arrears, quota: an operator has to act
    INTERNAL = "internal"


class Billed(StrEnum):
    """Whether a failed call may have been charged for."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"


class EngineError(Exception):
    """A call that brought no text. `log` never holds the audio's words or a key.

    `format_rejected`: the same sound might be taken in another form.
    """

    def __init__(
        self,
        kind: ErrorKind,
        log: str,
        *,
        retryable: bool = False,
        billed: Billed = Billed.NO,
        retry_after: float | None = None,
        format_rejected: bool = False,
    ) -> None:
        super().__init__(log)
        self.kind = kind
        self.log = log
        self.retryable = retryable
        self.billed = billed
        self.retry_after = retry_after
        self.format_rejected = format_rejected


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether calls can be made now; `missing` says what is not there: `model downloading 43 %`."""

    ready: bool
    unmet: str = ""


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast calls of a model are made now, for estimates.

    `interval_seconds` is the least time between two calls that the account's rate limit allows (0:
    no limit). `call_seconds` is the moving average of `measured_calls`, or a default where none was
    measured. No call is made for `paused_seconds`, because of `pause_reason`.
    """

    interval_seconds: float = 0.0
    call_seconds: float = DEFAULT_CALL_SECONDS
    max_concurrent_calls: int = 1
    measured_calls: int = 0
    paused_seconds: float = 0.0
    pause_reason: str = ""


class CallSlot:
    """The permission to make one call; see `Engine.try_admit`."""

    def __init__(self, give_back: Callable[[], None] | None = None) -> None:
        self._give_back = give_back

    def release(self) -> None:
        """Give the slot back once the call has ended, or where it is not made. Idempotent."""
        if self._give_back is not None:
            self._give_back()
            self._give_back = None


class Engine(Protocol):
    """Someone who turns audio into words.

    `remote` tells whether a call can outlive this process and cost money: only then is a call
    whose answer was lost in doubt. `region` is where it runs, which decides the prices.
    `takes` is the form in which it wants the sound, `calls_at_once` how many calls of this
    process it works on at once: more parts of one recording would only wait in memory.
    """

    name: str
    region: str
    remote: bool
    accepts: AudioFormat
    max_concurrent_calls: int

    async def open(self) -> None:
        """Begin getting ready; returns at once, the work goes on behind `readiness`."""

    async def close(self) -> None:
        """Let go of everything; calls still running end with an error."""

    def readiness(self, model: str) -> Readiness:
        """Tell whether `model` can be called now. Cheap; never blocks."""

    def throughput(self, model: str, audio_seconds: float) -> Throughput:
        """Return how fast calls of `model` with so much audio are made now. Cheap; never blocks."""

    def admit(
        self, model: str, patience: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait, at most `patience` seconds, until a call of `model` may be made in the block.

        Of the calls that wait in this process the one with the largest `priority` is next.
        It is entered before a call is written down, so that a queue is never a call in doubt, and
        left once the call has ended, however that was. Entering raises EngineError where the
        engine must be left alone for now, and DatabaseAway where nobody can tell.
        """

    async def try_admit(self, model: str) -> CallSlot | None:
        """Admit a call of `model` if that needs no waiting; else return None.

        None also means that the engine is left alone after failures, that the rate limit's
        database is away, or that other calls wait. The slot is taken and, where the account has a
        rate limit, a step of it: a slot that is released without a call loses that step.
        Never waits for other calls. The caller releases the slot.
        """

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Make one call and return what was heard; an empty text means that nobody spoke.

        Waits for an engine that is getting ready, within `deadline_seconds`.
        Raises EngineError, and nothing else that is foreseeable.
        """
