"""The qwen3 shape of the native wire: messages in, choices out (protocol 3.1.1, 3.2)."""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from tests.simulator.bill import Usage
from tests.simulator.dashscope import context_and_user, held, messages_of, one_audio, place_of
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.speech import Speech, pieces

Json = dict[str, Any]


def order(given: Mapping[str, Any], parameters: Mapping[str, Any], model: Model) -> Order:
    context, user = context_and_user(messages_of(given))
    options = held(parameters, "asr_options")
    return Order(
        model=model,
        place=place_of(one_audio(user).get("audio")),
        context=context,
        language=options.get("language"),
        options=dict(parameters),
    )


def whole(order: Order, said: Speech, usage: Usage) -> Json:
    content = [{"text": said.text}] if said.text else []
    return {"output": _output(content, "stop", said), "usage": _usage(order, usage)}


def events(order: Order, said: Speech, usage: Usage) -> Iterator[Json]:
    """Yield the text so far, or only the new text if requested, and the end."""
    parts = list(pieces(said.text))
    is_incremental = bool(order.options.get("incremental_output"))
    for count, so_far in enumerate(accumulate(parts), 1):
        text = parts[count - 1] if is_incremental else so_far
        running = {**_usage(order, usage), "output_tokens_details": {"text_tokens": count}}
        yield {"output": _output([{"text": text}], "null", said), "usage": running}
    last = [] if is_incremental or not said.text else [{"text": said.text}]
    yield {"output": _output(last, "stop", None), "usage": _usage(order, usage)}


def _output(content: list[Json], reason: str, said: Speech | None) -> Json:
    message: Json = {"content": content, "role": "assistant"}
    if said is not None:
        heard = {"language": said.language, "type": "audio_info", "emotion": said.emotion}
        message["annotations"] = [heard]
    return {"choices": [{"finish_reason": reason, "message": message}]}


def _usage(order: Order, usage: Usage) -> Json:
    if order.model.family == "retired":
        return {
            "audio_tokens": usage.audio_tokens,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
        }
    return {
        "input_tokens_details": {"text_tokens": usage.context_tokens},
        "output_tokens_details": {"text_tokens": usage.text_tokens},
        "seconds": usage.seconds,
    }
