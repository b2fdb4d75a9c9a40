"""The interface of an engine that transcribes files by tasks.

A task is submitted and polled until it ends; then its result is fetched. From the submission on,
the upstream works on the task and bills it, even if the gateway stops. The upstream reads the audio
from an address. Failures are EngineErrors.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from app.speech.engine import EngineError, EngineUsage
from app.speech.merge import PartText


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """One task. `model` is the engine's name of the model, which supports all `options`."""

    model: str
    url: str = field(repr=False)
    language: str | None = None
    context: str | None = None
    word_timestamps: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubmittedTask:
    """A task that the upstream has accepted."""

    task_id: str
    request_id: str | None


class TaskStatus(StrEnum):
    OPEN = "open"  # waiting, being worked on, or suspended
    DONE = "done"  # at least one of its files was transcribed, or nobody speaks in any
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # never submitted with this key, or too long ago


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of one file: an address, an error, or neither if there is no speech.

    `code` is the upstream's error code; `unreadable`: the upstream could not read the file.
    """

    result_url: str | None = field(default=None, repr=False)
    error: EngineError | None = None
    code: str = ""
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The state of a task. `files` are set once it has ended; `raw` is the original answer."""

    status: TaskStatus
    files: tuple[FileResult, ...] = ()
    usage: EngineUsage = field(default_factory=EngineUsage)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failure(self) -> FileResult | None:
        """The first file that failed."""
        return next((file for file in self.files if file.error is not None), None)


@dataclass(frozen=True, slots=True)
class FileText:
    """The text of one file; times count from its start. `raw` is the original result."""

    text: PartText
    raw: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileUpload:
    """A file to upload; each call of `chunks` starts at its beginning."""

    name: str
    length: int
    chunks: Callable[[], AsyncIterator[bytes]]


class TaskEngine(Protocol):
    """Transcribes files by tasks."""

    may_upload: bool
    """Whether `upload` may be used, for audio without an address that the upstream can read."""
    polls_per_second: float
    """How many questions about tasks its account is allowed."""

    def knows(self, model: str) -> bool:
        """Tell whether tasks of `model` may be submitted."""

    def admit(
        self, model: str, max_wait_seconds: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait until a task may be submitted; see Engine.admit."""

    async def upload(self, model: str, file: FileUpload) -> str:
        """Upload a file to the upstream's storage, which keeps it for two days; return its address.

        Raises EngineError, of kind REJECTED if the file is too large.
        """

    async def submit(self, request: TaskRequest) -> SubmittedTask:
        """Submit a task. It is billed even if the answer is lost; see `EngineError.billed`."""

    async def report(self, task_id: str) -> TaskReport:
        """Return the state of a task, within the rate limit of polls. Raises EngineError."""

    async def result(self, url: str) -> FileText:
        """Fetch and parse the result of one file. Raises EngineError."""

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task that is still waiting; return False for others. Raises EngineError."""


@runtime_checkable
class HasTasks(Protocol):
    """An engine that also works by tasks, or has `tasks` None."""

    tasks: TaskEngine | None
