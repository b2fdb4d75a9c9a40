"""Qwen-Omni as a transcriber: a chat with the sound in it, answered as a stream and paid by token.

It is a language model that was told to write down what it hears. It names no language, and what
it writes may be other words than were spoken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.net.http.exchange import Answer, Body
from app.speech.engine import DeltaSink, EngineAnswer, EngineRequest, EngineUsage
from app.speech.engines.dashscope.errors import parse_chat_error, parse_error
from app.speech.engines.http.chat_stream import ChatStream
from app.speech.engines.http.engine import StreamFormat, WireFormat
from app.speech.engines.http.json_body import (
    AudioPlaceholder,
    file_of,
    json_with_audio,
    malformed_response,
    member,
    number,
)

ROUTE = "/compatible-mode/v1/chat/completions"
ID_PREFIX = "chatcmpl-"


@dataclass(frozen=True, slots=True)
class Omni:
    """What one model is told: its prompt, how long an answer may be, and members of its own."""

    prompt: str
    max_output_tokens: int
    extra_body: Mapping[str, str] = field(default_factory=dict)


def omni_dialect(omni: Omni) -> WireFormat:
    """Return how one of these models is asked."""

    def write(request: EngineRequest) -> Body:
        hole = AudioPlaceholder()
        return json_with_audio(omni_ask(omni, request, hole), hole, file_of(request))

    return WireFormat(
        ROUTE, write, read_omni, StreamFormat(write, OmniStream, {}, stream_only=True)
    )


def omni_ask(omni: Omni, request: EngineRequest, hole: AudioPlaceholder) -> Mapping[str, Any]:
    """Return the body; the answer is bounded, as what was held for the call rests on it."""
    sound = {"data": hole.mark, "format": file_of(request).form}
    content = [
        {"type": "input_audio", "input_audio": sound},
        {"type": "text", "text": prompt_for(omni, request)},
    ]
    return {
        "model": request.model,
        "messages": [{"role": "user", "content": content}],
        "modalities": ["text"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": omni.max_output_tokens,
        **omni.extra_body,
    }


def prompt_for(omni: Omni, request: EngineRequest) -> str:
    """Return what the model is told, with what the caller knows of the recording."""
    told = [omni.prompt]
    if request.language:
        told.append(f"The speech is in this language: {request.language}.")
    if request.context:
        told.append(f"Words that may occur: {request.context}")
    return "\n".join(told)


def read_omni(_request: EngineRequest, answer: Answer) -> EngineAnswer:
    """Read what came instead of a stream. Raises EngineError."""
    raise parse_error(answer.status, answer.headers, answer.body)


class OmniStream(ChatStream):
    """A chat's stream, of which the tokens must be told: they are what is paid for."""

    def __init__(self, request: EngineRequest, tell: DeltaSink) -> None:
        super().__init__(request, tell, parse_chat_error)

    def answer(self, head: Answer) -> EngineAnswer:
        """Return what was heard; see Gathering."""
        said = super().answer(head)
        named = head.headers.get("x-request-id") or (said.request_id or "").removeprefix(ID_PREFIX)
        usage = parse_omni_usage(said.usage.raw or {})
        return replace(said, text=said.text.strip(), usage=usage, request_id=named or None)


def parse_omni_usage(usage: Mapping[str, Any]) -> EngineUsage:
    """Read what was used. Raises EngineError where a count is missing."""
    counts = [number(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    given, made = (None if count is None else int(count) for count in counts)
    if given is None or made is None:
        raise malformed_response("a usage without its tokens")
    text = int(number(member(usage, "prompt_tokens_details", "text_tokens")) or 0)
    return EngineUsage(None, given, made, min(text, given), usage)
