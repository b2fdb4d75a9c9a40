"""Audio that the provider does not accept is sent as a converted copy, which is removed.

Covers: app.audio.decoding.convert, app.speech.task_engine
"""

from pathlib import Path

import pytest

from tests.simulator.counting import RATE
from tests.support.gateway import SPEECH, code_of
from tests.support.task_gateway import THREE_SECONDS, task_gateway

pytestmark = pytest.mark.anyio


async def test_raw_pcm_is_converted_to_flac_and_the_copy_is_removed(
    database_url: str, tmp_path: Path
) -> None:
    async with task_gateway(tmp_path, database=database_url) as here:
        bare = THREE_SECONDS[44:]
        body = (await here.send(bare, format="pcm", sample_rate=str(RATE))).json()
        assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
        assert "does not read pcm" in body["plan"]["reason"]
        assert here.submits[0]["input"]["file_url"].endswith(".flac")
        assert len(here.gateway.blobs()) == 1
        await here.assert_settled()


async def test_a_telephone_model_receives_its_sample_rate(tmp_path: Path) -> None:
    async with task_gateway(tmp_path) as here:
        body = (await here.send(SPEECH.read_bytes(), model="paraformer-8k-v2")).json()
        assert "16000 Hz" in body["plan"]["reason"]
        (task,) = here.simulator.tasks
        uploads = list(here.simulator.store._uploads.values())
        rate = int.from_bytes(uploads[0].data[18:21], "big") >> 4
        assert (rate, task.model.name) == (8_000, "paraformer-8k-v2")


async def test_a_file_above_the_upload_limit_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulator.store.MOST_MEGABYTES", 0)
    async with task_gateway(tmp_path) as here:
        response = await here.send()
        assert code_of(response) == (422, "audio_unreachable")
        assert "temporary upload does not accept a file of" in response.json()["detail"]
        assert here.submits == []
        assert await here.lines() == ["hold", "release"]
