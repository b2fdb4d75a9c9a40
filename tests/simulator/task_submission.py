"""The submission of tasks, `audio/asr/transcription`: routing, checks, a new task (3.4)."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from tests.simulator import dashscope
from tests.simulator.answers import Answer
from tests.simulator.calls import Call, Service
from tests.simulator.errors import ApiError, invalid, not_synchronous, wrong_url
from tests.simulator.faults import Fault, Place
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.regions import Region
from tests.simulator.sources import check_address
from tests.simulator.task_runner import TaskRunner
from tests.simulator.tasks import Subtask, Task, Tasks

MOST_FILES = 100
SPEAKERS = range(2, 101)


class TaskSubmission:
    """The endpoint for submissions."""

    faults: tuple[Place, ...] = ("submit", "call")
    is_open = False

    def __init__(self, service: Service, tasks: Tasks, work: TaskRunner) -> None:
        self._service = service
        self._tasks = tasks
        self._work = work

    async def read(self, request: Request) -> Mapping[str, Any]:
        return await dashscope.json_body(request)

    def admit(self, call: Call, region: Region) -> None:
        usual = self._service.model(call).requests_per_minute
        self._service.gate.admit(call.key, call.model, usual)

    async def work(self, call: Call, region: Region, fault: Fault | None) -> Answer:
        model = self._service.model(call)
        _check_route(call, model)
        urls = _urls(call.body["input"], model)
        for url in urls:
            check_address(url, may_resolve=call.resolves)
        call.order, call.place = _order(call.body, urls, model), urls[0]
        if fault and fault.how == "page":
            return dashscope.answered({}, call)  # a proxy answers: the request did not arrive
        task = self._taken(call, model, urls)
        output = {"task_status": "PENDING", "task_id": task.id}
        return dashscope.answered({"output": output, "request_id": call.request_id}, call)

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        return dashscope.refused(refusal, call)

    def _taken(self, call: Call, model: Model, urls: list[str]) -> Task:
        fate = self._service.faults.draw(call.region, "task")
        if fate and fate.fate == "fails-partly" and len(urls) == 1:
            fate = None  # one file fails as a whole or not at all
        call.fault = call.fault or (fate.name if fate else None)
        subtasks = [Subtask(url) for url in urls]
        assert call.order is not None
        task = Task(call, model, call.order, subtasks, self._service.clock.now(), fate)
        call.task_id = task.id
        self._tasks.add(task)
        self._work.start(task)
        return task


def _check_route(call: Call, model: Model) -> None:
    if not dashscope.is_on(call.headers.get("x-dashscope-async")):
        raise not_synchronous()
    if not model.name:
        raise invalid("Model is required.", "BadRequest.EmptyModel")
    if model.family != "async" or not model.is_present:
        raise wrong_url()
    if not isinstance(call.body.get("input"), dict):
        raise invalid("input is required.", "BadRequest.EmptyInput")
    if model.is_3x and not isinstance(call.body.get("parameters"), dict):
        raise invalid("parameters is required.", "BadRequest.EmptyParameters")


def _urls(given: Mapping[str, Any], model: Model) -> list[str]:
    """Return the URLs: one for qwen3's model, a list for the others, under different names."""
    if model.is_filetrans:
        if not given.get("file_url"):
            raise invalid("input must contain file_url")
        return [dashscope.place_of(given["file_url"])]
    urls = given.get("file_urls")
    if not urls or not isinstance(urls, list):
        raise invalid("input must contain file_urls")
    if len(urls) > MOST_FILES:
        raise invalid(f"The number of file_urls exceeds the limit of {MOST_FILES}.")
    return [dashscope.place_of(url) for url in urls]


def _order(body: Mapping[str, Any], urls: list[str], model: Model) -> Order:
    options = dashscope.held(body, "parameters")
    hints = options.get("language_hints")
    hint = hints[0] if isinstance(hints, list) and hints else None
    _check_speakers(options.get("speaker_count"))
    return Order(
        model=model,
        place=urls[0],
        language=options.get("language") if model.is_filetrans else hint,
        context=dashscope.checked_context(_context(body["input"], options, model)),
        channels=_channels(options.get("channel_id")),
        options=dict(options),
    )


def _context(given: Mapping[str, Any], options: Mapping[str, Any], model: Model) -> str:
    if model.is_filetrans:
        corpus = options.get("corpus")
        return str(corpus.get("text") or "") if isinstance(corpus, dict) else ""
    messages = given.get("context")
    parts = messages if isinstance(messages, list) else []
    return "\n".join(dashscope.texts_in(one) for one in parts if isinstance(one, dict))


def _channels(given: Any) -> tuple[int, ...]:
    if given is None:
        return (0,)
    if not isinstance(given, list) or not given or not all(map(_is_count, given)):
        raise invalid("channel_id must be a list of numbers.")
    return tuple(dict.fromkeys(given))


def _check_speakers(given: Any) -> None:
    if given is not None and not (_is_count(given) and given in SPEAKERS):
        raise invalid("speaker_count must be between 2 and 100.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
