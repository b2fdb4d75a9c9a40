"""Reading an event stream as the WHATWG says, however it is cut into chunks. Pure.

Lines end with CR, LF or CRLF; unknown fields are passed over; an event that its empty line has
not ended when the stream does was never sent.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_LINE_CHARACTERS = 4 << 20  # a frame that repeats the text so far is one long line
MOST_EVENT_CHARACTERS = 8 << 20
_LINE_END = re.compile(r"\r\n|\r|\n")
_BOM = "\ufeff"


class StreamTooLargeError(ValueError):
    """A line or an event that is longer than anything an honest stream has."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event. `type` is `message` where the stream names none; `id` is the last one named.

    `comment` is the last one inside the event: some servers put a status there.
    """

    type: str
    data: str
    id: str
    comment: str = ""


class EventReader:
    """Fed with a stream's bytes, it yields the events that are whole by then.

    `retry` is the reconnection time that the stream asked for last, in milliseconds.
    """

    def __init__(
        self,
        *,
        most_line: int = MOST_LINE_CHARACTERS,
        most_event: int = MOST_EVENT_CHARACTERS,
    ) -> None:
        self.retry: int | None = None
        self.last_id = ""
        self._most_line, self._most_event = most_line, most_event
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._is_first = True
        self._begun: list[str] = []  # pieces of a line whose end has not come
        self._begun_size = 0
        self._after_return = False
        self._type = self._comment = ""
        self._data: list[str] = []
        self._size = 0

    @property
    def is_between_events(self) -> bool:
        """Whether no event is begun: a stream that ends inside one was cut."""
        return not (self._begun or self._data)

    def feed(self, chunk: bytes) -> Iterator[StreamEvent]:
        """Take the next bytes in; all of the iterator has to be consumed.

        Raises StreamTooLargeError.
        """
        text = self._decode(chunk)
        if self._is_first and text:
            text, self._is_first = text.removeprefix(_BOM), False
        for line in self._lines(text):
            event = self._take(line)
            if event is not None:
                yield event

    def _lines(self, text: str) -> Iterator[str]:
        if self._after_return and text:
            # The CR ended the line already: an LF that follows it belongs to it.
            text, self._after_return = text.removeprefix("\n"), False
        start = 0
        for end in _LINE_END.finditer(text):
            self._begun.append(text[start : end.start()])
            self._check(end.start() - start)
            yield "".join(self._begun)
            self._begun.clear()
            self._begun_size, start = 0, end.end()
        self._after_return = self._after_return or text.endswith("\r")
        if start < len(text):
            self._begun.append(text[start:])
            self._check(len(text) - start)

    def _check(self, more: int) -> None:
        self._begun_size += more
        if self._begun_size > self._most_line:
            raise StreamTooLargeError(f"a line of more than {self._most_line} characters")

    def _take(self, line: str) -> StreamEvent | None:
        if not line:
            return self._ended()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                self._comment = value
            case "data":
                self._add(value)
            case "event":
                self._type = value
            case "id" if "\x00" not in value:
                self.last_id = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry = int(value[:18])
        return None

    def _add(self, value: str) -> None:
        self._size += len(value) + 1
        if self._size > self._most_event:
            raise StreamTooLargeError(f"an event of more than {self._most_event} characters")
        self._data.append(value)

    def _ended(self) -> StreamEvent | None:
        data, kind, comment = self._data, self._type, self._comment
        self._data, self._type, self._comment, self._size = [], "", "", 0
        if not data:
            return None
        return StreamEvent(kind or "message", "\n".join(data), self.last_id, comment)
