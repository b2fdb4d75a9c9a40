"""Fixtures of the audio tests. The packaged ffmpeg creates the media files."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.audio.ffmpeg import Decoders
from app.audio.storage.local_store import LocalStore
from app.settings import AudioSettings
from tests.unit.audio.audio_samples import SPEECH, Make, ffmpeg


@pytest.fixture
def settings() -> AudioSettings:
    return AudioSettings(min_free_bytes=0, fsync=False)


@pytest.fixture
def decoders(settings: AudioSettings) -> Decoders:
    return Decoders(settings)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path, settings: AudioSettings) -> LocalStore:
    return LocalStore(root, settings)


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that creates a file with ffmpeg, once per session."""
    folder = tmp_path_factory.mktemp("media")

    def making(name: str, *arguments: str, source: Sequence[str] = ("-i", str(SPEECH))) -> Path:
        way = zlib.crc32(repr((source, arguments)).encode())
        path = folder / str(way) / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            ffmpeg(*source, *arguments, str(path))
        return path

    return making
