"""The interface of one provider API: how a request is written and an answer read."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

from app.net.http.event_stream import EventStreamReader, StreamEvent, StreamTooLargeError
from app.net.http.exchange import Answer, Body, Take
from app.speech.engine import DeltaSink, EngineAnswer, EngineRequest
from app.speech.engines.http.failures import malformed_response

CUT_AT_LENGTH = "The engine reached its longest answer: the end of this part's text is missing."


class StreamParser(Protocol):
    """Builds the answer from the events of one stream, and passes on text as it comes. Pure."""

    @property
    def is_complete(self) -> bool:
        """Whether the last event has been read. Later ones are ignored."""

    def take(self, event: StreamEvent) -> None:
        """Read one event. Raises EngineError for one that is an error or malformed."""

    def answer(self, head: Answer) -> EngineAnswer:
        """Return the answer at the end of the stream. Raises EngineError if its end is missing."""


class WireFormat(ABC):
    """One API. All methods are pure, and raise EngineError only."""

    route: ClassVar[str]

    @abstractmethod
    def body(self, request: EngineRequest, *, streamed: bool) -> Body:
        """Return the body of a request. `streamed` is only true for a StreamedFormat."""

    @abstractmethod
    def parse(self, request: EngineRequest, answer: Answer) -> EngineAnswer:
        """Read an answer of any status that is no stream."""


class StreamedFormat(WireFormat):
    """An API that can answer with an event stream. `stream_only`: it answers in no other way."""

    stream_headers: ClassVar[Mapping[str, str]] = {}
    stream_only: ClassVar[bool] = False

    @abstractmethod
    def stream_parser(self, request: EngineRequest, on_delta: DeltaSink) -> StreamParser:
        """Return a parser for one stream."""


def feeding(reader: EventStreamReader, parser: StreamParser) -> Take:
    """Return a function that feeds the chunks of a stream to a parser, event by event."""

    def take(chunk: bytes) -> bool:
        try:
            events = reader.feed(chunk)
        except StreamTooLargeError as error:
            raise malformed_response(str(error)) from error
        for event in events:
            if parser.is_complete:
                break
            parser.take(event)
        return parser.is_complete

    return take
