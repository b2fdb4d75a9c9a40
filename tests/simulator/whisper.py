"""Real transcripts for the simulator: Whisper, loaded from a folder of model files."""

import asyncio
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from faster_whisper import WhisperModel

from tests.simulator.audio import Audio
from tests.simulator.orders import Order
from tests.simulator.speech import Speech

FULL_SCALE = 32768
LEAST_SPEECH = 0.6  # probability of no speech above which a segment is dropped


class WhisperSpeech:
    """Transcribes speech. `folder` contains a model converted for faster-whisper."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one_at_a_time = Lock()

    async def of(self, audio: Audio, order: Order) -> Speech:
        samples = await audio.samples()
        return await asyncio.to_thread(self._heard, samples, order.language)

    def _heard(self, pcm: bytes, language: str | None) -> Speech:
        samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / FULL_SCALE
        with self._one_at_a_time:
            segments, found = self._model.transcribe(
                samples, language=language, beam_size=1, condition_on_previous_text=False
            )
            spoken = [one.text for one in segments if one.no_speech_prob < LEAST_SPEECH]
        return Speech("".join(spoken).strip(), found.language)

    @cached_property
    def _model(self) -> WhisperModel:
        return WhisperModel(str(self._folder), device="cpu", compute_type="int8")
