"""The input-audio shape: `qwen-audio-3.x-asr-flash` and `fun-asr-flash-*` (protocol 3.1.2)."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tests.simulator.bill import Usage
from tests.simulator.dashscope import held, messages_of, one_audio, place_of, texts_in
from tests.simulator.errors import invalid
from tests.simulator.models import Model
from tests.simulator.orders import Order
from tests.simulator.speech import Speech, pieces

Json = dict[str, Any]
Nesting = Literal["flat", "doubled", "nested"]
LONG_SECONDS = 60  # shorter audio comes as one event


def order(given: Mapping[str, Any], parameters: Mapping[str, Any], model: Model) -> Order:
    if not parameters.get("format"):
        raise invalid("parameters.format is required.", "BadRequest.EmptyParameters")
    *earlier, last = messages_of(given)
    part = one_audio(last)
    if last["role"] != "user" or part.get("type") != "input_audio":
        raise invalid("The last message must contain the audio.", "BadRequest.IllegalInput")
    hints = parameters.get("language_hints")
    is_raw = parameters["format"] == "pcm"
    return Order(
        model=model,
        place=place_of(held(part, "input_audio").get("data")),
        context="\n".join(map(texts_in, earlier)),
        language=hints[0] if isinstance(hints, list) and hints else None,
        raw_rate=_rate(parameters) if is_raw else None,
        options=dict(parameters),
    )


def _rate(parameters: Mapping[str, Any]) -> int:
    said = str(parameters.get("sample_rate") or 16000)
    if not said.isdecimal() or not int(said):
        raise invalid("sample_rate must be a number.")
    return int(said)


def whole(said: Speech, usage: Usage, model: Model) -> Json:
    output = {"sentence": _sentence(said, usage), "text": said.text}
    return {"output": output, "usage": _usage(usage, model)}


def nested(whole: Json, how: Nesting) -> Json:
    """Return the answer in the documented format, or in one of two other formats that were seen."""
    if how == "doubled":
        return {**whole, **whole["output"]}
    if how == "nested":
        return {**whole, "output": {"output": {"sentence": whole["output"]["sentence"]}}}
    return whole


def events(order: Order, said: Speech, usage: Usage) -> Iterator[Json]:
    """Yield unfinished sentences of long audio, then the finished one with its usage."""
    if usage.measured_seconds >= LONG_SECONDS:
        text = ""
        for piece in pieces(said.text):
            text += piece
            so_far = {**_sentence(Speech(text), usage), "sentence_end": False}
            yield {"output": {"sentence": so_far, "text": text}}
    yield whole(said, usage, order.model)


def _sentence(said: Speech, usage: Usage) -> Json:
    end = round(usage.measured_seconds * 1000)
    return {
        "sentence_id": 1,
        "sentence_end": True,
        "begin_time": 0,
        "end_time": end,
        "text": said.text,
        "channel_id": 0,
        "words": list(_words(said.text, end)),
    }


def _words(text: str, end: int) -> Iterator[Json]:
    parts = list(pieces(text))
    for at, part in enumerate(parts):
        yield {
            "begin_time": end * at // len(parts),
            "end_time": end * (at + 1) // len(parts),
            "text": part,
            "punctuation": "",
            "fixed": False,
            "speaker_id": None,
        }


def _usage(usage: Usage, model: Model) -> Json:
    if not model.is_31:
        return {"duration": usage.seconds}
    return {
        "duration": usage.seconds,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
