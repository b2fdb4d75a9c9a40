"""Signed links: a link gives access to one audio, for a limited time, and to nothing else.

Covers: app.api.v1.blobs, app.audio.storage.links
"""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from app.audio.storage.links import SignedLinks
from app.audio.tables import audio
from app.kit.clock import utc_now
from tests.support.gateway import Gateway, code_of
from tests.support.task_gateway import THREE_SECONDS, task_gateway

pytestmark = pytest.mark.anyio
PUBLIC = {"public_url": "https://gateway.example/"}


async def link_to(gateway: Gateway, recording: bytes, seconds: float = 60) -> str:
    assert (await gateway.send(recording)).status_code == 200
    (row,) = await gateway.rows(audio)
    links = SignedLinks("", gateway.services.peppers)
    return links.url(row["id"], row["format"], utc_now() + timedelta(seconds=seconds))


async def test_a_signed_link_returns_its_audio_without_a_key(
    gateway: Gateway, recording: bytes
) -> None:
    path = await link_to(gateway, recording)
    await gateway.key()  # from now on everything else asks for one
    whole = await gateway.client.get(path)
    assert (whole.status_code, whole.content) == (200, recording)
    assert whole.headers["accept-ranges"] == "bytes"
    some = await gateway.client.get(path, headers={"Range": "bytes=10-19"})
    assert (some.status_code, some.content) == (206, recording[10:20])
    assert some.headers["content-range"] == f"bytes 10-19/{len(recording)}"
    head = await gateway.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(recording))
    beyond = await gateway.client.get(path, headers={"Range": "bytes=999999999-"})
    assert code_of(beyond) == (416, "range_not_satisfiable")
    assert (await gateway.client.get("/v1/transcriptions")).status_code == 401


async def test_a_changed_signed_link_is_404(gateway: Gateway, recording: bytes) -> None:
    path = await link_to(gateway, recording)
    token = path.rpartition("/")[2]
    said, _, form = token.rpartition(".")
    audio_id, ends, signature = said.split("-", 2)
    later, other = str(int(ends) + 1), audio_id[:-1] + ("0" if audio_id[-1] != "0" else "1")
    changed = (
        f"{audio_id}-{later}-{signature}.{form}",
        f"{other}-{ends}-{signature}.{form}",
        f"{audio_id}-{ends}-{signature}.mp3",
        f"{audio_id}-{ends}-{signature[:-1]}{'A' if signature[-1] != 'A' else 'B'}.{form}",
        audio_id,
        "x" * 150,
    )
    for one in changed:
        assert code_of(await gateway.client.get(f"/v1/blobs/{one}")) == (404, "not_found"), one
    assert code_of(await gateway.client.get(f"/v1/blobs/{'x' * 201}"))[0] == 422


async def test_a_signed_link_expires_and_ends_with_its_audio(
    gateway: Gateway, recording: bytes
) -> None:
    path = await link_to(gateway, recording, seconds=-1)
    assert code_of(await gateway.client.get(path)) == (404, "not_found")
    alive = SignedLinks("", gateway.services.peppers)
    (row,) = await gateway.rows(audio)
    path = alive.url(row["id"], "wav", utc_now() + timedelta(seconds=60))
    assert (await gateway.client.get(path)).status_code == 200
    (job,) = (await gateway.get("/v1/transcriptions")).json()["items"]
    await gateway.client.delete(f"/v1/transcriptions/{job['id']}")
    assert code_of(await gateway.client.get(path)) == (404, "not_found")


async def test_links_of_an_older_pepper_are_valid_and_of_a_foreign_one_not(
    gateway: Gateway,
) -> None:
    until = utc_now() + timedelta(1)
    made = SignedLinks("https://x", [b"old"]).url("aud_" + "0" * 32, "wav", until)
    token = made.rpartition("/")[2]
    assert SignedLinks("", [b"new", b"old"]).read(token, utc_now()) == "aud_" + "0" * 32
    assert SignedLinks("", [b"new"]).read(token, utc_now()) is None


async def test_with_public_url_the_provider_reads_the_audio_from_the_gateway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote: dict[str, bytes] = {}
    async with task_gateway(tmp_path, remote=remote, server=PUBLIC, temporary_upload=False) as here:
        sent = await here.send(wait="0")
        job_id = sent.json()["id"]
        async with asyncio.timeout(10):
            while not here.submits:
                await asyncio.sleep(0.01)
        url = here.submits[0]["input"]["file_url"]
        form = r"https://gateway\.example/v1/blobs/aud_[0-9a-f]{32}-\d+-\S{43}\.wav"
        assert re.fullmatch(form, url)
        path = url.removeprefix("https://gateway.example")
        fetched = await here.gateway.client.get(path)
        assert fetched.content == THREE_SECONDS
        body = await here.gateway.ended(job_id)
        assert body["plan"]["audio_source"] == "gateway_url"
        # The simulator's internet does not reach us, and that is said.
        assert body["error"]["code"] == "audio_unreachable"
        assert "public address can be reached" in body["error"]["detail"]
    assert path.rpartition("/")[2] not in "".join(capsys.readouterr())
