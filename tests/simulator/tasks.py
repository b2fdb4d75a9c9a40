"""Tasks of the asynchronous models: their states and the service's answers about them (3.4)."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Any, Literal
from uuid import uuid4

from tests.simulator.bill import Usage
from tests.simulator.calls import Call
from tests.simulator.clock import Clock
from tests.simulator.errors import ApiError
from tests.simulator.faults import Fault
from tests.simulator.models import Model
from tests.simulator.orders import Order

Json = dict[str, Any]
Status = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED"]
Span = float | tuple[float, float]
LIFE_SECONDS = 24 * 3600
BEIJING = timezone(timedelta(hours=8))
NOT_DELIVERED = "InvalidFile.DownloadFailed"


@dataclass(frozen=True)
class Delays:
    """Durations of tasks in the simulator's seconds; between two figures, a random one.

    `pending` counts from the submission. `running`, and `per_audio_second` of all files, count from
    there. They include fetching and transcription, which the simulator really does, if possible.
    """

    pending: Span = 0.2
    running: Span = 0.2
    per_audio_second: float = 0.0


@dataclass
class Subtask:
    """One file of a task and its result."""

    url: str
    seconds: float = 0.0
    usage: Usage | None = None
    result_url: str | None = None
    refusal: ApiError | None = None

    @property
    def status(self) -> str:
        if self.refusal:
            return "FAILED"
        return "SUCCEEDED" if self.result_url else "RUNNING"


@dataclass
class Task:
    """One accepted submission. Times are the simulator's seconds."""

    call: Call
    model: Model
    order: Order
    subtasks: list[Subtask]
    submitted: float
    fault: Fault | None = None
    id: str = field(default_factory=lambda: str(uuid4()))
    status: Status = "PENDING"
    scheduled: float | None = None
    ended: float | None = None
    refusal: ApiError | None = None

    @property
    def is_open(self) -> bool:
        return self.status in {"PENDING", "RUNNING"}

    @property
    def usage(self) -> Usage:
        return sum((one.usage for one in self.subtasks if one.usage), Usage())


class Tasks:
    """All tasks of a simulator. Each belongs to the key and region of its submission."""

    def __init__(self, clock: Clock, seed: int, delays: Delays) -> None:
        self.delays = delays
        self._clock = clock
        self._random = random.Random(f"tasks {seed}")
        self._tasks: dict[str, Task] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task) -> None:
        self._tasks[task.id] = task

    def find(self, task_id: str, call: Call) -> Task | None:
        """Return the caller's task, unless it has expired or a fault removed it."""
        task = self._tasks.get(task_id)
        if task is None or not self._is_seen(task, call):
            return None
        return task

    def listed(self, call: Call) -> list[Task]:
        """Return the caller's tasks, the newest first."""
        found = [task for task in self._tasks.values() if self._is_seen(task, call)]
        return sorted(found, key=lambda task: task.submitted, reverse=True)

    def drawn(self, span: Span) -> float:
        return self._random.uniform(*span) if isinstance(span, tuple) else span

    def _is_seen(self, task: Task, call: Call) -> bool:
        owner = task.call.key, task.call.region
        is_forgotten = task.fault is not None and task.fault.fate == "is-forgotten"
        is_young = self._clock.now() < task.submitted + LIFE_SECONDS
        return owner == (call.key, call.region) and is_young and not is_forgotten


def query_answer(task: Task, clock: Clock) -> Json:
    """Return the answer of a query without its request id."""
    output: Json = {"task_id": task.id, "task_status": task.status}
    times = ("submit", task.submitted), ("scheduled", task.scheduled), ("end", task.ended)
    output |= {f"{name}_time": _time(at, clock) for name, at in times if at is not None}
    is_filetrans = task.model.is_filetrans
    if task.status == "SUCCEEDED" and is_filetrans:
        output["result"] = {"transcription_url": task.subtasks[0].result_url}
    elif task.status in {"SUCCEEDED", "FAILED"} and not is_filetrans:
        output["results"] = [_subtask(one, task.model) for one in task.subtasks]
    if task.status == "FAILED" and task.refusal:
        output["code"], output["message"] = code_and_message(task.refusal, task.model)
    if task.is_open or not is_filetrans:
        output["task_metrics"] = _metrics(task)
    return {"output": output, **({"usage": _usage(task)} if task.status == "SUCCEEDED" else {})}


def code_and_message(refusal: ApiError, model: Model) -> tuple[str, str]:
    """Return the code and message of a failed file, which are mostly equal."""
    if refusal.code == NOT_DELIVERED and not model.is_filetrans:
        return refusal.code, refusal.message
    if refusal.file_code:
        return refusal.file_code, refusal.file_code
    return refusal.code, refusal.message


def _subtask(one: Subtask, model: Model) -> Json:
    if one.refusal:
        code, message = code_and_message(one.refusal, model)
        return {"file_url": one.url, "code": code, "message": message, "subtask_status": "FAILED"}
    return {
        "file_url": one.url,
        "transcription_url": one.result_url,
        "subtask_status": "SUCCEEDED",
    }


def _metrics(task: Task) -> Json:
    found = Counter(one.status for one in task.subtasks if not task.is_open)
    counts = {name: found[name] for name in ("SUCCEEDED", "FAILED")}
    return {"TOTAL": len(task.subtasks), **counts}


def _usage(task: Task) -> Json:
    usage = task.usage
    if task.model.is_filetrans:
        return {"seconds": usage.seconds}
    if not task.model.is_31:
        return {"duration": usage.seconds}
    return {
        "duration": usage.seconds,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _time(at: float, clock: Clock) -> str:
    """Return a time in Beijing's time zone, without naming the zone."""
    moment = clock.moment(at).astimezone(BEIJING)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"
