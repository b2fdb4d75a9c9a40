"""Audio by URL: accepted first, fetched afterwards; each failure has a helpful sentence.

Covers: app.jobs.execution.fetch_source, app.net.fetch
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.jobs.execution import fetch_source
from app.jobs.tables import event, transcription
from app.net import fetch as fetching
from tests.support.fetching_gateway import QUERY, FetchingGateway, fetching_gateway, mp3
from tests.support.gateway import code_of, speech
from tests.support.scripted_engine import ScriptedEngine
from tests.support.web_server import FlakyPage, Page, answer, dripping, redirect, serving, unsized

pytestmark = pytest.mark.anyio

HTML = b"<!DOCTYPE html><html><body>canary: sign in to go on</body></html>"
M3U8 = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nhttp://127.0.0.1/canary.ts\n"


@pytest.fixture
async def site(
    database_url: str,
    engine: ScriptedEngine,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[FetchingGateway]:
    monkeypatch.setattr(fetching, "PAUSES", (0.01,) * 4)
    marker = request.node.get_closest_marker("settings")
    domains: dict[str, Any] = dict(marker.kwargs) if marker else {}
    async with fetching_gateway(database_url, tmp_path, engine, **domains) as site:
        yield site


async def assert_no_canary(site: FetchingGateway, *texts: str) -> None:
    events = json.dumps(await site.gateway.rows(event), default=str)
    for text in (*texts, events, json.dumps((await site.job())["error"])):
        assert "canary" not in text


async def test_an_mp3_by_url_is_transcribed(
    site: FetchingGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    response = await site.of(answer("200 OK", mp3()))
    body = response.json()
    assert (response.status_code, body["status"], body["text"]) == (200, "completed", "heard")
    assert (body["audio"]["format"], body["audio"]["bytes"]) == ("mp3", len(mp3()))
    assert body["plan"]["kind"] == "direct"
    assert "not known" not in body["plan"]["reason"]
    assert body["usage"]["seconds"] == 11
    await site.assert_one_recording(mp3())
    row = await site.job()
    assert row["source_url"] is None
    kinds = [told["type"] for told in await site.gateway.rows(event)]
    assert kinds == ["created", "segment", "progress", "completed"]
    assert (await site.gateway.get(f"/v1/transcriptions/{row['id']}/audio")).content == mp3()
    await assert_no_canary(site, response.text, *capsys.readouterr())


async def test_a_form_may_have_the_url(site: FetchingGateway) -> None:
    site.source.pages["/a.mp3"] = answer("200 OK", mp3())
    for name in ("url", "audio"):
        response = await _form(site, name)
        assert response.status_code == 200, response.text
    assert len(await site.gateway.rows(transcription)) == 2
    await site.assert_one_recording(mp3())


async def _form(site: FetchingGateway, name: str) -> httpx.Response:
    link = site.source.url("/a.mp3")
    body = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{link}\r\n--b--\r\n'
    return await site.gateway.client.post(
        "/v1/transcriptions",
        content=body.encode(),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )


async def test_the_job_is_accepted_before_anything_is_fetched(site: FetchingGateway) -> None:
    gate = asyncio.Event()
    response = await site.of(dripping(mp3(), gate), wait=0, reference="r")
    assert response.status_code == 202
    assert response.json()["audio"] is None
    path = response.headers["location"]
    assert code_of(await site.gateway.get(f"{path}/audio")) == (409, "audio_not_fetched")
    (listed,) = (await site.gateway.get("/v1/transcriptions", reference="r")).json()["items"]
    assert (listed["audio"], listed["progress"]) == (None, 0.0)
    gate.set()
    ended = await site.gateway.ended(response.json()["id"])
    assert (ended["status"], ended["audio"]["format"]) == ("completed", "mp3")


async def test_deleting_a_job_ends_its_fetch(site: FetchingGateway) -> None:
    gate = asyncio.Event()
    response = await site.of(dripping(mp3(), gate), wait=0)
    while not site.source.asked:
        await asyncio.sleep(0.01)
    path = response.headers["location"]
    assert (await site.gateway.client.delete(path)).status_code == 204
    gate.set()
    await site.gateway.services.worker.wait(response.json()["id"], 30)
    row = await site.job()
    assert (row["status"], row["source_url"], row["audio_id"]) == ("cancelled", None, None)
    assert site.blobs() == []
    assert site.gateway.engine.calls == []
    assert code_of(await site.gateway.get(path)) == (410, "erased")


async def test_redirects_are_followed_and_an_interrupted_fetch_is_resumed(
    site: FetchingGateway,
) -> None:
    site.source.pages["/b"] = redirect(307, "/c" + QUERY)
    site.source.pages["/c"] = page = FlakyPage(mp3(), [20_000, 9_000], etag="strong")
    response = await site.of(redirect(302, site.source.url("/b")))
    assert response.status_code == 200
    assert page.answers == 3
    await site.assert_one_recording(mp3())


async def test_a_fetch_without_ranges_is_restarted(site: FetchingGateway) -> None:
    response = await site.of(FlakyPage(mp3(), [20_000], ranges=False, etag="strong"))
    assert response.status_code == 200
    await site.assert_one_recording(mp3())


async def test_the_same_bytes_by_upload_and_by_url_are_one_audio(site: FetchingGateway) -> None:
    assert (await site.gateway.send(mp3(), name="a.mp3")).status_code == 200
    assert (await site.of(answer("200 OK", mp3()))).status_code == 200
    await site.assert_one_recording(mp3())
    ids = {row["audio_id"] for row in await site.gateway.rows(transcription)}
    assert len(ids) == 1


@pytest.mark.settings(
    fetch={"max_bytes": 100_000, "deadline_seconds": 2, "max_redirects": 2},
    audio={"max_seconds": 12},
)
@pytest.mark.parametrize(
    ("page", "status", "code", "words"),
    [
        (answer("404 Not Found", HTML), 422, "url_unreachable", "no file at the URL"),
        (answer("410 Gone", HTML), 422, "url_unreachable", "no file at the URL any more"),
        (answer("401 No", HTML), 422, "url_unreachable", "signature of the URL has expired"),
        (answer("403 No", HTML), 422, "url_unreachable", "signature of the URL has expired"),
        (answer("500 Oops", HTML), 422, "url_unreachable", "answers with status 500"),
        (FlakyPage(mp3(), [100] * 99), 422, "url_unreachable", "lost repeatedly"),
        (redirect(302, "/a.mp3"), 422, "url_unreachable", "redirects too often"),
        (redirect(302, "/login"), 422, "undecodable", "leads to a web page, not to audio"),
        (answer("200 OK", HTML), 422, "undecodable", "Give the direct link of the file"),
        (answer("200 OK", M3U8), 422, "undecodable", "a playlist (m3u8), not to audio"),
        (answer("200 OK", b'{"canary": "log in"}'), 422, "undecodable", "leads to text"),
        (answer("200 OK", b""), 422, "empty_audio", "is empty"),
        (redirect(301, "http://127.0.0.1:22/"), 422, "url_not_allowed", "port"),
        (redirect(301, "http://169.254.169.254/"), 422, "url_not_allowed", "not public"),
        (dripping(b"x" * 50_000), 422, "url_unreachable", "not complete after 2 s"),
        (answer("200 OK", b"x" * 100_001), 413, "source_too_large", "100,000 bytes"),
        (unsized(b"x" * 200_000), 413, "source_too_large", "100,000 bytes"),
        (
            answer("200 OK", gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"),
            422,
            "url_unreachable",
            "compressed",
        ),
        (answer("200 OK", gzip.compress(b"x" * 999)), 422, "undecodable", "a gzip archive"),
    ],
)
async def test_failed_fetches_have_codes_and_messages(
    site: FetchingGateway,
    page: Page,
    status: int,
    code: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site.source.pages["/login"] = answer("200 OK", HTML, Content_Type="text/html")
    async with serving(host="127.0.0.2", port=site.source.port) as inner:
        response = await site.of(page)
        assert inner.asked == []
    assert code_of(response) == (status, code)
    assert words in response.json()["detail"]
    row = await site.job()
    assert (row["status"], row["audio_id"]) == ("failed", None)
    assert site.blobs() == []
    shown = await site.gateway.get(f"/v1/transcriptions/{row['id']}")
    assert shown.json()["audio"] is None
    await assert_no_canary(site, response.text, shown.text, *capsys.readouterr())
    await site.gateway.client.delete(f"/v1/transcriptions/{row['id']}")
    assert "canary" not in json.dumps(await site.job(), default=str)


@pytest.mark.settings(audio={"max_seconds": 5})
async def test_audio_above_the_length_limit_is_rejected(site: FetchingGateway) -> None:
    assert code_of(await site.of(answer("200 OK", mp3()))) == (422, "audio_too_long")
    assert site.blobs() == []


@pytest.mark.settings(fetch={"allow_addresses": ()})
async def test_loopback_is_not_fetched_unless_allowed(site: FetchingGateway) -> None:
    assert code_of(await site.post()) == (422, "url_not_allowed")
    url = f"http://localhost:{site.source.port}/a.mp3{QUERY}"
    response = await site.gateway.client.post("/v1/transcriptions", json={"url": url})
    assert code_of(response) == (422, "url_not_allowed")
    assert site.source.asked == []
    assert "canary" not in response.text


@pytest.mark.settings(fetch={"max_concurrent_fetches": 1}, jobs={"max_concurrent_jobs": 2})
async def test_slow_servers_take_no_slot_from_other_jobs(
    site: FetchingGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_source, "BUSY_SECONDS", 0.1)
    gate = asyncio.Event()
    site.source.pages["/slow.mp3"] = dripping(mp3(), gate)
    slow = await site.post("/slow.mp3", wait=0)
    waiting = await site.of(answer("200 OK", mp3()), wait=0)
    uploaded = await site.gateway.send(speech(2))
    assert uploaded.json()["status"] == "completed"
    gate.set()
    for accepted in (slow, waiting):
        assert (await site.gateway.ended(accepted.json()["id"]))["status"] == "completed"


async def test_a_server_that_sends_too_slowly_is_given_up(
    site: FetchingGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "GRACE_SECONDS", 0.1)
    response = await site.of(dripping(mp3()))
    assert code_of(response) == (422, "url_unreachable")
    assert "too slowly" in response.json()["detail"]
    row = await site.job()
    assert (row["status"], row["source_url"]) == ("failed", None)  # a signed link is a secret
