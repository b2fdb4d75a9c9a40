"""An OpenAI-compatible chat completion as an event stream. Pure.

It is complete with `[DONE]`, after a finish reason and the requested usage.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from app.net.http.event_stream import StreamEvent
from app.net.http.exchange import Answer
from app.speech.engine import DeltaSink, EngineAnswer, EngineError, EngineRequest, EngineUsage
from app.speech.engines.http.failures import malformed_response
from app.speech.engines.http.incremental_text import IncrementalText
from app.speech.engines.http.json_reading import event_object, member, number_of, text_of
from app.speech.engines.http.qwen_output import parse_output, text_so_far
from app.speech.engines.http.wire_format import CUT_AT_LENGTH

_DONE = b"[DONE]"


class ChatStream(ABC):
    """The StreamParser of one chat. Each provider classifies errors by its own table."""

    def __init__(self, request: EngineRequest, on_delta: DeltaSink) -> None:
        self.is_complete = False
        self._request = request
        self._text = IncrementalText(on_delta)
        self._output = ""
        self._annotation: Mapping[str, Any] = {}
        self._finish_reason: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._id = ""

    @abstractmethod
    def parse_error(self, body: bytes) -> EngineError:
        """Return the error of a chunk, given its data."""

    def take(self, event: StreamEvent) -> None:
        """Read one chunk; see StreamParser."""
        if event.data.strip() == _DONE:
            self.is_complete = True
            return
        chunk = event_object(event)
        if chunk is None:
            raise malformed_response(
                f"a chunk of {len(event.data)} bytes that is not a JSON object"
            )
        if event.type == "error" or "choices" not in chunk:
            if event.type != "error" and not {"error", "code"} & chunk.keys():
                raise malformed_response("a chunk without choices")
            raise self.parse_error(event.data)
        self._id = text_of(chunk.get("id")) or self._id
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage
        self._take_choice(member(chunk, "choices", 0))

    def answer(self, _head: Answer) -> EngineAnswer:
        """Return the answer; see StreamParser."""
        if not self.is_complete or self._finish_reason is None:
            raise malformed_response("a stream that ended without its last chunk")
        if not self._usage:
            raise malformed_response("a stream without the requested usage")
        text, language = parse_output(self._output)
        language = language or text_of(self._annotation.get("language"))
        return EngineAnswer(
            text=text,
            language=language or self._request.language,
            emotion=text_of(self._annotation.get("emotion")) or None,
            usage=parse_chat_usage(self._usage),
            request_id=self._id or None,
            warnings=(CUT_AT_LENGTH,) if self._finish_reason == "length" else (),
            raw={"id": self._id, "content": self._output, "usage": dict(self._usage)},
        )

    def _take_choice(self, choice: Any) -> None:
        if choice is None:  # the chunk with the usage has none
            return
        piece = member(choice, "delta", "content")
        if piece is not None and not isinstance(piece, str):
            raise malformed_response("a chunk whose delta.content is no text")
        reason = member(choice, "finish_reason")
        if self._finish_reason is not None and (piece or reason):
            raise malformed_response("a chunk after the last one")  # repeated chunks, for example
        if reason not in (None, "", "stop", "length"):
            raise malformed_response("a chunk with an unknown finish reason")
        annotation = member(choice, "delta", "annotations", 0)
        if isinstance(annotation, dict):
            self._annotation = annotation
        self._finish_reason = reason or None
        if piece:
            self._output += piece
            text = text_so_far(self._output)
            if text is not None:
                self._text.replace(text)


def parse_chat_usage(usage: Any) -> EngineUsage:
    """Read the usage of a chat or a transcription. Their token counts have different names."""
    if not isinstance(usage, dict):
        return EngineUsage()
    return EngineUsage(
        seconds=number_of(usage.get("seconds")),
        input_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        output_tokens=_count(usage, "completion_tokens", "output_tokens"),
        raw=usage,
    )


def _count(usage: Mapping[str, Any], *names: str) -> int:
    return int(next((n for name in names if (n := number_of(usage.get(name))) is not None), 0))
