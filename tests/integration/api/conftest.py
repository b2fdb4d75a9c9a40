"""Fixtures for tests of the API."""

import io
import wave

import pytest

from tests.support.gateway import speech


@pytest.fixture(scope="session")
def stereo() -> bytes:
    """Two seconds of audio with two channels. The second channel is silent."""
    with wave.open(io.BytesIO(speech(2))) as mono:
        rate, frames = mono.getframerate(), mono.readframes(mono.getnframes())
    samples = [frames[at : at + 2] for at in range(0, len(frames), 2)]
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(one + b"\0\0" for one in samples))
    return made.getvalue()
