"""What someone who writes an engine that works by tasks must read, and all of it.

A task is submitted, and from then on the upstream works on it and bills it whatever becomes of us;
it is asked for until it has ended, and its result is fetched. The upstream reads the recording
from an address. What goes wrong is an EngineError, as everywhere.
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
    """One task. `model` is the engine's own name for it; options are those it can honour."""

    model: str
    url: str = field(repr=False)
    language: str | None = None
    context: str | None = None
    words: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubmittedTask:
    """A task that the upstream works on from now on."""

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
    """What became of one file: where its result is, or why there is none; neither: no speech.

    `code` is the upstream's own; `unreadable`: it could not read the file.
    """

    result_url: str | None = field(default=None, repr=False)
    error: EngineError | None = None
    code: str = ""
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class TaskReport:
    """How a task is. Its files are those of one that ended; `raw` is verbatim."""

    status: TaskStatus
    files: tuple[FileResult, ...] = ()
    usage: EngineUsage = field(default_factory=EngineUsage)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failure(self) -> FileResult | None:
        """The first of its files that failed."""
        return next((file for file in self.files if file.error is not None), None)


@dataclass(frozen=True, slots=True)
class FileText:
    """What was heard in one file; times count from its start. `raw` is verbatim."""

    text: PartText
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileUpload:
    """A file on its way to the upstream; `chunks` begins it anew each time."""

    name: str
    length: int
    chunks: Callable[[], AsyncIterator[bytes]]


class TaskEngine(Protocol):
    """Someone who transcribes files by tasks."""

    may_upload: bool
    """Whether `upload` may be used, for recordings that nobody could read otherwise."""
    polls_a_second: float
    """How many questions about tasks its account is allowed."""

    def knows(self, model: str) -> bool:
        """Tell whether tasks of `model` may be submitted."""

    def admit(
        self, model: str, patience: float, priority: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of a submit; see Engine.admit."""

    async def upload(self, model: str, file: FileUpload) -> str:
        """Bring a file to where the upstream reads it, for two days, and return its address.

        Raises EngineError, of kind REFUSED where it is larger than the upstream keeps.
        """

    async def submit(self, order: TaskRequest) -> SubmittedTask:
        """Submit a task. It is billed even if its answer is lost, see `EngineError.billed`."""

    async def report(self, task_id: str) -> TaskReport:
        """Ask how a task is, when it is this question's turn. Raises EngineError."""

    async def result(self, url: str) -> FileText:
        """Fetch and read what was heard in one file. Raises EngineError."""

    async def cancel(self, task_id: str) -> bool:
        """Call a task off; only one that nobody has begun with can be. Raises EngineError."""


@runtime_checkable
class HasTasks(Protocol):
    """An engine that works by tasks, too."""

    tasks: TaskEngine | None
