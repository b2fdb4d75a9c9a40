"""Reads an event stream as the WHATWG defines it, however it is cut into chunks. Pure.

Lines end with CR, LF or CRLF. Unknown fields are ignored. An event without data is dropped, and so
is one that the stream ends in.
"""

from typing import NamedTuple

MAX_LINE_BYTES = 4 << 20  # a frame that repeats the text so far is one long line
MAX_EVENT_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"
_MAX_RETRY_DIGITS = 18


class StreamTooLargeError(ValueError):
    """A line or an event is longer than the limit."""


class StreamEvent(NamedTuple):
    """One event. `type` is `message` if the stream names none; `id` is the last one named.

    `data` is not decoded. `comment` is the last one in the event: DashScope puts a status there.
    """

    type: str
    data: bytes
    id: str
    comment: str = ""


class EventStreamReader:
    """Returns the events that are complete with each chunk.

    `retry` is the reconnection time that the stream asked for last, in milliseconds.
    """

    def __init__(self, *, max_line: int = MAX_LINE_BYTES, max_event: int = MAX_EVENT_BYTES) -> None:
        self.retry: int | None = None
        self.last_id = ""
        self._max_line, self._max_event = max_line, max_event
        self._start: bytes | None = b""  # of the stream, until it is known to be no BOM
        self._line: list[bytes] = []  # pieces of a line whose end has not come
        self._line_bytes = 0
        self._is_after_return = False
        self._type = self._comment = ""
        self._data: list[bytes] = []
        self._data_bytes = 0

    @property
    def is_between_events(self) -> bool:
        """Whether no event has begun: a stream that ends inside one was cut."""
        return not (self._line or self._data or self._start)

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Read the next bytes. Raises StreamTooLargeError."""
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._start = chunk
                return []
            chunk, self._start = chunk.removeprefix(_BOM), None
        if self._is_after_return and chunk:
            chunk, self._is_after_return = chunk.removeprefix(b"\n"), False
        if b"\r" in chunk:
            # The CR ends its line at once. An LF that follows it belongs to it.
            self._is_after_return = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *lines = chunk.split(b"\n")
        if first:
            self._check_line(len(first))
            self._line.append(first)
        if not lines:
            return []
        events: list[StreamEvent] = []
        *complete, rest = b"".join(self._line), *lines
        for line in complete:
            if line:
                self._read(line)
                continue
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                event = StreamEvent(self._type or "message", data, self.last_id, self._comment)
                events.append(event)
            self._data, self._data_bytes = [], 0
            self._type = self._comment = ""
        self._line, self._line_bytes = [rest] if rest else [], 0
        self._check_line(len(rest))
        return events

    def _check_line(self, more: int) -> None:
        self._line_bytes += more
        if self._line_bytes > self._max_line:
            raise StreamTooLargeError(f"a line of more than {self._max_line} bytes")

    def _read(self, line: bytes) -> None:
        if len(line) > self._max_line:
            raise StreamTooLargeError(f"a line of more than {self._max_line} bytes")
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_event:
                raise StreamTooLargeError(f"an event of more than {self._max_event} bytes")
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\x00" not in value:
                self.last_id = value.decode("utf-8", "replace")
        elif not name:
            self._comment = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:_MAX_RETRY_DIGITS])
