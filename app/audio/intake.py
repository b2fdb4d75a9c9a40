"""The front door: whatever form a request has, out come its options and one upload.

The upload is not finished here: the caller decides, after looking at the options.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NoReturn

from app.audio.inline import is_data_uri, media_type_in, receive_data_uri
from app.audio.multipart import Form, read_form
from app.audio.store import BlobStore, Upload
from app.errors import (
    AudioTooLarge,
    InvalidParameter,
    MalformedBody,
    MissingAudio,
    UnsupportedMediaType,
    UrlNotAllowed,
)
from app.settings import AudioSettings

PARSE_IN_THREAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """What a request brought. Whoever gets it must `finish` or `discard` the upload.

    `media_type` is what the recording is labelled; only bare samples need to be believed.
    """

    options: dict[str, Any]
    upload: Upload | None
    media_type: str | None = None


async def receive(
    content_type: str | None,
    stream: AsyncIterator[bytes],
    *,
    store: BlobStore,
    settings: AudioSettings,
) -> Received:
    """Read the body to its end. On any failure nothing of it stays in the store."""

    async def begin() -> Upload:
        return await store.begin(settings.max_upload_bytes)

    match (content_type or "").partition(";")[0].strip().lower():
        case "multipart/form-data":
            form = await read_form(content_type or "", stream, begin)
            return await _from_form(form)
        case "application/json":
            body = await _whole(stream, settings.max_inline_bytes)
            options = await _parse(body)
            audio = _audio_of(options)
            upload = await receive_data_uri(audio, begin) if audio is not None else None
            return Received(options, upload, media_type_in(audio) if audio else None)
        case _:
            raise UnsupportedMediaType


async def _from_form(form: Form) -> Received:
    try:
        return Received(_options_of(form.fields), form.upload, form.media_type)
    except BaseException:
        if form.upload is not None:
            await form.upload.discard()
        raise


def _options_of(fields: list[tuple[str, str]]) -> dict[str, Any]:
    """Make lists of names that end in `[]` or come more than once."""
    gathered: dict[str, list[str]] = {}
    lists = set()
    for field, value in fields:
        name = field.removesuffix("[]")
        gathered.setdefault(name, []).append(value)
        if name != field:
            lists.add(name)
    _refuse_audio_as_text(gathered)
    return {
        name: values if name in lists or len(values) > 1 else values[0]
        for name, values in gathered.items()
    }


def _refuse_audio_as_text(gathered: dict[str, list[str]]) -> None:
    if "url" in gathered or any(_is_url(value) for value in gathered.get("audio", ())):
        raise UrlNotAllowed
    if "audio" in gathered:
        raise MissingAudio("In a form the recording belongs into the field `file`, as a file.")


async def _whole(stream: AsyncIterator[bytes], max_bytes: int) -> bytearray:
    body = bytearray()
    async for chunk in stream:
        body += chunk
        if len(body) > max_bytes:
            raise AudioTooLarge(
                f"A JSON body may have {max_bytes:,} bytes, its data: URI included. "
                "Send larger recordings as multipart/form-data.",
                max_bytes=max_bytes,
            )
    return body


async def _parse(body: bytearray) -> dict[str, Any]:
    if len(body) > PARSE_IN_THREAD_BYTES:
        return await asyncio.to_thread(_parsed, body)
    return _parsed(body)


def _parsed(body: bytearray) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_constant=_no_such_number)
    except (ValueError, RecursionError) as error:
        raise MalformedBody("The body is not valid JSON.", log=str(error)) from None
    if not isinstance(value, dict):
        raise MalformedBody("The JSON body must be an object.")
    _refuse_broken_text(value)
    return value


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_broken_text(value: dict[str, Any]) -> None:
    """Half a surrogate pair cannot be written as UTF-8, nor NUL stored by PostgreSQL."""
    pending: list[Any] = [value]
    while pending:
        match pending.pop():
            case dict() as members:
                pending += [*members.keys(), *members.values()]
            case list() as items:
                pending += items
            case str() as text if not text.isascii() or "\x00" in text:
                _refuse_broken(text)


def _refuse_broken(text: str) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise MalformedBody("The JSON holds a NUL character or half a surrogate pair in a text.")


def _audio_of(options: dict[str, Any]) -> str | None:
    """Take the recording out of the options."""
    audio = options.pop("audio", None)
    if "url" in options or (isinstance(audio, str) and _is_url(audio)):
        raise UrlNotAllowed
    if audio is None:
        return None
    if not isinstance(audio, str) or not is_data_uri(audio):
        raise InvalidParameter("`audio` must be a data: URI such as data:audio/wav;base64,….")
    return audio


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))
