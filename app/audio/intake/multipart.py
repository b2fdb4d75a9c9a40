"""Parses a multipart form: small fields stay in memory, the one file is streamed to the store.

Starlette's form parser would write the file twice: first to a temporary file.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from dataclasses import field
from functools import partial

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.audio.storage.blob_store import BlobUpload
from app.errors import InvalidParameter, MalformedBody, MissingAudio, SeveralFiles
from app.kit.records import dataclass
from app.kit.text import is_storable, printable

MAX_FIELDS = 40
MAX_FIELD_BYTES = 64 * 1024
MAX_EPILOGUE_BYTES = (
    64 * 1024
)  # what may follow the closing boundary, where RFC 2046 allows anything
MAX_PATH_BYTES = 1024  # of a path that was sent instead of the file
SHOWN_NAME = 64  # characters of a client's field name that an error repeats
FILE_FIELD = "file"
_EVENTS = (
    *("part_data", "header_field", "header_value"),
    *("header_end", "headers_finished", "part_end", "part_begin", "end"),
)


@dataclass(frozen=True, slots=True)
class Form:
    """The fields and the file of a form. `media_type` is the client's label of the file."""

    fields: list[tuple[str, str]]
    upload: BlobUpload | None
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
    begin: Callable[[], Awaitable[BlobUpload]],
    option_names: Container[str] = (),
) -> Form:
    """Read a whole multipart/form-data body. After a failure no bytes remain in the store.

    A part with one of the `option_names` is a field, even if it has a file name.
    """
    try:
        _, parameters = parse_options_header(content_type)
    except UnicodeError:
        parameters = {}
    if not (boundary := parameters.get(b"boundary")):
        raise MalformedBody("The Content-Type has no boundary. Let the HTTP client set it.")
    parts = _FormReader(boundary, option_names)
    upload: BlobUpload | None = None
    head = bytearray()  # of a file without a name
    try:
        async for chunk in stream:
            parts.feed(chunk)
            if parts.has_file and upload is None:
                upload = await begin()
            for data in parts.take_file_data():
                if upload is not None:
                    await upload.write(data)
                if len(head) <= MAX_PATH_BYTES and not parts.has_file_name:
                    head += data
        parts.close()
        _refuse_path(bytes(head))
    except BaseException:
        if upload is not None:
            await upload.discard()
        raise
    return Form(parts.fields, upload, parts.media_type)


class _FormReader:
    """Collects the parts that the parser finds, until `read_form` takes them."""

    def __init__(self, boundary: bytes, option_names: Container[str]) -> None:
        self._option_names = option_names
        self.fields: list[tuple[str, str]] = []
        self.has_file = self.has_file_name = False
        self.media_type: str | None = None
        self._file_data: list[memoryview] = []
        self._part = _Part()
        self._header: defaultdict[str, bytearray] = defaultdict(bytearray)  # until its end
        self._has_ended = False
        self._epilogue_bytes = 0
        callbacks = {f"on_{event}": partial(self._on, event) for event in _EVENTS}
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise MalformedBody("The boundary in the Content-Type is too long.") from None

    def feed(self, chunk: bytes) -> None:
        if self._has_ended:
            self._epilogue_bytes += len(chunk)
            if self._epilogue_bytes > MAX_EPILOGUE_BYTES:
                raise MalformedBody("There is data after the form's closing boundary.")
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedBody(
                "The body is not a form with the boundary of its Content-Type.", log=str(error)
            ) from None

    def take_file_data(self) -> list[memoryview]:
        data, self._file_data = self._file_data, []
        return data

    def close(self) -> None:
        if not self._has_ended:
            raise MalformedBody("The form ends before its closing boundary. Was it cut off?")

    def _on(self, event: str, data: bytes = b"", start: int = 0, end: int = 0) -> None:
        """Handle an event of the parser; only the first three have data."""
        part = self._part
        match event:
            case "part_data" if part.is_file:
                self._file_data.append(memoryview(data)[start:end])
            case "part_data":
                part.value += memoryview(data)[start:end]
                if len(part.value) > MAX_FIELD_BYTES:
                    raise InvalidParameter(
                        f"The field {_quoted(part.name)} is longer than {MAX_FIELD_BYTES} bytes."
                    )
            case "header_field" | "header_value":
                self._header[event] += data[start:end]
            case "header_end":
                name, value = self._header["header_field"], self._header["header_value"]
                part.headers[bytes(name).lower()] = bytes(value)
                self._header.clear()
            case "headers_finished":
                self._begin_content(part)
            case "part_end" if not part.is_file:
                text = _text(bytes(part.value), f"the field {_quoted(part.name)}")
                self.fields.append((part.name, text))
            case "part_begin":
                self._part = _Part()
            case "end":
                self._has_ended = True

    def _begin_content(self, part: _Part) -> None:
        """Decide from the headers of a part whether it is the file or a field."""
        _, disposition = parse_options_header(part.headers.get(b"content-disposition"))
        if b"name" not in disposition:
            raise MalformedBody("A part of the form has no name in its Content-Disposition.")
        part.name = _text(disposition[b"name"], "a field's name")
        has_file_name = b"filename" in disposition or b"filename*" in disposition
        is_option = part.name.removesuffix("[]") in self._option_names
        is_audio = part.name.removesuffix("[]") == FILE_FIELD
        part.is_file = is_audio or (has_file_name and not is_option)
        media_type = part.headers.get(b"content-type", b"")
        if not part.is_file:
            if len(self.fields) >= MAX_FIELDS:
                raise InvalidParameter(f"The form has more than {MAX_FIELDS} fields.")
            return
        if not is_audio:
            raise MissingAudio(
                f"The field {_quoted(part.name)} is a file. Send the audio in the field `file`."
            )
        if self.has_file:
            raise SeveralFiles
        self.has_file, self.has_file_name = True, has_file_name
        self.media_type = media_type.decode("latin-1")


def _refuse_path(content: bytes) -> None:
    """Raise MissingAudio if a part without a file name is a path or a URL instead of audio."""
    text = content.decode("utf-8", "replace").strip()
    if not text or len(content) > MAX_PATH_BYTES or "\ufffd" in text or not text.isprintable():
        return
    if text[:8].lower().startswith(("http://", "https://")):
        raise MissingAudio("The field `file` contains a link. Send it in the field `url`.")
    raise MissingAudio(
        "The field `file` contains text, not a file. With curl, write "
        "-F file=@recording.wav (note the @)."
    )


def _text(data: bytes, what: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedBody(f"The form is not valid UTF-8 in {what}.") from None
    if not is_storable(text):
        raise MalformedBody(f"The form contains a NUL character in {what}.")
    return text


def _quoted(name: str) -> str:
    return f"`{printable(name[:SHOWN_NAME]).replace('`', '?')}`"
