"""A new upload restores the lost file of an audio.

Covers: app.audio.storage.blob_store
"""

import asyncio

import pytest

from app.jobs.tables import audio_tables, transcription
from tests.support.gateway import Gateway, speech

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_new_upload_of_a_lost_recording_takes_its_place(
    gateway: Gateway, *, is_cut: bool
) -> None:
    """ATTACKS M8: also where the file is only cut short; the job from before can be retried."""
    recording = speech(5)
    gateway.engine.gate = asyncio.Event()
    old = (await gateway.send(recording, mode="async")).json()["id"]
    async with asyncio.timeout(10):
        while not gateway.engine.calls:
            await asyncio.sleep(0.01)
    await gateway.client.post(f"/v1/transcriptions/{old}/cancel")
    (blob,) = gateway.blobs()
    if is_cut:
        blob.write_bytes(b"RIFF")
    else:
        blob.unlink()
    gateway.engine.gate = None
    new = await gateway.send(recording)
    assert (new.status_code, new.json()["status"]) == (200, "completed"), new.text
    assert [path.read_bytes() for path in gateway.blobs()] == [recording]
    assert len(await gateway.rows(audio_tables.audio)) == 1
    assert (await gateway.client.post(f"/v1/transcriptions/{old}/retry")).status_code == 202
    assert (await gateway.ended(old))["status"] == "completed"
    states = {row["status"] for row in await gateway.rows(transcription)}
    assert states == {"completed"}
