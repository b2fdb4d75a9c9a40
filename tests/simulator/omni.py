"""Qwen-Omni in the compatible mode: a chat with audio, streamed only (protocol 2.5)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tests.simulator.audio import Audio
from tests.simulator.bill import Usage
from tests.simulator.dashscope import held, messages_of, place_of, texts_in
from tests.simulator.errors import invalid
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.speech import Speech, pieces, token_count

Json = dict[str, Any]
ONLY_STREAMED = (
    "This model only support stream mode, please enable the stream parameter to access the model."
)
TEMPLATE_TOKENS = 9  # of text around the caller's; the real number is not public
THOUGHT = "Let me listen to this once more before I write it down."


def order(body: Mapping[str, Any], model: Model) -> Order:
    """Read a request. A request without an instruction is rejected."""
    if body.get("stream") is not True:
        raise invalid(ONLY_STREAMED)
    held(body, "stream_options")
    _check_modalities(body.get("modalities"))
    messages = messages_of(body)
    user = messages[-1]
    if user["role"] != "user":
        raise invalid("The last message must be the user's.")
    sound = _only_sound(user)
    prompt = texts_in(user)
    if not prompt.strip():
        raise invalid("The user message must contain a text beside the audio.")
    if not sound.get("format"):
        raise invalid("input_audio.format is required.")
    return Order(
        model=model,
        place=place_of(sound.get("data")),
        context="\n".join(map(texts_in, messages)),
        options={name: body[name] for name in ("reasoning_effort", "max_tokens") if name in body},
    )


def check_length(audio: Audio, order: Order) -> None:
    most = order.model.seconds
    if audio.seconds > most:
        raise invalid(f"Audio length must be between 1s and {most:.0f}s.")


def usage_of(order: Order, audio: Audio, said: Speech, seconds: int) -> Usage:
    """Return the tokens of the audio by its length, of the input text and of the output."""
    sound = math.ceil(order.model.tokens_per_second * max(1.0, audio.seconds))
    text = token_count(order.context) + TEMPLATE_TOKENS
    out = token_count(limited_text(order, said).text) + token_count(thought_of(order))
    return Usage(audio.seconds, seconds, text, out, sound + text, out, text_input_tokens=text)


def limited_text(order: Order, said: Speech) -> Speech:
    """Return the text, limited to the maximum length of the request."""
    most = order.options.get("max_tokens")
    if most is None or token_count(said.text) <= most:
        return said
    return Speech("".join(list(pieces(said.text))[:most]), said.language, said.emotion)


def thought_of(order: Order) -> str:
    """Return the reasoning before the answer, which some models send unless it is disabled."""
    is_quiet = not order.model.thinks or order.options.get("reasoning_effort") == "none"
    return "" if is_quiet else THOUGHT


def chunks(
    order: Order, said: Speech, usage: Usage, frame: Json, *, with_usage: bool
) -> Iterator[Json]:
    """Yield the stream. `frame` has the members that all chunks share."""
    fitting = limited_text(order, said)
    yield {**frame, "choices": [_choice({"content": "", "role": "assistant"})]}
    if thought := thought_of(order):
        yield {**frame, "choices": [_choice({"content": None, "reasoning_content": thought})]}
    for piece in pieces(fitting.text):
        yield {**frame, "choices": [_choice({"content": piece})]}
    reason = "stop" if fitting is said else "length"
    yield {**frame, "choices": [_choice({"content": ""}, reason)]}
    if with_usage:
        yield {**frame, "choices": [], "usage": _usage(usage)}


def _choice(delta: Json, reason: str | None = None) -> Json:
    return {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "audio_tokens": usage.input_tokens - usage.text_input_tokens,
            "text_tokens": usage.text_input_tokens,
        },
        "completion_tokens_details": {"text_tokens": usage.output_tokens},
    }


def _check_modalities(wanted: object) -> None:
    if wanted is None:
        return
    if not isinstance(wanted, list) or "text" not in wanted or {*wanted} - {"text", "audio"}:
        raise invalid('modalities must be ["text"] or ["text", "audio"].')
    if "audio" in wanted:
        raise invalid("audio.voice is required for spoken answers.")


def _only_sound(user: Mapping[str, Any]) -> Json:
    content = user.get("content")
    parts = (
        [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )
    sounds = [part for part in parts if part.get("type") == "input_audio"]
    if len(sounds) != 1:
        raise invalid("The user message must contain exactly one input_audio.")
    return held(sounds[0], "input_audio")
