"""DashScope's OpenAI-compatible chat completions (protocol 3.3)."""

from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request

from tests.simulator import dashscope, omni
from tests.simulator.answers import Answer
from tests.simulator.audio import Audio
from tests.simulator.bill import Bill, Usage
from tests.simulator.calls import Call
from tests.simulator.errors import ApiError, invalid, no_model, not_compatible
from tests.simulator.models import NO_COMPATIBLE_MODE, Model
from tests.simulator.orders import Order
from tests.simulator.speech import Speech, pieces

Json = dict[str, Any]
_FAILED = (
    b'event: error\ndata: {"code":"data_inspection_failed",'
    b'"message":"Output data may contain inappropriate content."}\n\n'
)
OUTPUT_TOKENS = 2  # this endpoint counts twice as many as the native one, by the documents


class Compatible:
    """Chat completions of qwen3-asr-flash and of Omni.

    With `as_events` the error of a rejected stream is sent as SSE.
    """

    def __init__(self, *, as_events: bool) -> None:
        self._as_events = as_events

    async def read(self, request: Request) -> Mapping[str, Any]:
        return await dashscope.json_body(request)

    def order(self, body: Mapping[str, Any], model: Model, call: Call) -> Order:
        if not model.is_present:
            raise no_model(model.name)
        if model.family not in {"qwen3", "omni"} or call.region in NO_COMPATIBLE_MODE:
            raise not_compatible(model.name)
        if model.family == "omni":
            return omni.order(body, model)
        if body.get("stream_options") and not body.get("stream"):
            raise invalid("`stream_options` is only allowed with `stream`.")
        dashscope.held(body, "stream_options")
        context, user = dashscope.context_and_user(dashscope.messages_of(body))
        options = dashscope.held(body, "asr_options")
        return Order(
            model=model,
            place=dashscope.place_of(
                dashscope.held(dashscope.one_audio(user), "input_audio").get("data")
            ),
            context=context,
            language=options.get("language"),
            options=dict(options),
        )

    def check(self, audio: Audio, order: Order) -> None:
        is_omni = order.model.family == "omni"
        (omni.check_length if is_omni else dashscope.check_length)(audio, order)

    def usage(self, order: Order, audio: Audio, said: Speech, bill: Bill) -> Usage:
        if order.model.family == "omni":
            return omni.usage_of(order, audio, said, bill.rounded(audio.seconds))
        return dashscope.usage_of(order, audio, said, bill)

    def answer(self, order: Order, said: Speech, usage: Usage, call: Call) -> Answer:
        headers = dashscope.headers_of(call)
        if call.body.get("stream"):
            frames = [_event(chunk) for chunk in _stream(order, said, usage, call)]
            media_type = "text/event-stream;charset=UTF-8"
            parts = [*frames, b"data: [DONE]\n\n"]
            return Answer(200, media_type, parts, headers, is_stream=True, error_event=_FAILED)
        message = {"role": "assistant", "content": said.text, "annotations": _heard(said)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = {**_named(call, "chat.completion"), "choices": [choice], "usage": _usage(usage)}
        return Answer(200, "application/json;charset=UTF-8", [dashscope.compact(body)], headers)

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        said = {
            "error": {
                "message": _wrapped(refusal),
                "type": "invalid_request_error" if refusal.status < 500 else refusal.compat_code,
                "param": None,
                "code": refusal.compat_code,
            },
            "id": f"chatcmpl-{call.request_id}",
            "request_id": call.request_id,
        }
        headers = dashscope.refusal_headers(refusal, call)
        if self._as_events and call.body.get("stream") and refusal.status == 400:
            return Answer(400, "text/event-stream;charset=UTF-8", [_event(said)], headers)
        return Answer(refusal.status, "application/json", [dashscope.compact(said)], headers)


def _wrapped(refusal: ApiError) -> str:
    message = refusal.compat_message or refusal.message
    if refusal.compat_code == "invalid_parameter_error":
        return f"<400> InternalError.Algo.InvalidParameter: {message}"
    return message


def _event(value: Json) -> bytes:
    return b"data: " + dashscope.compact(value) + b"\n\n"


def _named(call: Call, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{call.request_id}",
        "object": kind,
        "created": int(call.started_at.timestamp()),
        "model": call.model,
    }


def _heard(said: Speech) -> list[Json]:
    return [{"emotion": said.emotion, "language": said.language, "type": "audio_info"}]


def _stream(order: Order, said: Speech, usage: Usage, call: Call) -> Iterator[Json]:
    if order.model.family != "omni":
        return _chunks(said, usage, call)
    with_usage = bool((call.body.get("stream_options") or {}).get("include_usage"))
    frame = {**_named(call, "chat.completion.chunk"), "usage": None}
    return omni.chunks(order, said, usage, frame, with_usage=with_usage)


def _chunks(said: Speech, usage: Usage, call: Call) -> Iterator[Json]:
    frame = {**_named(call, "chat.completion.chunk"), "usage": None}
    first = {"content": "", "role": "assistant"}
    yield {**frame, "choices": [{"logprobs": None, "index": 0, "delta": first}]}
    for piece in pieces(said.text):
        delta = {"annotations": _heard(said), "content": piece, "role": None}
        yield {**frame, "choices": [{"delta": delta, "index": 0}]}
    yield {**frame, "choices": [{"delta": {"role": None}, "index": 0, "finish_reason": "stop"}]}
    if (call.body.get("stream_options") or {}).get("include_usage"):
        yield {**frame, "choices": [], "usage": _usage(usage)}


def _usage(usage: Usage) -> Json:
    prompt = usage.audio_tokens + usage.context_tokens
    completion = usage.text_tokens * OUTPUT_TOKENS
    return {
        "prompt_tokens": prompt,
        "prompt_tokens_details": {
            "audio_tokens": usage.audio_tokens,
            "text_tokens": usage.context_tokens,
        },
        "completion_tokens": completion,
        "completion_tokens_details": {"text_tokens": completion},
        "total_tokens": prompt + completion,
        "seconds": usage.seconds,
    }
