"""Makes one Answer of the bytes that a connection delivers. No input or output of its own."""

import httptools

from app.net.http.exchange import ERRORS, OK, Answer, Fault, Take

MAX_OVERHEAD_BYTES = 64 << 10  # of headers, trailers and chunk sizes, without the body
OVERHEAD_OF_CHUNKS = 8  # times the body: chunks of one byte each
INTERIM = 100, 199  # statuses before the final one
_CONTENT_TYPE, _JSON = "content-type", "json"


class ReadError(Exception):
    """The answer cannot be read any further."""

    def __init__(self, fault: Fault, words: str) -> None:
        super().__init__(words)
        self.fault = fault


class AnswerReader:
    """Reads one answer. `feed` it, and `end` it when the connection has ended.

    `take` gets the chunks of a stream, see HttpClient.post_streamed.
    """

    def __init__(self, max_bytes: int, take: Take | None = None) -> None:
        self.is_complete = False  # nothing of this answer is left on the connection
        self.is_enough = False  # the answer can be returned
        self.is_streamed = False
        self._max_bytes = max_bytes
        self._take = take
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = self._raw_bytes = 0
        self._error: Exception | None = None
        self._keeps_alive = self._has_excess = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def keeps_connection(self) -> bool:
        """Whether the connection can be used for another exchange."""
        return self._keeps_alive and not self._has_excess

    @property
    def answer(self) -> Answer:
        body = b"" if self.is_streamed else b"".join(self._body)
        return Answer(self._status, self._headers, body, self.is_streamed)

    def feed(self, data: bytes) -> None:
        """Read more bytes. Raises ReadError, and what `take` raises."""
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.is_complete:  # bytes behind an answer that was the connection's last one
                self._has_excess = True
                return
            raise ReadError(Fault.BROKEN, type(error).__name__) from None
        if self._error is not None:
            raise self._error
        overhead = self._raw_bytes - self._body_bytes
        if overhead > MAX_OVERHEAD_BYTES + OVERHEAD_OF_CHUNKS * self._body_bytes:
            raise ReadError(Fault.BROKEN, f"headers of more than {MAX_OVERHEAD_BYTES} bytes")

    def end(self) -> None:
        """Note that the server has closed the connection. Raises ReadError if that is too early."""
        framing = {"content-length", "transfer-encoding"}
        if self._status and not framing & self._headers.keys():
            self.is_complete = self.is_enough = True
        self.cut("the server closed the connection")

    def cut(self, words: str) -> None:
        """Note that the connection is lost. Raises ReadError unless the answer is enough."""
        # The body of an error is of no use to the caller.
        self.is_enough = self.is_enough or self._status >= ERRORS
        if not self.is_enough:
            raise ReadError(Fault.BROKEN, words)

    # Callbacks of the parser. An exception here would lose its type, so it is kept for `feed`.

    def on_message_begin(self) -> None:
        self._has_excess = self.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status:  # a trailer
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if INTERIM[0] <= status <= INTERIM[1]:
            self._headers = {}
        elif not self._status:
            self._status = status
            is_json = _JSON in self._headers.get(_CONTENT_TYPE, "")
            self.is_streamed = self._take is not None and status == OK and not is_json

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        if self._error is not None or self._has_excess:
            return
        if self._body_bytes > self._max_bytes:
            self._error = ReadError(
                Fault.TOO_LARGE, f"an answer of more than {self._max_bytes} bytes"
            )
        elif not self.is_streamed:
            self._body.append(chunk)
        elif self._take is not None and not self.is_enough:
            try:
                self.is_enough = self._take(chunk)
            except Exception as error:  # noqa: BLE001 - `feed` raises it
                self._error = error

    def on_message_complete(self) -> None:
        if self._status and not self.is_complete:
            self.is_complete = self.is_enough = True
            self._keeps_alive = self._parser.should_keep_alive()
