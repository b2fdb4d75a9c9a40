"""The interface of an engine; docs/adding-an-engine.md shows a complete one.

An engine transcribes one part of an audio. It receives everything by value, stores nothing of a
request and opens no transaction. A failure is an `EngineError`: its `kind` is the cause, and
`billed` tells whether the call may have cost money. Engines do not import one another.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal, Protocol

from app.kit.records import dataclass
from app.speech.transcript import Segment

SAMPLE_RATE = 16_000
BYTES_PER_SECOND = SAMPLE_RATE * 2
DEFAULT_CALL_SECONDS = 5.0  # assumed duration of a call, until one was measured

DeltaSink = Callable[[str], None]
"""Receives the text of a part piece by piece. Called on the event loop; never awaits."""


AudioFormat = Literal["pcm", "file"]
"""The audio that an engine accepts: bare PCM, or an encoded file that it can send."""


@dataclass(frozen=True, slots=True)
class Pcm:
    """Audio as samples: signed 16 bit little endian, mono, 16 kHz."""

    data: bytes

    @property
    def millis(self) -> int:
        return len(self.data) * 1000 // BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Audio as a file, encoded by the gateway or as received. `format` is a key of FORMATS."""

    data: bytes
    format: str
    millis: int

    @property
    def media_type(self) -> str:
        return FORMATS[self.format]


FORMATS = {
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}
"""The file formats that are sent, with their media types; `opus` is Opus in Ogg."""

PartAudio = Pcm | EncodedAudio


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One call. `model` is the engine's name of the model, which supports all `options`.

    `audio` is of the kind that the engine `accepts`. `word_timestamps`: the times of words are
    wanted.
    """

    audio: PartAudio
    model: str
    deadline_seconds: float
    language: str | None = None
    context: str | None = None
    word_timestamps: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineUsage:
    """Usage as the engine reports it; `seconds` is None without a report, `raw` the original.

    `text_tokens` are the input tokens that are not audio, where the engine distinguishes them.
    """

    seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    text_tokens: int = 0
    raw: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """The answer of one call. Times of segments count from the start of the part."""

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
    REJECTED = "rejected"  # this audio or these options will never be accepted
    MALFORMED = "malformed"  # the answer could not be parsed
    ACCOUNT = "account"  # key, arrears, quota: an operator has to act
    INTERNAL = "internal"


class Billed(StrEnum):
    """Whether a failed call may have been billed."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"


class EngineError(Exception):
    """A call that returned no text. `log` never holds a transcript or a key.

    `format_rejected`: the same audio may be accepted in another format.
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
class EngineReadiness:
    """Whether calls can be made now; `unmet` is the reason if not: `model downloading 43 %`."""

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
        """Release the slot after the call, or without one. Idempotent."""
        if self._give_back is not None:
            self._give_back()
            self._give_back = None


class Engine(Protocol):
    """Transcribes audio.

    `remote`: a call can outlive this process and cost money. Only then is a call in doubt if its
    answer was lost. `region` decides the prices. `max_concurrent_calls` limits the calls of this
    process; further parts of an audio would only wait in memory.
    """

    name: str
    region: str
    remote: bool
    accepts: AudioFormat
    max_concurrent_calls: int

    async def open(self) -> None:
        """Start to get ready, and return at once; `readiness` shows the progress."""

    async def close(self) -> None:
        """Release all resources. Calls that still run end with an error."""

    def readiness(self, model: str) -> EngineReadiness:
        """Return whether `model` can be called now. Cheap; never blocks."""

    def throughput(self, model: str, audio_seconds: float) -> Throughput:
        """Return how fast calls of `model` with so much audio are made now. Cheap; never blocks."""

    def admit(
        self, model: str, max_wait_seconds: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait at most `patience` seconds until a call of `model` may be made inside the block.

        The waiting call with the largest `priority` is next. The block is entered before the row of
        the call is inserted, so that a waiting call is never in doubt, and left after the call.
        Entering raises EngineError while the engine is paused or too many calls wait, and
        DatabaseUnavailable if the rate limit cannot be read.
        """

    async def try_admit(self, model: str) -> CallSlot | None:
        """Admit a call of `model` if that needs no waiting; else return None.

        None also means that the engine is paused after failures, that the database of the rate
        limit is unavailable, or that other calls wait. A slot that is released without a call has
        used up its share of the rate limit. The caller releases the slot.
        """

    async def transcribe(
        self, request: EngineRequest, on_delta: DeltaSink | None = None
    ) -> EngineAnswer:
        """Make one call and return its answer. An empty text means that there is no speech.

        Waits for an engine that is not ready yet, within `deadline_seconds`. Raises EngineError for
        every expected failure.
        """
