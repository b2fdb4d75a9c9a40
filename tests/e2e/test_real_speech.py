"""Real speech through the gateway to a simulator that transcribes it with Whisper.

Covers: app.speech.engines.local.weights.files
"""

import shutil
from pathlib import Path

import pytest

from app.settings import LocalEngineSettings
from app.speech.engines.local.weights.files import pull
from tests.simulator import ProviderSimulator
from tests.simulator.whisper import WhisperSpeech
from tests.support.gateway import SPEECH
from tests.support.sample_text import word_error_rate
from tests.support.simulated_gateway import simulated_gateway

pytestmark = pytest.mark.anyio
MODEL = "base"  # `make test` has fetched it
WORST_WORD_ERROR_RATE = 0.1


async def test_real_speech_is_transcribed_through_the_gateway(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    folder = await pull(MODEL, LocalEngineSettings(), lambda *_: None)
    async with (
        ProviderSimulator(words=WhisperSpeech(folder)) as simulator,
        simulated_gateway(simulator, tmp_path) as there,
    ):
        body = (await there.send(SPEECH.read_bytes())).json()
    assert (body["status"], body["model"], body["language"]) == (
        "completed",
        "qwen3-asr-flash",
        "en",
    )
    assert word_error_rate(body["text"]) < WORST_WORD_ERROR_RATE
    assert body["usage"]["seconds"] == simulator.bill.seconds()
