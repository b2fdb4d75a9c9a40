"""Tests of app.audio.storage.local_store.

Covers: app.audio.intake.multipart, app.audio.storage.local_store
"""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.audio.intake.multipart import MAX_FIELD_BYTES, MAX_FIELDS, Form, read_form
from app.audio.storage.blob_store import BlobUpload, StoredBlob
from app.audio.storage.local_store import LocalStore
from app.errors import (
    AudioTooLarge,
    GatewayError,
    InvalidParameter,
    MalformedBody,
    MissingAudio,
    SeveralFiles,
)
from tests.unit.audio.audio_samples import chunked, files_in

pytestmark = pytest.mark.anyio
BOUNDARY = "xyzzy"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
# Contains many near matches of the boundary.
AUDIO = b"\r\n--xyzz\r\n--xyzzz\r\r\n--\r\n--xyzzy!" + random.Random(1).randbytes(5000) + b"\r\n"


class Memory:
    """An upload that stores its bytes in memory."""

    def __init__(self, cap: int = 1 << 20) -> None:
        self.data = bytearray()
        self.cap = cap
        self.is_discarded = False

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data
        if len(self.data) > self.cap:
            raise AudioTooLarge

    async def finish(self, project_id: str) -> StoredBlob:
        return StoredBlob(project_id, "", len(self.data))

    async def discard(self) -> None:
        self.is_discarded = True


def field(name: str, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data


def file(data: bytes, name: str = "file", filename: str | None = "a.mp3", kind: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    if kind:
        head += f"\r\nContent-Type: {kind}"
    return f"{head}\r\n\r\n".encode() + data


def form(*parts: bytes, end: bytes = b"--xyzzy--\r\n") -> bytes:
    return b"".join(b"--xyzzy\r\n" + part + b"\r\n" for part in parts) + end


GOOD = form(field("model", "local/base"), file(AUDIO), field("context", "名字"))


async def parse(
    body: bytes, upload: Memory | None = None, sizes: list[int] | int = 65536, kind: str = TYPE
) -> Form:
    async def begin() -> BlobUpload:
        return upload or Memory()

    return await read_form(kind, chunked(body, sizes), begin)


@hypothesis_settings(max_examples=150, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_the_result_is_the_same_wherever_the_body_is_cut(sizes: list[int]) -> None:
    upload = Memory()
    got = asyncio.run(parse(GOOD, upload, sizes))
    assert got.fields == [("model", "local/base"), ("context", "名字")]
    assert bytes(upload.data) == AUDIO


async def test_byte_by_byte_is_the_same_too() -> None:
    upload = Memory()
    await parse(GOOD, upload, 1)
    assert bytes(upload.data) == AUDIO


async def test_a_form_without_a_file_has_no_upload() -> None:
    assert (await parse(form(field("model", "m")))).upload is None


async def test_bytes_without_a_name_but_with_a_type_are_a_file() -> None:
    upload = Memory()
    await parse(form(file(AUDIO, filename=None, kind="audio/wav")), upload)
    assert bytes(upload.data) == AUDIO


@pytest.mark.parametrize(
    "head",
    [
        'name="file"',
        "name=\"file\"; filename*=UTF-8''%E5%BD%95%E9%9F%B3.wav",
        'name="file"\r\nContent-Type: text/plain',
        'name="file[]"',
    ],
)
async def test_bytes_in_the_field_file_are_the_recording(head: str) -> None:
    """CASES 5: they were taken for text."""
    for audio in (AUDIO, b"RIFF\x00\x00", b"", b"x" * 2000):
        upload = Memory()
        body = f"Content-Disposition: form-data; {head}\r\n\r\n".encode() + audio
        for sizes in (65536, 7):
            upload = Memory()
            await parse(form(body), upload, sizes)
            assert bytes(upload.data) == audio


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speech.mp3", "note the @"),
        ("/home/me/录音 1.wav", "note the @"),
        ("C:\\Users\\me\\a.wav\n", "note the @"),
        ("https://example.org/a.mp3", "the field `url`"),
    ],
)
async def test_a_path_in_the_field_file_is_explained(text: str, words: str) -> None:
    """CASES 5."""
    upload = Memory()
    with pytest.raises(MissingAudio, match=words):
        await parse(form(field("file", text)), upload)
    assert upload.is_discarded


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (form(file(b"a"), file(b"b")), SeveralFiles, "more than one audio"),
        (
            form(file(b"a", name="audio")),
            MissingAudio,
            "`audio` is a file. Send the audio in the field `file`",
        ),
        (form(file(b"a", name="x\x1b`[31m")), MissingAudio, r"`x\?\?\[31m`"),
        (form(field("file", "speech.mp3")), MissingAudio, "@"),
        (form(*[field(f"f{n}", "") for n in range(MAX_FIELDS + 1)]), InvalidParameter, "40 fields"),
        (form(field("x", "y" * (MAX_FIELD_BYTES + 1))), InvalidParameter, "`x` is longer"),
        (form(field("x", b"\xff\xfe")), MalformedBody, "UTF-8 in the field `x`"),
        (form(field("x", "a\x00b")), MalformedBody, "NUL"),
        (form(b"Content-Disposition: form-data\r\n\r\nv"), MalformedBody, "no name"),
        (form(b"X: " + b"y" * 5000 + b"\r\n\r\nv"), MalformedBody, "not a form"),
        (b"no form at all", MalformedBody, "not a form"),
        (b"", MalformedBody, "closing boundary"),
        (GOOD + bytes(1 << 18), MalformedBody, "data after"),
    ],
)
async def test_a_wrong_form_is_explained(
    body: bytes, error: type[GatewayError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await parse(body)


@pytest.mark.parametrize("kind", ["multipart/form-data", TYPE + "x" * 300, "multipart/form-data;="])
async def test_a_wrong_boundary_is_explained(kind: str) -> None:
    with pytest.raises(MalformedBody, match="boundary"):
        await parse(GOOD, kind=kind)


async def test_a_body_cut_anywhere_is_malformed_and_its_upload_discarded() -> None:
    closed = len(GOOD) - 2  # the last CRLF is not needed
    for length in range(0, closed, 37):
        upload = Memory()
        with pytest.raises(MalformedBody):
            await parse(GOOD[:length], upload)
        assert upload.is_discarded or not upload.data


@pytest.mark.parametrize(
    "body",
    [
        form(file(AUDIO), file(AUDIO)),
        form(file(AUDIO), field("file", "x")),
        GOOD[:-8],
    ],
)
async def test_nothing_stays_in_the_store_of_a_failed_form(
    body: bytes, store: LocalStore, root: Path
) -> None:
    async def begin() -> BlobUpload:
        return await store.begin(1 << 20)

    with pytest.raises(GatewayError):
        await read_form(TYPE, chunked(body, 100), begin)
    assert not files_in(root)


async def test_the_size_limit_of_the_store_ends_the_form() -> None:
    upload = Memory(cap=100)
    with pytest.raises(AudioTooLarge):
        await parse(GOOD, upload)
    assert upload.is_discarded


async def test_a_client_that_disconnects_leaves_no_file() -> None:
    upload = Memory()

    async def breaking() -> AsyncIterator[bytes]:
        yield GOOD[:3000]
        raise ConnectionResetError

    async def begin() -> BlobUpload:
        return upload

    with pytest.raises(ConnectionResetError):
        await read_form(TYPE, breaking(), begin)
    assert upload.is_discarded


async def test_a_cancelled_form_leaves_no_file(store: LocalStore, root: Path) -> None:
    arrived = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield form(file(bytes(2_000_000)), end=b"")
        arrived.set()
        await asyncio.Event().wait()

    async def begin() -> BlobUpload:
        return await store.begin(1 << 30)

    reading = asyncio.create_task(read_form(TYPE, stalling(), begin))
    await arrived.wait()
    assert files_in(root)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not files_in(root)
