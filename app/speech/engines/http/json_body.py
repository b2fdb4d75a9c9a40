"""JSON request bodies with audio in them. Pure."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pybase64

from app.kit.json_bytes import json_bytes
from app.net.http.exchange import Body
from app.speech.engine import EncodedAudio, EngineError, EngineRequest, ErrorKind

SLICE_BYTES = 192 << 10  # a multiple of 3, so that the base64 of the slices can be joined


AUDIO_MARK = secrets.token_hex(16)
"""Stands for the audio in a JSON value. It is random and never sent, so no other text has it."""


def json_with_audio(value: Mapping[str, Any], audio: EncodedAudio) -> Body:
    """Return a JSON body with the audio as a data: URI in the place of AUDIO_MARK.

    The base64 is made in slices while the body is sent.
    """
    before, after = json_bytes(value).split(AUDIO_MARK.encode())
    before += f"data:{audio.media_type};base64,".encode()

    def chunks() -> Iterator[bytes]:
        yield before
        view = memoryview(audio.data)
        for start in range(0, len(view), SLICE_BYTES):
            yield pybase64.b64encode(view[start : start + SLICE_BYTES])
        yield after

    return Body(len(before) + base64_size(len(audio.data)) + len(after), "application/json", chunks)


def base64_size(size: int) -> int:
    """Return the size of so many bytes in base64."""
    return -(-size // 3) * 4


def encoded_audio(request: EngineRequest) -> EncodedAudio:
    """Return the audio of a part as a file. Raises EngineError if it is bare PCM."""
    if not isinstance(request.audio, EncodedAudio):
        raise EngineError(ErrorKind.INTERNAL, "the part was not encoded")
    return request.audio
