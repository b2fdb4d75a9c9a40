"""One HTTP request and its answer: the types, and the interface of the two clients.

A call that failed may have been billed if the server can have acted on it. The server cannot act
before it has the last byte of the request, so every failure says whether that byte was sent.
"""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from enum import StrEnum
from typing import Protocol

from app.kit.records import dataclass

OK = 200
ERRORS = 400  # and above

Take = Callable[[bytes], bool]
"""Takes a chunk of a stream. Returns True once the rest of the stream does not matter."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: `length` bytes. Each call of `chunks` starts at the first byte."""

    length: int
    media_type: str
    chunks: Callable[[], Iterable[bytes] | AsyncIterable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request. The names of `headers` are in lower case.

    The body of an error may be cut short, because its status is enough. `was_streamed`: the body
    was handed on in chunks, and is empty here.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    was_streamed: bool = False

    @property
    def has_an_end(self) -> bool:
        """Whether the body's end is marked, so that a lost connection cannot be taken for it."""
        return "transfer-encoding" in self.headers or "content-length" in self.headers


class Fault(StrEnum):
    UNREACHABLE = "unreachable"  # no connection was made
    TIMEOUT = "timeout"
    BROKEN = "broken"  # the connection was lost, or the bytes are not HTTP
    TOO_LARGE = "too_large"


class ExchangeError(Exception):
    """No answer came. `was_sent`: the server may have received the whole request."""

    def __init__(self, fault: Fault, words: str, *, was_sent: bool) -> None:
        super().__init__(words)
        self.fault = fault
        self.was_sent = was_sent


class HttpClient(Protocol):
    """Sends requests to the server at one base address. No request is ever sent twice.

    All methods raise ExchangeError, and return answers of any status. Redirects are not followed.
    `deadline_seconds` bounds the whole exchange, and the client's own silence limit
    the gap between two reads. `max_bytes` bounds the body of the answer.
    """

    async def get(
        self, path: str, *, headers: Mapping[str, str], deadline_seconds: float, max_bytes: int
    ) -> Answer:
        """Send a GET request."""

    async def post(
        self,
        path: str,
        body: Body,
        *,
        headers: Mapping[str, str],
        deadline_seconds: float,
        max_bytes: int,
    ) -> Answer:
        """Send a POST request."""

    async def post_streamed(
        self,
        path: str,
        body: Body,
        take: Take,
        *,
        headers: Mapping[str, str],
        deadline_seconds: float,
        silence_seconds: float,
        max_bytes: int,
    ) -> Answer:
        """Send a POST request and give the stream that answers it to `take`, chunk by chunk.

        An answer that is no stream is returned whole: an error, or JSON. `silence_seconds` bounds
        the gap between two chunks. Raises what `take` raises as well.
        """

    async def close(self) -> None:
        """Close all connections. Exchanges that still run end with an ExchangeError."""
