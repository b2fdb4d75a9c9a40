"""Qwen-Omni as a transcriber: a chat with audio, answered as a stream and billed by token.

It is a language model with the instruction to transcribe. It reports no language, and its text may
differ from the spoken words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.net.http.exchange import Answer, Body
from app.speech.engine import DeltaSink, EngineAnswer, EngineError, EngineRequest, EngineUsage
from app.speech.engines.dashscope.errors import BAD_REQUEST, dashscope_error
from app.speech.engines.http.chat_stream import ChatStream
from app.speech.engines.http.failures import malformed_response
from app.speech.engines.http.json_body import AUDIO_MARK, encoded_audio, json_with_audio
from app.speech.engines.http.json_reading import member, number_of
from app.speech.engines.http.wire_format import StreamedFormat, StreamParser

ID_PREFIX = "chatcmpl-"


@dataclass(frozen=True, slots=True)
class OmniModel:
    """The prompt of one model, the limit of its output, and additional members of the request."""

    prompt: str
    max_output_tokens: int
    extra_body: Mapping[str, str] = field(default_factory=dict)


class OmniFormat(StreamedFormat):
    """The chat route, for one model."""

    route = "/compatible-mode/v1/chat/completions"
    stream_only = True

    def __init__(self, model: OmniModel) -> None:
        self._model = model

    def body(self, request: EngineRequest, *, streamed: bool) -> Body:  # noqa: ARG002 - always
        """Return the body of a request; see WireFormat."""
        return json_with_audio(omni_request(self._model, request), encoded_audio(request))

    def parse(self, _request: EngineRequest, answer: Answer) -> EngineAnswer:
        """Raise the error that was answered instead of a stream; see WireFormat."""
        raise dashscope_error(answer.status, answer.headers, answer.body)

    def stream_parser(self, request: EngineRequest, on_delta: DeltaSink) -> StreamParser:
        """Return a parser for one stream; see StreamedFormat."""
        return OmniStream(request, on_delta)


def omni_request(model: OmniModel, request: EngineRequest) -> Mapping[str, Any]:
    """Return the body. The output is limited, because the hold for the call depends on it."""
    audio = {"data": AUDIO_MARK, "format": encoded_audio(request).format}
    content = [
        {"type": "input_audio", "input_audio": audio},
        {"type": "text", "text": prompt_for(model, request)},
    ]
    return {
        "model": request.model,
        "messages": [{"role": "user", "content": content}],
        "modalities": ["text"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": model.max_output_tokens,
        **model.extra_body,
    }


def prompt_for(model: OmniModel, request: EngineRequest) -> str:
    """Return the model's prompt with the language and the context of the request."""
    lines = [model.prompt]
    if request.language:
        lines.append(f"The speech is in this language: {request.language}.")
    if request.context:
        lines.append(f"Words that may occur: {request.context}")
    return "\n".join(lines)


class OmniStream(ChatStream):
    """The stream of a chat that must report its tokens, because they are billed."""

    def parse_error(self, body: bytes) -> EngineError:
        """Return the error of a chunk. Its HTTP status is 200, so that its code decides."""
        return dashscope_error(BAD_REQUEST, {}, body)

    def answer(self, head: Answer) -> EngineAnswer:
        """Return the answer; see StreamParser."""
        found = super().answer(head)
        request_id = head.headers.get("x-request-id")
        request_id = request_id or (found.request_id or "").removeprefix(ID_PREFIX)
        usage = parse_omni_usage(found.usage.raw or {})
        return replace(found, text=found.text.strip(), usage=usage, request_id=request_id or None)


def parse_omni_usage(usage: Mapping[str, Any]) -> EngineUsage:
    """Read the usage. Raises EngineError if a count is missing."""
    prompt, completion = (
        number_of(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")
    )
    if prompt is None or completion is None:
        raise malformed_response("a usage without its tokens")
    text = int(number_of(member(usage, "prompt_tokens_details", "text_tokens")) or 0)
    return EngineUsage(None, int(prompt), int(completion), min(text, int(prompt)), usage)
