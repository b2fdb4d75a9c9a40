"""Open Qwen3-ASR weights with vLLM, and vLLM's special cases (protocol 6.2, 6.3)."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.simulator import dashscope
from tests.simulator.answers import Answer
from tests.simulator.audio import Audio
from tests.simulator.bill import Bill, Usage
from tests.simulator.calls import Call
from tests.simulator.errors import ApiError, invalid, no_model, too_large
from tests.simulator.languages import NAMES, WHISPER
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.speech import Speech, pieces, token_count

Json = dict[str, Any]
MODELS = ("Qwen/Qwen3-ASR-1.7B", "Qwen/Qwen3-ASR-0.6B")
UPLOAD_BYTES = 25 * 1024 * 1024
DECODED_SECONDS = 600
TOKENS_PER_SECOND = 13
TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError"}
NO_TIMES = "Currently do not support {form} for {model}"
FEW_FORMS = (
    "Currently only support response_format: `text`, `json`, `verbose_json` or `diarized_json`"
)
_FAILED = (
    b'data: {"error":{"message":"Internal server error","type":"InternalServerError",'
    b'"param":null,"code":500}}\n\n'
)


class _Vllm:
    """Base of both endpoints: no charge, and errors with an integer code."""

    def check(self, audio: Audio, order: Order) -> None:
        if audio.seconds > DECODED_SECONDS:
            raise too_large("Audio duration exceeds the maximum decode duration.")

    def usage(self, order: Order, audio: Audio, said: Speech, bill: Bill) -> Usage:
        prompt = math.ceil(audio.seconds * TOKENS_PER_SECOND) + token_count(order.context)
        text = token_count(said.text)
        return Usage(audio.seconds, math.ceil(audio.seconds), 0, text, prompt, text)

    def refused(self, refusal: ApiError, call: Call) -> Answer:
        error = {
            "message": refusal.message,
            "type": TYPES.get(refusal.status, "InternalServerError"),
            "param": None,
            "code": refusal.status,
        }
        later = refusal.retry_after
        headers = {} if later is None else {"retry-after": str(max(1, math.ceil(later)))}
        body = dashscope.compact({"error": error})
        return Answer(refusal.status, "application/json", [body], headers)


class Chat(_Vllm):
    """Chat completions: the raw text, after its language."""

    async def read(self, request: Request) -> Mapping[str, Any]:
        return await dashscope.json_body(request)

    def order(self, body: Mapping[str, Any], model: Model, call: Call) -> Order:
        _check_model(model.name)
        messages = dashscope.messages_of(body)
        user = next((one for one in messages if one["role"] == "user"), {})
        system = [dashscope.texts_in(one) for one in messages if one["role"] == "system"]
        return Order(model=model, place=_place(dashscope.one_audio(user)), context="".join(system))

    def answer(self, order: Order, said: Speech, usage: Usage, call: Call) -> Answer:
        text = said.text if _is_forced(call.body) else raw_text(said)
        named = {"id": f"chatcmpl-{call.request_id}", "created": int(call.at), "model": call.model}
        counted = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        if call.body.get("stream"):
            frame = {**named, "object": "chat.completion.chunk"}
            chunks = list(_chunks(frame, text))
            if (call.body.get("stream_options") or {}).get("include_usage"):
                chunks.append({**frame, "choices": [], "usage": counted})
            return _streamed(chunks)
        message = {"role": "assistant", "content": text, "reasoning_content": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        body = {**named, "object": "chat.completion", "choices": [choice], "usage": counted}
        return Answer(200, "application/json", [dashscope.compact(body)])


class Transcriptions(_Vllm):
    """The audio endpoint: a form as the request, text without its language as the answer."""

    async def read(self, request: Request) -> Mapping[str, Any]:
        form = await request.form()
        body: Json = {}
        for name, value in form.items():
            body[name] = await value.read() if isinstance(value, UploadFile) else value
        await form.close()
        body.setdefault("model", MODELS[0])
        return body

    def order(self, body: Mapping[str, Any], model: Model, call: Call) -> Order:
        _check_model(model.name)
        if not isinstance(body.get("file"), bytes):
            raise invalid("file is required")
        if len(body["file"]) > UPLOAD_BYTES:
            raise too_large("Maximum file size exceeded")
        language = body.get("language")
        if language is not None and language not in WHISPER:
            raise invalid(f"Unsupported language: {language!r}.")
        _check_form(body.get("response_format", "json"), model.name)
        context = str(body.get("prompt") or "")
        return Order(model=model, upload=body["file"], language=language, context=context)

    def answer(self, order: Order, said: Speech, usage: Usage, call: Call) -> Answer:
        if str(call.body.get("stream", "")).lower() == "true":
            named = {
                "id": f"transcribe-{call.request_id}",
                "object": "transcription.chunk",
                "created": int(call.at),
                "model": call.model,
            }
            return _streamed(_chunks(named, said.text))
        spent = {"type": "duration", "seconds": math.ceil(usage.measured_seconds)}
        body = dashscope.compact({"text": said.text, "usage": spent})
        return Answer(200, "application/json", [body])


def raw_text(said: Speech) -> str:
    """Return the model's raw output: the language's name, a tag, the text."""
    name = NAMES.get(said.language, "English") if said.text else "None"
    return f"language {name}<asr_text>{said.text}"


def about() -> list[Route]:
    """Return the routes that are not billed."""

    async def listed(request: Request) -> Response:
        found = [
            {"id": name, "object": "model", "created": 0, "owned_by": "vllm"} for name in MODELS
        ]
        return JSONResponse({"object": "list", "data": found})

    async def healthy(request: Request) -> Response:
        return Response()

    return [Route("/v1/models", listed), Route("/health", healthy)]


def _place(part: Mapping[str, Any]) -> str:
    """Return the address. Base64 alone becomes a data URI, also where it is none (as in vLLM)."""
    if part.get("type") == "audio_url":
        return dashscope.place_of(dashscope.held(part, "audio_url").get("url"))
    given = dashscope.held(part, "input_audio")
    return f"data:audio/{given.get('format')};base64,{dashscope.place_of(given.get('data'))}"


def _is_forced(body: Mapping[str, Any]) -> bool:
    last = body["messages"][-1]
    return last["role"] == "assistant" and bool(body.get("continue_final_message"))


def _check_model(name: str) -> None:
    if name not in MODELS:
        raise no_model(name)


def _check_form(form: str, model: str) -> None:
    if form in {"verbose_json", "diarized_json"}:
        raise invalid(NO_TIMES.format(form=form, model=model))
    if form not in {"json", "text"}:
        raise invalid(FEW_FORMS)


def _chunks(named: Json, text: str) -> Iterator[Json]:
    for piece in pieces(text):
        yield {**named, "choices": [{"index": 0, "delta": {"content": piece}}]}
    yield {**named, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}


def _streamed(chunks: Iterable[Json]) -> Answer:
    frames = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    parts = [*frames, b"data: [DONE]\n\n"]
    return Answer(200, "text/event-stream", parts, is_stream=True, error_event=_FAILED)
