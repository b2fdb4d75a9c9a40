"""An OpenAI-compatible chat as an event stream. Pure.

It is whole with `[DONE]`, behind a reason to finish and the usage that was asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any

from app.net.http.event_stream import StreamEvent
from app.net.http.exchange import Answer
from app.speech.engine import DeltaSink, EngineAnswer, EngineError, EngineRequest, EngineUsage
from app.speech.engines.http.incremental_text import IncrementalText
from app.speech.engines.http.json_body import (
    CUT_AT_LENGTH,
    malformed_response,
    member,
    number,
    read_object,
    text_of,
)
from app.speech.engines.http.qwen_output import read_raw, said_in

_DONE = "[DONE]"


class ChatStream:
    """The pieces of one chat; see Gathering. `parse_error` classifies an error chunk's data."""

    def __init__(
        self, request: EngineRequest, tell: DeltaSink, parse_error: Callable[[bytes], EngineError]
    ) -> None:
        self.is_whole = False
        self._parse_error = parse_error
        self._request = request
        self._growing = IncrementalText(tell)
        self._raw = ""
        self._noted: Mapping[str, Any] = {}
        self._reason: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._id = ""

    def take(self, event: StreamEvent) -> None:
        """Take one chunk in; see Gathering."""
        if event.data.strip() == _DONE:
            self.is_whole = True
            return
        chunk = read_object(event.data.encode("utf-8", "replace"))
        if chunk is None:
            raise malformed_response(
                f"a chunk of {len(event.data)} characters that is not a JSON object"
            )
        if event.type == "error" or "choices" not in chunk:
            if event.type != "error" and not {"error", "code"} & chunk.keys():
                raise malformed_response("a chunk without choices")
            raise self._parse_error(event.data.encode("utf-8", "replace"))
        self._id = text_of(chunk.get("id")) or self._id
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage
        self._take_choice(member(chunk, "choices", 0))

    def answer(self, _head: Answer) -> EngineAnswer:
        """Return what was heard; see Gathering."""
        if not self.is_whole or self._reason is None:
            raise malformed_response("a stream that ended without its last chunk")
        if not self._usage:
            raise malformed_response("a stream without the usage that was asked for")
        text, language = read_raw(self._raw)
        return EngineAnswer(
            text=text,
            language=language or text_of(self._noted.get("language")) or self._request.language,
            emotion=text_of(self._noted.get("emotion")) or None,
            usage=parse_chat_usage(self._usage),
            request_id=self._id or None,
            warnings=(CUT_AT_LENGTH,) if self._reason == "length" else (),
            raw={"id": self._id, "content": self._raw, "usage": dict(self._usage)},
        )

    def _take_choice(self, choice: Any) -> None:
        if choice is None:  # of the chunk that brings the usage
            return
        piece = member(choice, "delta", "content")
        if piece is not None and not isinstance(piece, str):
            raise malformed_response("a chunk whose delta.content is no text")
        reason = member(choice, "finish_reason")
        if self._reason is not None and (piece or reason):
            raise malformed_response(
                "a chunk behind the last one"
            )  # frames that came twice, for one
        if reason not in (None, "", "stop", "length"):
            raise malformed_response("a chunk with an unknown reason to finish")
        noted = member(choice, "delta", "annotations", 0)
        self._noted = noted if isinstance(noted, dict) else self._noted
        self._raw += piece or ""
        self._reason = reason or None
        said = said_in(self._raw)
        if said is not None:
            self._growing.become(said)


def parse_chat_usage(usage: Any) -> EngineUsage:
    """Read what was used, in the names of either of OpenAI's forms."""
    if not isinstance(usage, dict):
        return EngineUsage()
    return EngineUsage(
        seconds=number(usage.get("seconds")),
        input_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        output_tokens=_count(usage, "completion_tokens", "output_tokens"),
        raw=usage,
    )


def _count(usage: Mapping[str, Any], *names: str) -> int:
    return int(next((n for name in names if (n := number(usage.get(name))) is not None), 0))
