"""Reads the options and the upload from a request body of any supported media type.

The upload is not finished here: the caller decides after it has checked the options.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Container, Iterable
from contextlib import nullcontext
from dataclasses import field
from typing import Any

from app.audio.intake.data_uri import is_data_uri, media_type_in, receive_data_uri
from app.audio.intake.multipart import Form, read_form
from app.audio.storage.blob_store import BlobStore, BlobUpload
from app.errors import (
    AudioTooLarge,
    InvalidParameter,
    MalformedBody,
    MissingAudio,
    SeveralFiles,
    UnsupportedMediaType,
)
from app.kit.json_bytes import parse_json, refuse_unstorable
from app.kit.records import dataclass
from app.settings import AudioSettings

PARSE_IN_THREAD_BYTES = 64 * 1024
MAX_JSON_VALUES = 20_000
MAX_JSON_MEMBERS = 100
_VALUE_MARKS = (b"[", b"{", b",")
_ONE_LARGE_BODY = threading.Lock()


@dataclass(frozen=True, slots=True)
class Received:
    """The content of a request. The caller must `finish` or `discard` the upload.

    There is an upload, or the `url` to fetch the audio from, or neither. The URL is not checked
    yet. `media_type` is the client's label of an upload; it is used for raw samples only.
    """

    options: dict[str, Any]
    upload: BlobUpload | None
    url: str | None = field(default=None, repr=False)
    media_type: str | None = None


async def receive(
    content_type: str | None,
    stream: AsyncIterator[bytes],
    *,
    store: BlobStore,
    settings: AudioSettings,
    option_names: Container[str] = (),
) -> Received:
    """Read the body to its end. After a failure no bytes remain in the store.

    A part of a form with one of the `option_names` is an option, even if it has a file name.
    """

    async def begin() -> BlobUpload:
        return await store.begin(settings.max_upload_bytes)

    match (content_type or "").partition(";")[0].strip().lower():
        case "multipart/form-data":
            form = await read_form(content_type or "", stream, begin, option_names)
            try:
                return _received_form(form)
            except BaseException:
                if form.upload is not None:
                    await form.upload.discard()
                raise
        case "application/json":
            options = await _read_json(stream, settings.max_inline_bytes)
            audio = options.pop("audio", None)
            if isinstance(audio, str):
                audio = audio.strip()
            is_known = isinstance(audio, str) and (is_data_uri(audio) or _is_url(audio))
            if audio is not None and not is_known:
                raise InvalidParameter(
                    "`audio` must be a data: URI such as data:audio/wav;base64,…, or a link."
                )
            url = _pop_url(options)
            if url is not None:
                _refuse_several(audio, url)
                return Received(options, None, url)
            if audio is not None and _is_url(audio):
                return Received(options, None, audio)
            upload = await receive_data_uri(audio, begin) if audio is not None else None
            media_type = media_type_in(audio) if audio else None
            return Received(options, upload, media_type=media_type)
        case _:
            raise UnsupportedMediaType


def _received_form(form: Form) -> Received:
    """Separate the URL of the audio from the options."""
    options = gather_fields(form.fields)
    audio, url = options.pop("audio", None), _pop_url(options)
    if audio is not None and not (isinstance(audio, str) and _is_url(audio)):
        raise MissingAudio("In a form, send the audio as a file, in the field `file`.")
    _refuse_several(form.upload, audio, url)
    return Received(options, form.upload, audio if url is None else url, form.media_type)


def gather_fields(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of form fields or query parameters by their names.

    The value of an option whose name ends in `[]` or comes more than once is a list.
    """
    gathered: dict[str, list[str]] = {}
    lists = set()
    for given, value in fields:
        name = given.removesuffix("[]")
        gathered.setdefault(name, []).append(value)
        if name != given:
            lists.add(name)
    return {
        name: values if name in lists or len(values) > 1 else values[0]
        for name, values in gathered.items()
    }


def _pop_url(options: dict[str, Any]) -> str | None:
    """Remove the URL of the audio from the options."""
    url = options.pop("url", None)
    if isinstance(url, list):
        raise SeveralFiles
    if url is not None and not isinstance(url, str):
        raise InvalidParameter("`url` must be a link such as https://example.org/speech.mp3.")
    return url or None  # an empty field of a form is not given


def _refuse_several(*sources: object) -> None:
    if sum(source is not None for source in sources) > 1:
        raise SeveralFiles


async def _read_json(stream: AsyncIterator[bytes], max_bytes: int) -> dict[str, Any]:
    body = bytearray()
    async for chunk in stream:
        body += chunk
        if len(body) > max_bytes:
            raise AudioTooLarge(
                f"A JSON body may have at most {max_bytes:,} bytes, including its data: URI. "
                "Send larger files as multipart/form-data.",
                max_bytes=max_bytes,
            )
    if len(body) > PARSE_IN_THREAD_BYTES:
        return await asyncio.to_thread(_parse_object, body)
    return _parse_object(body)


def _parse_object(body: bytearray) -> dict[str, Any]:
    # A list or object takes 60 bytes and more, and the parser holds the interpreter's lock.
    if sum(map(body.count, _VALUE_MARKS)) > MAX_JSON_VALUES:
        raise MalformedBody(f"The JSON body has more than {MAX_JSON_VALUES:,} values.")
    try:
        with _ONE_LARGE_BODY if len(body) > PARSE_IN_THREAD_BYTES else nullcontext():
            value = parse_json(body)
    except ValueError as error:
        raise MalformedBody("The body is not valid JSON.", log=str(error)) from None
    if not isinstance(value, dict):
        raise MalformedBody("The JSON body must be an object.")
    if len(value) > MAX_JSON_MEMBERS:
        raise MalformedBody(f"The JSON body has more than {MAX_JSON_MEMBERS} members.")
    try:
        refuse_unstorable(value)
    except ValueError as error:
        raise MalformedBody(str(error)) from None
    return value


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))
