"""Real speech all the way: the gateway sends a recording, the twin listens and answers."""

import shutil
from pathlib import Path

import pytest

from app.settings import LocalEngineSettings
from app.speech.engines.local.weights.files import pull
from tests.support.gateway import SPEECH
from tests.support.spoken import word_error_rate
from tests.support.twin import before
from tests.twin import Twin
from tests.twin.hearing import Hearing

pytestmark = pytest.mark.anyio
MODEL = "base"  # `make test` has fetched it
WORST_WORD_ERROR_RATE = 0.1


async def test_spoken_words_come_back_through_the_wire(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    folder = await pull(MODEL, LocalEngineSettings(), lambda *_: None)
    async with Twin(words=Hearing(folder)) as twin, before(twin, tmp_path) as there:
        body = (await there.send(SPEECH.read_bytes())).json()
    assert (body["status"], body["model"], body["language"]) == (
        "completed",
        "qwen3-asr-flash",
        "en",
    )
    assert word_error_rate(body["text"]) < WORST_WORD_ERROR_RATE
    assert body["usage"]["seconds"] == twin.bill.seconds()
