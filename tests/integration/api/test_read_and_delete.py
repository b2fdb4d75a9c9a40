"""One transcription: its transcript in each format, its audio, and its deletion.

Covers: app.api.http.blob_response, app.api.v1.lookup, app.api.v1.transcriptions
"""

import asyncio
import json

import pytest

from app.jobs.tables import transcript, transcription
from tests.support.captured_log import capture_logs
from tests.support.gateway import Gateway, code_of

pytestmark = pytest.mark.anyio
FORMS = {
    "json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "lrc": "application/lrc",
    "tsv": "text/tab-separated-values",
}


async def done(gateway: Gateway, recording: bytes) -> str:
    response = await gateway.send(recording)
    return f"/v1/transcriptions/{response.json()['id']}"


async def test_a_transcript_in_every_format(gateway: Gateway, recording: bytes) -> None:
    path = await done(gateway, recording)
    for form, media_type in FORMS.items():
        response = await gateway.get(f"{path}/transcript", format=form)
        assert response.headers["content-type"].partition(";")[0] == media_type
        assert "heard" in response.text
    plain = (await gateway.get(f"{path}/transcript", format="text")).text
    assert plain.strip() == "heard"
    assert (await gateway.get(f"{path}/transcript")).json()["text"] == "heard"
    assert (await gateway.get(f"{path}/transcript", format="vtt")).text.startswith("WEBVTT\n")
    unknown = await gateway.get(f"{path}/transcript", format="pdf")
    assert code_of(unknown) == (422, "invalid_parameter")
    assert all(f"'{form}'" in unknown.json()["detail"] for form in FORMS)
    table = (await gateway.get(f"{path}/transcript", format="tsv")).text
    assert table == "start\tend\ttext\n0\t2000\theard\n"


async def test_a_transcript_of_a_running_job_is_409(gateway: Gateway, recording: bytes) -> None:
    gateway.engine.gate = asyncio.Event()
    path = (await gateway.send(recording, wait="0")).headers["location"]
    assert code_of(await gateway.get(f"{path}/transcript")) == (409, "transcription_not_finished")
    gateway.engine.gate.set()
    await gateway.ended(path.rpartition("/")[2])
    assert (await gateway.get(f"{path}/transcript")).status_code == 200


async def test_the_audio_is_returned_as_it_was_sent(gateway: Gateway, recording: bytes) -> None:
    path = await done(gateway, recording)
    response = await gateway.get(f"{path}/audio")
    assert response.content == recording
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-length"] == str(len(recording))
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment;")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=-5", -5, None),
        ("bytes=9-", 9, None),
    ],
)
async def test_a_range_of_the_recording(
    gateway: Gateway, recording: bytes, header: str, start: int, end: int | None
) -> None:
    path = await done(gateway, recording)
    response = await gateway.client.get(f"{path}/audio", headers={"Range": header})
    assert response.status_code == 206
    assert response.content == recording[start:end]
    first = start % len(recording)
    last = first + len(response.content) - 1
    assert response.headers["content-range"] == f"bytes {first}-{last}/{len(recording)}"


async def test_a_range_after_the_end_is_416(gateway: Gateway, recording: bytes) -> None:
    path = await done(gateway, recording)
    response = await gateway.client.get(
        f"{path}/audio", headers={"Range": f"bytes={len(recording)}-"}
    )
    assert code_of(response) == (416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{len(recording)}"
    several = await gateway.client.get(f"{path}/audio", headers={"Range": "bytes=0-1,5-6"})
    assert (several.status_code, several.content) == (200, recording)


async def test_delete_is_permanent_and_idempotent(gateway: Gateway, recording: bytes) -> None:
    path = await done(gateway, recording)
    with capture_logs() as logged:
        for _ in range(2):
            response = await gateway.client.delete(path)
            assert (response.status_code, response.content) == (204, b"")
    assert path.rsplit("/", 1)[1] in [
        line["job"] for line in logged if line["event"] == "job.erased"
    ]
    for suffix in ("", "/transcript", "/audio"):
        assert code_of(await gateway.get(path + suffix)) == (410, "erased")
    assert gateway.blobs() == []
    assert await gateway.rows(transcript) == []
    assert "heard" not in json.dumps(await gateway.rows(transcription), default=str)
    assert (await gateway.get("/v1/transcriptions")).json()["items"] == []
    (day,) = (await gateway.get("/v1/costs")).json()["items"]
    assert day["nano"] > 0


async def test_delete_ends_a_running_job_and_its_waiting_caller(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.gate = asyncio.Event()
    waiting = asyncio.create_task(gateway.send(recording))
    while not gateway.engine.calls:
        await asyncio.sleep(0.01)
    (job,) = await gateway.rows(transcription)
    assert (await gateway.client.delete(f"/v1/transcriptions/{job['id']}")).status_code == 204
    gateway.engine.gate.set()
    assert code_of(await waiting) == (410, "erased")
    assert await gateway.rows(transcript) == []
    assert gateway.blobs() == []


async def test_delete_keeps_audio_that_another_job_uses(gateway: Gateway, recording: bytes) -> None:
    one, two = await done(gateway, recording), await done(gateway, recording)
    await gateway.client.delete(one)
    assert (await gateway.get(f"{two}/audio")).content == recording


@pytest.mark.parametrize("id", ["tr_" + "0" * 32])
async def test_unknown_ids_are_404(gateway: Gateway, id: str) -> None:  # noqa: A002
    for suffix in ("", "/transcript", "/audio"):
        assert code_of(await gateway.get(f"/v1/transcriptions/{id}{suffix}")) == (404, "not_found")
    assert code_of(await gateway.client.delete(f"/v1/transcriptions/{id}")) == (404, "not_found")
    assert code_of(await gateway.get("/v1/transcriptions/nonsense")) == (422, "invalid_parameter")
