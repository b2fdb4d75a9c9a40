"""Parses a multipart form: small fields stay in memory, the one file is streamed to the store.

Starlette's form parser would write the file twice: first to a temporary file.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.audio.storage.blob_store import Upload
from app.errors import InvalidParameter, MalformedBody, MissingAudio, SeveralFiles
from app.kit.text import is_storable

MAX_FIELDS = 40
MAX_FIELD_BYTES = 64 * 1024
MAX_EPILOGUE_BYTES = (
    64 * 1024
)  # what may follow the closing boundary, where RFC 2046 allows anything
SHOWN_NAME = 64  # characters of a client's field name that an error repeats
FILE_FIELD = "file"


@dataclass(frozen=True, slots=True)
class Form:
    """The fields and the file of a form. `media_type` is the client's label of the file."""

    fields: list[tuple[str, str]]
    upload: Upload | None
    media_type: str | None = None


@dataclass(slots=True)
class _Part:
    """One part while it is being parsed."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


async def read_form(
    content_type: str,
    stream: AsyncIterator[bytes],
    begin: Callable[[], Awaitable[Upload]],
) -> Form:
    """Read a whole multipart/form-data body. After a failure no bytes remain in the store."""
    parts = _Parts(_boundary(content_type))
    upload: Upload | None = None
    try:
        async for chunk in stream:
            parts.feed(chunk)
            if parts.has_file and upload is None:
                upload = await begin()
            for data in parts.take_file_data():
                if upload is not None:
                    await upload.write(data)
        parts.close()
    except BaseException:
        if upload is not None:
            await upload.discard()
        raise
    return Form(parts.fields, upload, parts.media_type)


def _boundary(content_type: str) -> bytes:
    try:
        _, parameters = parse_options_header(content_type)
    except UnicodeError:
        parameters = {}
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise MalformedBody("The Content-Type names no boundary; let the HTTP client set it.")
    return boundary


class _Parts:
    """The callbacks of the parser. They store the results until `read_form` reads them."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: list[tuple[str, str]] = []
        self.has_file = False
        self.media_type: str | None = None
        self._file_data: list[memoryview] = []
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self._has_ended = False
        self._epilogue_bytes = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise MalformedBody("The boundary in the Content-Type is too long.") from None

    def feed(self, chunk: bytes) -> None:
        if self._has_ended:
            self._epilogue_bytes += len(chunk)
            if self._epilogue_bytes > MAX_EPILOGUE_BYTES:
                raise MalformedBody("The body goes on after the form's closing boundary.")
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedBody(
                "The body is not the form that its Content-Type describes.", log=str(error)
            ) from None

    def take_file_data(self) -> list[memoryview]:
        data, self._file_data = self._file_data, []
        return data

    def close(self) -> None:
        if not self._has_ended:
            raise MalformedBody("The form ends before its closing boundary; was it cut off?")

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        part = self._part
        _, disposition = parse_options_header(part.headers.get(b"content-disposition"))
        if b"name" not in disposition:
            raise MalformedBody("A part of the form has no name in its Content-Disposition.")
        part.name = _text(disposition[b"name"], "a field's name")
        part.is_file = _is_file(part, disposition)
        if part.is_file:
            self._accept_file(part.name)
            self.media_type = part.headers.get(b"content-type", b"").decode("latin-1")
        elif len(self.fields) >= MAX_FIELDS:
            raise InvalidParameter(f"The form has more than {MAX_FIELDS} fields.")

    def _accept_file(self, name: str) -> None:
        if name != FILE_FIELD:
            raise MissingAudio(
                f"A file came in the field {_shown(name)}; the recording belongs into `file`."
            )
        if self.has_file:
            raise SeveralFiles
        self.has_file = True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._file_data.append(memoryview(data)[start:end])
            return
        self._part.value += memoryview(data)[start:end]
        if len(self._part.value) > MAX_FIELD_BYTES:
            raise InvalidParameter(
                f"The field {_shown(self._part.name)} is longer than {MAX_FIELD_BYTES} bytes."
            )

    def _on_part_end(self) -> None:
        part = self._part
        if not part.is_file:
            value = _text(bytes(part.value), f"the field {_shown(part.name)}")
            self.fields.append((part.name, value))

    def _on_end(self) -> None:
        self._has_ended = True


def _is_file(part: _Part, disposition: dict[bytes, bytes]) -> bool:
    if b"filename" in disposition:
        return True
    if part.name != FILE_FIELD:
        return False
    kind, _ = parse_options_header(part.headers.get(b"content-type"))
    # Hand-written clients leave the name out but say `audio/wav`; a path typed as text does not.
    if kind and kind != b"text/plain":
        return True
    raise MissingAudio(
        "The field `file` holds text, not a file. With curl, write -F file=@recording.wav "
        "(note the @)."
    )


def _text(data: bytes, what: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedBody(f"The form is not valid UTF-8 in {what}.") from None
    if not is_storable(text):
        raise MalformedBody(f"The form holds a NUL character in {what}.")
    return text


def _shown(name: str) -> str:
    kept = "".join(c if c.isprintable() and c != "`" else "?" for c in name[:SHOWN_NAME])
    return f"`{kept}`"
