"""DashScope's synchronous route as an event stream, in both of its shapes. Pure.

Text that came is worth nothing without the frame that says it is all: a stream that ends without
it is an error, whatever it held.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.net.http.event_stream import StreamEvent
from app.net.http.exchange import Answer
from app.speech.engine import DeltaSink, EngineAnswer, EngineUsage
from app.speech.engines.dashscope.errors import NO_SPEECH, code_in, parse_error
from app.speech.engines.dashscope.sync_responses import (
    joined,
    parse_usage,
    read_input_audio,
    squeezed,
    text_in,
)
from app.speech.engines.http.incremental_text import FrameMerger, IncrementalText
from app.speech.engines.http.json_body import (
    CUT_AT_LENGTH,
    malformed_response,
    member,
    read_object,
    text_of,
)
from app.speech.merge import join

HEADERS = {"X-DashScope-SSE": "enable", "Accept": "text/event-stream"}
BAD_REQUEST = 400
_STATUS = "HTTP_STATUS/"
_NOT_YET = (None, "", "null")


class _Frames:
    """What both shapes do with a frame: pass over repeated ones, and see errors and gaps."""

    def __init__(self) -> None:
        self.is_whole = False
        self._number = 0
        self._last: tuple[str, str] = ("", "")
        self.was_silent = False

    def read(self, event: StreamEvent) -> dict[str, Any] | None:
        """Return a frame's object; None where there is nothing new. Raises EngineError."""
        if self._is_repeated(event):
            return None
        body = read_object(event.data.encode("utf-8", "replace"))
        if event.type == "error" or (body is not None and "code" in body and "output" not in body):
            self._refused(event)
            return None
        if body is None:
            raise malformed_response(
                f"a frame of {len(event.data)} characters that is not a JSON object"
            )
        return body

    def _is_repeated(self, event: StreamEvent) -> bool:
        """Tell whether it is the last frame once more. Raises EngineError where one is missing."""
        if not event.id.isdecimal():
            return False
        same, self._last = self._last == (event.id, event.data), (event.id, event.data)
        number = int(event.id[:9])
        if not same and self._number and number != self._number + 1:
            raise malformed_response(f"frame {number} after frame {self._number}")
        self._number = number
        return same

    def _refused(self, event: StreamEvent) -> None:
        body = event.data.encode("utf-8", "replace")
        if code_in(body) in NO_SPEECH:
            self.was_silent = self.is_whole = True
            return
        said = event.comment.removeprefix(_STATUS)
        status = int(said[:3]) if said.isdecimal() else BAD_REQUEST
        raise parse_error(max(status, BAD_REQUEST), {}, body)


class Qwen3Stream:
    """The qwen3 shape: frames end with one that has a reason to finish, and the usage."""

    def __init__(self, tell: DeltaSink) -> None:
        self._frames = _Frames()
        self._growing = IncrementalText(tell)
        self._pieces = FrameMerger(self._growing)
        self._noted: Mapping[str, Any] = {}
        self._last: Mapping[str, Any] = {}

    @property
    def is_whole(self) -> bool:
        return self._frames.is_whole

    def take(self, event: StreamEvent) -> None:
        """Take in one frame; see Gathering."""
        body = self._frames.read(event)
        if body is None:
            return
        choice = member(body, "output", "choices", 0)
        content = member(choice, "message", "content")
        reason = member(choice, "finish_reason")
        if not isinstance(content, list | str):
            raise malformed_response("a frame without output.choices[0].message.content")
        if reason not in (*_NOT_YET, "stop", "length"):
            raise malformed_response("a frame with an unknown reason to finish")
        self._last = body
        self._noted = {**self._noted, **_annotation(choice)}
        is_last = reason not in _NOT_YET
        piece = content if isinstance(content, str) else joined(content)
        self._pieces.take(piece, is_last=is_last)
        self._frames.is_whole = is_last

    def answer(self, _head: Answer) -> EngineAnswer:
        """Return what was heard; see Gathering."""
        if self._frames.was_silent and not self._growing.text:
            return EngineAnswer("", usage=EngineUsage(0.0))
        if not self.is_whole or self._frames.was_silent:
            raise malformed_response("a stream that ended without its last frame")
        usage = self._last.get("usage")
        if not isinstance(usage, dict) or not usage:
            raise malformed_response("a last frame without usage")
        choice = member(self._last, "output", "choices", 0)
        return EngineAnswer(
            text=self._growing.text,
            language=text_of(self._noted.get("language")) or None,
            emotion=text_of(self._noted.get("emotion")) or None,
            usage=parse_usage(usage),
            request_id=text_of(self._last.get("request_id")) or None,
            warnings=(CUT_AT_LENGTH,) if member(choice, "finish_reason") == "length" else (),
            raw={**self._last, "text": self._growing.text},
        )


class InputAudioStream:
    """The input-audio shape: sentences that grow, one after the other, until the stream ends.

    No frame says that it is the last one. So the end of the stream has to be a real one, behind
    a finished sentence with its usage.
    """

    def __init__(self, tell: DeltaSink) -> None:
        self._frames = _Frames()
        self._growing = IncrementalText(tell)
        self._sentences: dict[Any, Mapping[str, Any]] = {}
        self._last: Mapping[str, Any] = {}
        self._is_at_end = False

    @property
    def is_whole(self) -> bool:
        return self._frames.is_whole

    def take(self, event: StreamEvent) -> None:
        """Take in one frame; see Gathering."""
        body = self._frames.read(event)
        if body is None:
            return
        sentence = sentence_in(body)
        text = text_in(body)
        if sentence is None and text is None:
            raise malformed_response("a frame without a sentence or text")
        self._last = body
        if sentence is not None:
            self._sentences[sentence.get("sentence_id")] = sentence
        self._is_at_end = sentence is None or sentence.get("sentence_end") is not False
        self._growing.become(self._whole(text or ""))

    def answer(self, head: Answer) -> EngineAnswer:
        """Return what was heard; see Gathering."""
        if self._frames.was_silent and not self._growing.text:
            return EngineAnswer("", usage=EngineUsage(0.0))
        if not self._last or not self._is_at_end or self._frames.was_silent or not head.has_an_end:
            raise malformed_response("a stream that ended before its last sentence did")
        usage = self._last.get("usage") or member(self._last, "output", "usage")
        if not isinstance(usage, dict) or not usage:
            raise malformed_response("a last sentence without usage")
        sentences = list(self._sentences.values())
        whole = {**self._last, "output": {"text": self._growing.text, "sentences": sentences}}
        return replace(read_input_audio(whole), usage=parse_usage(usage))

    def _whole(self, text: str) -> str:
        """Return all text so far: what the frame says it is, or its sentences where they are more.

        The field is documented as the whole text, and where it is not, its sentences are.
        """
        said = join(text_of(sentence.get("text")) for sentence in self._sentences.values())
        return said if len(squeezed(said)) > len(squeezed(text)) else text


def sentence_in(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the sentence of a frame, wherever it was seen to be."""
    places = (("output", "sentence"), ("output", "output", "sentence"), ("sentence",))
    found = (member(body, *place) for place in places)
    return next((one for one in found if isinstance(one, dict)), None)


def _annotation(choice: Any) -> Mapping[str, Any]:
    noted = member(choice, "message", "annotations", 0)
    return noted if isinstance(noted, dict) else {}
