"""Code of all DashScope endpoints: headers, JSON, and the reading of a body."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from tests.simulator.answers import Answer
from tests.simulator.audio import Audio
from tests.simulator.bill import Bill, Usage
from tests.simulator.calls import Call
from tests.simulator.errors import ApiError, bad_url, invalid
from tests.simulator.models import CONTEXT_TOKENS, SECONDS
from tests.simulator.orders import Order
from tests.simulator.speech import Speech, token_count

JSON = "application/json;charset=UTF-8"
TOKENS_PER_SECOND_31 = 16


def headers_of(call: Call) -> dict[str, str]:
    """Return the headers seen in recordings of the service (protocol 1.3)."""
    now = int(time.time() * 1000)
    arrived = int(call.started_at.timestamp() * 1000)
    return {
        "x-request-id": call.request_id,
        "x-dashscope-call-gateway": "true",
        "x-dashscope-timeout": "298",
        "req-cost-time": str(now - arrived),
        "req-arrive-time": str(arrived),
        "resp-start-time": str(now),
        "x-envoy-upstream-service-time": str(now - arrived),
        "server": "istio-envoy",
    }


def refusal_headers(refusal: ApiError, call: Call) -> dict[str, str]:
    if refusal.retry_after is None:
        return headers_of(call)
    return {**headers_of(call), "retry-after": str(max(1, math.ceil(refusal.retry_after)))}


def answered(body: Mapping[str, Any], call: Call) -> Answer:
    return Answer(200, JSON, [compact(body)], headers_of(call))


def refused(refusal: ApiError, call: Call) -> Answer:
    """Return an error in the native format (protocol 3.1.3)."""
    said = {"code": refusal.code, "message": refusal.message, "request_id": call.request_id}
    headers = refusal_headers(refusal, call)
    return Answer(refusal.status, "application/json", [compact(said)], headers)


def compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def json_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        body = json.loads(raw)
    except ValueError:
        raise invalid("Required body invalid, please check the request body format.") from None
    if not isinstance(body, dict):
        raise invalid("Required body invalid, please check the request body format.")
    return body


def messages_of(holder: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = holder.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("input must contain messages", "BadRequest.EmptyInput")
    if not all(isinstance(one, dict) and "role" in one for one in messages):
        raise invalid("messages must be objects with a role", "BadRequest.IllegalInput")
    return messages


def held(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object of that name, or an empty one."""
    found = holder.get(name) or {}
    if not isinstance(found, dict):
        raise invalid(f"{name} must be an object.")
    return found


def texts_in(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def one_audio(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the only part of a user's message."""
    content = message.get("content")
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        raise invalid("The user message must contain exactly one audio.", "BadRequest.IllegalInput")
    found: dict[str, Any] = content[0]
    return found


def place_of(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise bad_url()
    return value


def context_and_user(messages: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return the system text and the one user message: the only two shapes qwen3 takes."""
    roles = [message["role"] for message in messages]
    if roles == ["system", "user"]:
        return checked_context(texts_in(messages[0])), messages[1]
    if roles == ["user"]:
        return "", messages[0]
    raise invalid("Only one user message and one system message before it are supported.")


def checked_context(text: str) -> str:
    if token_count(text) > CONTEXT_TOKENS:
        raise invalid(f"Range of input length should be [1, {CONTEXT_TOKENS}]")
    return text


def check_length(audio: Audio, order: Order) -> None:
    if audio.seconds <= SECONDS:
        return
    if order.model.family == "input-audio":
        length = f"audio duration ({audio.seconds * 1000:.1f}ms) over service process (300s)"
        raise invalid(length, "AUDIO_DURATION_TOO_LONG")
    raise invalid("Audio length must be between 1s and 300s.", "InvalidFile.AudioLengthError")


def usage_of(order: Order, audio: Audio, said: Speech, bill: Bill) -> Usage:
    """Return the charge: rounded up where that is documented, else by the rounding of the bill."""
    seconds = bill.rounded(audio.seconds)
    context, text = token_count(order.context), token_count(said.text)
    tokens = (0, 0)
    if order.model.family == "input-audio":
        seconds = math.ceil(round(audio.seconds, 3))
    if order.model.is_31:
        tokens = math.ceil(audio.seconds * TOKENS_PER_SECOND_31) + context, text
    if order.model.family == "retired":
        tokens = round(max(1.0, audio.seconds) * 25) + context, text
    return Usage(audio.seconds, seconds, context, text, *tokens)


def is_on(value: str | None) -> bool:
    return (value or "").lower() == "enable"
