"""The native endpoint, `multimodal-generation/generation`: routing, checks, errors (3.1)."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from tests.simulator import dashscope, input_audio, qwen3
from tests.simulator.answers import Answer
from tests.simulator.audio import Audio
from tests.simulator.bill import Bill, Usage
from tests.simulator.calls import Call
from tests.simulator.errors import (
    ApiError,
    invalid,
    no_model,
    no_words,
    not_asynchronous,
    wrong_url,
)
from tests.simulator.input_audio import Nesting
from tests.simulator.models import STRING_CHARACTERS_31, Model
from tests.simulator.orders import Order
from tests.simulator.speech import Speech

SSE = "text/event-stream;charset=UTF-8"


class Native:
    """Both shapes of the native wire. The model determines the shape."""

    def __init__(self, nesting: Nesting = "flat") -> None:
        self._nesting = nesting

    async def read(self, request: Request) -> Mapping[str, Any]:
        return await dashscope.json_body(request)

    def order(self, body: Mapping[str, Any], model: Model, call: Call) -> Order:
        self._check_route(body, model, call)
        given, parameters = body["input"], dashscope.held(body, "parameters")
        if model.family == "input-audio":
            order = input_audio.order(given, parameters, model)
        else:
            order = qwen3.order(given, parameters, model)
        if model.is_31 and len(order.place) > STRING_CHARACTERS_31:
            raise invalid(
                f"String value length ({len(order.place)}) exceeds the maximum allowed "
                f"({STRING_CHARACTERS_31}, from `StreamReadConstraints.getMaxStringLength()`)"
            )
        return order

    def _check_route(self, body: Mapping[str, Any], model: Model, call: Call) -> None:
        if dashscope.is_on(call.headers.get("x-dashscope-async")):
            raise not_asynchronous()
        if not model.name:
            raise invalid("Model is required.", "BadRequest.EmptyModel")
        if model.family == "retired" and not model.is_present:
            raise no_model(model.name)
        if model.family in {"async", "omni"} or not model.is_present:
            raise wrong_url()
        if not isinstance(body.get("input"), dict):
            raise invalid("input is required.", "BadRequest.EmptyInput")

    def check(self, audio: Audio, order: Order) -> None:
        dashscope.check_length(audio, order)

    def usage(self, order: Order, audio: Audio, said: Speech, bill: Bill) -> Usage:
        if order.model.family == "input-audio" and not said.text:
            raise no_words()
        return dashscope.usage_of(order, audio, said, bill)

    def answer(self, order: Order, said: Speech, usage: Usage, call: Call) -> Answer:
        is_qwen3 = order.model.family != "input-audio"
        if dashscope.is_on(call.headers.get("x-dashscope-sse")):
            events = (qwen3 if is_qwen3 else input_audio).events(order, said, usage)
            frames = [
                _frame(at, {**event, "request_id": call.request_id})
                for at, event in enumerate(events, 1)
            ]
            headers = {**dashscope.headers_of(call), "x-dashscope-finished": "false"}
            error = _error_frame(len(frames) // 2 + 1, call)
            return Answer(200, SSE, frames, headers, is_stream=True, error_event=error)
        whole = qwen3.whole(order, said, usage) if is_qwen3 else input_audio.whole(said, usage, order.model)  # fmt: skip  # noqa: E501
        if not is_qwen3:
            whole = input_audio.nested(whole, self._nesting)
        return dashscope.answered({**whole, "request_id": call.request_id}, call)

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        return dashscope.refused(refusal, call)


def _error_frame(number: int, call: Call) -> bytes:
    said = {
        "code": "DataInspectionFailed",
        "message": "Output data may contain inappropriate content.",
        "request_id": call.request_id,
    }
    head = f"id:{number}\nevent:error\n:HTTP_STATUS/400\ndata:".encode()
    return head + dashscope.compact(said) + b"\n\n"


def _frame(number: int, event: Mapping[str, Any]) -> bytes:
    """Return an event as the service writes it: no space after a colon, status in a comment."""
    head = f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:".encode()
    return head + dashscope.compact(event) + b"\n\n"
