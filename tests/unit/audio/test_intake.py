"""Tests of app.audio.intake.data_uri.

Covers: app.audio.intake.data_uri, app.audio.intake.receive, app.audio.storage.local_store
"""

import base64
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from app.audio.intake.receive import Received, receive
from app.audio.storage.local_store import LocalStore
from app.errors import (
    AudioTooLarge,
    GatewayError,
    InvalidParameter,
    MalformedBody,
    MissingAudio,
    SeveralFiles,
    UnsupportedMediaType,
)
from app.settings import AudioSettings
from tests.unit.audio.audio_samples import chunked, files_in

pytestmark = pytest.mark.anyio
AUDIO = bytes(range(256)) * 500
URI = "data:audio/wav;base64," + base64.b64encode(AUDIO).decode()
JSON = "application/json; charset=utf-8"
FORM = "multipart/form-data; boundary=b"


async def take(
    store: LocalStore, settings: AudioSettings, kind: str | None, body: bytes
) -> Received:
    return await receive(kind, chunked(body), store=store, settings=settings)


async def stored(store: LocalStore, received: Received) -> bytes:
    assert received.upload is not None
    blob = await received.upload.finish("pr_1")
    return b"".join([chunk async for chunk in store.read(blob.key)])


def form(*fields: tuple[str, str]) -> bytes:
    head = 'Content-Disposition: form-data; name="{}"'
    parts = [f"--b\r\n{head.format(name)}\r\n\r\n{value}\r\n" for name, value in fields]
    return ("".join(parts) + "--b--").encode()


async def test_a_data_uri_becomes_an_upload(store: LocalStore, settings: AudioSettings) -> None:
    body = json.dumps({"audio": URI, "model": "m", "n": {"a": [1]}}).encode()
    received = await take(store, settings, JSON, body)
    assert received.options == {"model": "m", "n": {"a": [1]}}
    assert await stored(store, received) == AUDIO


@pytest.mark.parametrize(
    ("uri", "data"),
    [
        ("data:,a%20b", b"a b"),
        ("DATA:;BASE64,QUJD", b"ABC"),
        ("data:audio/wav;codecs=1;base64,QUJDRA%3D%3D", b"ABCD"),
        ("data:audio/wav;base64,", b""),
        # CASES 4
        ("data:video/webm;codecs=vp8,opus;base64,QUJD", b"ABC"),
        ('data:audio/ogg; codecs="vorbis,opus" ; BASE64 ,QUJD', b"ABC"),
        ("data:audio/wav;base64,QU\r\nJD RA\t==\n", b"ABCD"),
        (" data:;base64,QUJDRA", b"ABCD"),
        ("data:;base64,QUJDRA=", b"ABCD"),
        ("data:;base64,-_-_", b"\xfb\xff\xbf"),
        ("data:;base64,%2b%2F%2b%2f%0A", b"\xfb\xff\xbf"),
    ],
)
async def test_forms_of_data_uris(
    store: LocalStore, settings: AudioSettings, uri: str, data: bytes
) -> None:
    received = await take(store, settings, JSON, json.dumps({"audio": uri}).encode())
    assert await stored(store, received) == data


async def test_a_json_body_without_audio_has_no_upload(
    store: LocalStore, settings: AudioSettings
) -> None:
    assert (await take(store, settings, JSON, b'{"model": "m"}')).upload is None


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"audio": URI, "url": "https://x/a.mp3"}, SeveralFiles),
        ({"audio": "https://x/a.mp3", "url": "https://x/a.mp3"}, SeveralFiles),
        ({"url": ["https://x/a.mp3"]}, SeveralFiles),
        ({"url": 7}, InvalidParameter),
        ({"audio": "fi_123"}, InvalidParameter),
        ({"audio": 5}, InvalidParameter),
        ({"audio": "data:audio/wav;base64"}, InvalidParameter),
        ({"audio": "data:;base64,QUJDR"}, InvalidParameter),
        ({"audio": "data:;base64,QU*D"}, InvalidParameter),
        ({"audio": "data:;base64,Ünï"}, InvalidParameter),
        ({"model": "\ud800"}, MalformedBody),
        ({"model": ["a", {"\x00": 1}]}, MalformedBody),
        ([], MalformedBody),
        (None, MalformedBody),
    ],
)
async def test_a_wrong_json_value_is_refused(
    store: LocalStore, settings: AudioSettings, value: Any, error: type[GatewayError], root: Path
) -> None:
    with pytest.raises(error):
        await take(store, settings, JSON, json.dumps(value).encode())
    assert not files_in(root)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a": NaN}', b"\xff", b'{"a":' * 100_000, b'{"a": 1' + b"0" * 9999 + b"}"],
)
async def test_broken_json_is_malformed(
    store: LocalStore, settings: AudioSettings, body: bytes
) -> None:
    with pytest.raises(MalformedBody):
        await take(store, settings, JSON, body)


async def test_size_limits_of_json_bodies(store: LocalStore, root: Path) -> None:
    small = AudioSettings(max_inline_bytes=1000, min_free_bytes=0)
    with pytest.raises(AudioTooLarge, match="multipart/form-data"):
        await take(store, small, JSON, json.dumps({"audio": URI}).encode())
    small = AudioSettings(max_upload_bytes=1000, min_free_bytes=0)
    with pytest.raises(AudioTooLarge, match="1,000 bytes"):
        await take(store, small, JSON, json.dumps({"audio": URI}).encode())
    assert not files_in(root)


@pytest.mark.parametrize("kind", [None, "", "audio/wav", "text/plain", "multipart/mixed"])
async def test_other_media_types_are_rejected(
    store: LocalStore, settings: AudioSettings, kind: str | None
) -> None:
    with pytest.raises(UnsupportedMediaType):
        await take(store, settings, kind, b"x")


@pytest.mark.parametrize("name", ["audio", "url"])
@pytest.mark.parametrize("link", ["https://x.test/a.mp3?sig=1", "HTTP://x.test/a"])
async def test_a_url_is_accepted_in_forms_and_json(
    store: LocalStore, settings: AudioSettings, name: str, link: str
) -> None:
    for kind, body in (
        (JSON, json.dumps({name: link, "model": "m"}).encode()),
        (FORM, form((name, link), ("model", "m"))),
    ):
        received = await take(store, settings, kind, body)
        assert (received.url, received.upload, received.options) == (link, None, {"model": "m"})
        assert "x.test" not in repr(received)


async def test_two_urls_in_a_form_are_rejected(store: LocalStore, settings: AudioSettings) -> None:
    for names in (("url", "url"), ("url", "audio")):
        with pytest.raises((SeveralFiles, MissingAudio)):
            await take(store, settings, FORM, form(*((name, "https://x/a") for name in names)))


async def test_repeated_fields_become_lists(store: LocalStore, settings: AudioSettings) -> None:
    body = form(
        ("timestamp_granularities[]", "word"),
        ("language_hints", "en"),
        ("language_hints", "zh"),
        ("model", "m"),
    )
    received = await take(store, settings, FORM, body)
    assert received.options == {
        "timestamp_granularities": ["word"],
        "language_hints": ["en", "zh"],
        "model": "m",
    }
    assert received.upload is None


@pytest.mark.parametrize(
    ("field", "error"),
    [
        (("url", "http://x/a"), SeveralFiles),
        (("audio", "https://x/a"), SeveralFiles),
        (("audio", "data:,x"), MissingAudio),
    ],
)
async def test_a_form_with_a_file_and_other_audio_is_rejected(
    store: LocalStore,
    settings: AudioSettings,
    field: tuple[str, str],
    error: type[GatewayError],
    root: Path,
) -> None:
    body = form(field)[:-5]
    body += b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--'
    with pytest.raises(error):
        await take(store, settings, FORM, body)
    assert not files_in(root)


@pytest.mark.parametrize(
    "body",
    [
        b'{"z":[' + b"[]," * 20_000 + b"1]}",
        b'{"z":[' + b"{}," * 20_000 + b"1]}",
        b'{"audio":"data:audio/wav,' + b"%41" * 30_000 + b'"}',
        json.dumps({f"name{n}": 1 for n in range(101)}).encode(),
        b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"a": 1e999}',
    ],
)
async def test_json_of_many_values_is_refused(
    store: LocalStore, settings: AudioSettings, body: bytes, root: Path
) -> None:
    """ATTACKS H5, H6, M6, L3."""
    with pytest.raises((MalformedBody, InvalidParameter)):
        await take(store, settings, JSON, body)
    assert not files_in(root)


async def test_a_large_json_body_takes_little_memory(
    store: LocalStore, settings: AudioSettings
) -> None:
    """ATTACKS H5: one body of 16 MB took 1.27 GB."""
    escaped = b'{"audio":"data:audio/wav;base64,' + b"%41" * 1_000_000 + b'"}'
    tracemalloc.start()
    try:
        with pytest.raises(InvalidParameter):
            await take(store, settings, JSON, escaped)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(escaped)
    finally:
        tracemalloc.stop()


async def test_a_part_named_like_an_option_is_an_option(
    store: LocalStore, settings: AudioSettings
) -> None:
    """CASES 2: the page at /docs sends object fields as parts with a file name."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="metadata"; filename="blob"\r\n'
        b'Content-Type: application/json\r\n\r\n{"a": "b"}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + AUDIO + b"\r\n--b--"
    )
    received = await receive(
        FORM, chunked(body), store=store, settings=settings, option_names={"metadata"}
    )
    assert received.options == {"metadata": '{"a": "b"}'}
    assert await stored(store, received) == AUDIO
