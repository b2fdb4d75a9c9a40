"""DashScope's synchronous route as an event stream, in its two forms. Pure.

Text is worth nothing without the frame that ends it: a stream without that frame is an error.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.kit.text import without_spaces
from app.net.http.event_stream import StreamEvent
from app.net.http.exchange import Answer
from app.speech.engine import DeltaSink, EngineAnswer, EngineRequest, EngineUsage
from app.speech.engines.dashscope.errors import BAD_REQUEST, NO_SPEECH, code_in, dashscope_error
from app.speech.engines.dashscope.sync_responses import (
    content_text,
    parse_usage,
    read_input_audio,
    text_in,
)
from app.speech.engines.http.failures import malformed_response
from app.speech.engines.http.incremental_text import FrameMerger, IncrementalText
from app.speech.engines.http.json_reading import event_object, member, text_of
from app.speech.engines.http.wire_format import CUT_AT_LENGTH
from app.speech.merge import join_texts

STREAM_HEADERS = {"X-DashScope-SSE": "enable", "Accept": "text/event-stream"}
_STATUS = "HTTP_STATUS/"
_UNFINISHED = (None, "", "null")
_FINISHED = ("stop", "length")


class _FrameReader:
    """Reads the frames of both forms: skips repeated ones, and finds errors and gaps."""

    def __init__(self) -> None:
        self.is_complete = False
        self.found_no_speech = False
        self._number = 0
        self._last: tuple[str, bytes] = ("", b"")

    def read(self, event: StreamEvent) -> dict[str, Any] | None:
        """Return the object of a frame, or None if there is nothing new. Raises EngineError."""
        if event.id.isdecimal():
            number = int(event.id[:9])
            is_next = number == self._number + 1
            is_repeated = not is_next and self._last == (event.id, event.data)
            if self._number and not is_next and not is_repeated:
                raise malformed_response(f"frame {number} after frame {self._number}")
            self._number, self._last = number, (event.id, event.data)
            if is_repeated:
                return None
        body = event_object(event)
        if event.type == "error" or (body is not None and "code" in body and "output" not in body):
            if code_in(event.data) not in NO_SPEECH:
                status = event.comment.removeprefix(_STATUS)
                number = int(status[:3]) if status.isdecimal() else BAD_REQUEST
                raise dashscope_error(max(number, BAD_REQUEST), {}, event.data)
            self.found_no_speech = self.is_complete = True
            return None
        if body is None:
            raise malformed_response(
                f"a frame of {len(event.data)} bytes that is not a JSON object"
            )
        return body


class Qwen3Stream:
    """The StreamParser of the qwen3 form. The last frame has a finish reason and the usage."""

    def __init__(self, on_delta: DeltaSink) -> None:
        self._frames = _FrameReader()
        self._text = IncrementalText(on_delta)
        self._pieces = FrameMerger(self._text)
        self._annotation: dict[str, Any] = {}
        self._last: Mapping[str, Any] = {}
        self._finish_reason: str | None = None

    @property
    def is_complete(self) -> bool:
        return self._frames.is_complete

    def take(self, event: StreamEvent) -> None:
        """Read one frame; see StreamParser."""
        body = self._frames.read(event)
        if body is None:
            return
        try:
            choice = body["output"]["choices"][0]
            message = choice["message"]
            content = message["content"]
            reason = choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            content = None
        if not isinstance(content, list | str):
            raise malformed_response("a frame without output.choices[0].message.content")
        is_last = reason not in _UNFINISHED
        if is_last and reason not in _FINISHED:
            raise malformed_response("a frame with an unknown finish reason")
        self._last, self._finish_reason = body, reason
        annotation = member(message, "annotations", 0)
        if isinstance(annotation, dict):
            self._annotation.update(annotation)
        piece = content if isinstance(content, str) else content_text(content)
        self._pieces.take(piece, is_last=is_last)
        self._frames.is_complete = is_last

    def answer(self, _head: Answer) -> EngineAnswer:
        """Return the answer; see StreamParser."""
        if self._frames.found_no_speech and not self._text.text:
            return EngineAnswer("", usage=EngineUsage(0.0))
        if not self.is_complete or self._frames.found_no_speech:
            raise malformed_response("a stream that ended without its last frame")
        usage = self._last.get("usage")
        if not isinstance(usage, dict) or not usage:
            raise malformed_response("a last frame without usage")
        return EngineAnswer(
            text=self._text.text,
            language=text_of(self._annotation.get("language")) or None,
            emotion=text_of(self._annotation.get("emotion")) or None,
            usage=parse_usage(usage),
            request_id=text_of(self._last.get("request_id")) or None,
            warnings=(CUT_AT_LENGTH,) if self._finish_reason == "length" else (),
            raw={**self._last, "text": self._text.text},
        )


class InputAudioStream:
    """The StreamParser of the input-audio form: sentences that grow one after the other.

    No frame says that it is the last one. So the stream has to end properly, after a finished
    sentence with its usage.
    """

    def __init__(self, request: EngineRequest, on_delta: DeltaSink) -> None:
        self._request = request
        self._frames = _FrameReader()
        self._text = IncrementalText(on_delta)
        self._sentences: dict[Any, Mapping[str, Any]] = {}
        self._last: Mapping[str, Any] = {}
        self._is_at_end = False

    @property
    def is_complete(self) -> bool:
        return self._frames.is_complete

    def take(self, event: StreamEvent) -> None:
        """Read one frame; see StreamParser."""
        body = self._frames.read(event)
        if body is None:
            return
        sentence = sentence_in(body)
        text = text_in(body)
        if sentence is None and text is None:
            raise malformed_response("a frame without a sentence or text")
        text = text or ""
        self._last = body
        if sentence is not None:
            self._sentences[sentence.get("sentence_id")] = sentence
        self._is_at_end = sentence is None or sentence.get("sentence_end") is not False
        # The text of a frame is documented to be all text so far, but may be its sentence only.
        joined = join_texts(text_of(one.get("text")) for one in self._sentences.values())
        is_part = len(without_spaces(text)) < len(without_spaces(joined))
        self._text.replace(joined if is_part else text)

    def answer(self, head: Answer) -> EngineAnswer:
        """Return the answer; see StreamParser."""
        no_speech = self._frames.found_no_speech
        if no_speech and not self._text.text:
            return EngineAnswer("", usage=EngineUsage(0.0))
        if not self._last or not self._is_at_end or no_speech or not head.has_an_end:
            raise malformed_response("a stream that ended before its last sentence did")
        usage = self._last.get("usage") or member(self._last, "output", "usage")
        if not isinstance(usage, dict) or not usage:
            raise malformed_response("a last sentence without usage")
        sentences = list(self._sentences.values())
        whole = {**self._last, "output": {"text": self._text.text, "sentences": sentences}}
        return replace(read_input_audio(whole, self._request), usage=parse_usage(usage))


def sentence_in(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the sentence of a frame, or None. It was seen in three places."""
    places = (("output", "sentence"), ("output", "output", "sentence"), ("sentence",))
    found = (member(body, *place) for place in places)
    return next((one for one in found if isinstance(one, dict)), None)
