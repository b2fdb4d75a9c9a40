"""The task API: query, list and cancel (3.4)."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request

from tests.simulator import dashscope
from tests.simulator.answers import Answer
from tests.simulator.calls import Call, Service
from tests.simulator.errors import ApiError, invalid, not_cancelled
from tests.simulator.faults import Fault, Place
from tests.simulator.regions import Region
from tests.simulator.task_runner import TaskRunner
from tests.simulator.tasks import BEIJING, Task, Tasks, query_answer

WINDOW = timedelta(hours=24)
STAMP = "%Y%m%d%H%M%S"
MOST_A_PAGE = 100


class _TaskCalls:
    """Base of the task endpoints: a key is required, and one rate limit applies to all of them."""

    faults: tuple[Place, ...] = ("poll",)
    is_open = False

    def __init__(self, service: Service, tasks: Tasks, work: TaskRunner) -> None:
        self._service = service
        self._tasks = tasks
        self._work = work

    async def read(self, request: Request) -> Mapping[str, Any]:
        return {**request.query_params, **request.path_params}

    def admit(self, call: Call, region: Region) -> None:
        call.task_id, call.model = str(call.body.get("task_id") or ""), ""
        self._service.gate.admit_task_call(call.key)

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        return dashscope.refused(refusal, call)

    def _answer(self, call: Call, **body: Any) -> Answer:
        return dashscope.answered({"request_id": call.request_id, **body}, call)


class Queries(_TaskCalls):
    """`GET /tasks/{task_id}`. The answer for an unknown task is a 200 as well."""

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        task = self._tasks.find(call.task_id, call)
        if task is None:
            unknown = {"task_id": call.task_id, "task_status": "UNKNOWN"}
            return self._answer(call, output=unknown)
        return self._answer(call, **query_answer(task, self._service.clock))


class Cancels(_TaskCalls):
    """`POST /tasks/{task_id}/cancel`, for tasks that have not started."""

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        task = self._tasks.find(call.task_id, call)
        if task is None or task.status != "PENDING":
            raise not_cancelled()
        self._work.cancel(task)
        return self._answer(call)


class Lists(_TaskCalls):
    """`GET /tasks`: the caller's tasks, filtered, in pages."""

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        wanted = self._wanted(call)
        number, size = _count(call, "page_no", 1), _count(call, "page_size", 10)
        size = min(size, MOST_A_PAGE)
        page = wanted[(number - 1) * size : number * size]
        return self._answer(
            call,
            data=[self._told(task) for task in page],
            total=len(wanted),
            total_page=math.ceil(len(wanted) / size),
            page_no=number,
            page_size=size,
        )

    def _wanted(self, call: Call) -> list[Task]:
        asked, clock = call.body, self._service.clock
        since, until = _window(asked)
        wishes = {"task_id": call.task_id, **{name: asked.get(name) for name in _FILTERS}}
        return [
            task
            for task in self._tasks.listed(call)
            if all(not wish or _FILTERED[name](task) == wish for name, wish in wishes.items())
            and (since is None or since <= clock.moment(task.submitted))
            and (until is None or clock.moment(task.submitted) <= until)
        ]

    def _told(self, task: Task) -> dict[str, Any]:
        times = {"gmt_create": task.submitted, "start_time": task.scheduled, "end_time": task.ended}
        clock = self._service.clock
        return {
            "api_key_id": str(sum(task.call.key.encode())),
            "caller_parent_id": "1000000000000000",
            "caller_uid": "1000000000000000",
            **{
                name: int(clock.moment(at).timestamp() * 1000)
                for name, at in times.items()
                if at is not None
            },
            "model_name": task.model.name,
            "region": task.call.region,
            "request_id": task.call.request_id,
            "status": task.status,
            "task_id": task.id,
            "user_api_unique_key": f"apikey:v1:audio:asr:transcription:{task.model.name}",
        }


_FILTERED = {
    "task_id": lambda task: task.id,
    "model_name": lambda task: task.model.name,
    "status": lambda task: task.status,
    "region": lambda task: task.call.region,
}
_FILTERS = ("model_name", "status", "region")


def _window(asked: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    since, until = _moment(asked, "start_time"), _moment(asked, "end_time")
    if since and until and until - since > WINDOW:
        raise invalid("The time between start_time and end_time must not exceed 24 hours.")
    return since, until


def _moment(asked: Mapping[str, Any], name: str) -> datetime | None:
    if not asked.get(name):
        return None
    try:
        return datetime.strptime(asked[name], STAMP).replace(tzinfo=BEIJING)
    except ValueError:
        raise invalid(f"{name} must be written YYYYMMDDhhmmss.") from None


def _count(call: Call, name: str, usual: int) -> int:
    given = str(call.body.get(name) or usual)
    if not given.isdecimal() or not int(given):
        raise invalid(f"{name} must be a number from 1.")
    return int(given)
