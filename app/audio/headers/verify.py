"""Verifies audio without a decoder: its format, its length, and that it is complete."""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.audio.headers.errors import Bytes, CutShortError, UnverifiedHeaderError, require
from app.audio.headers.mp3 import read_mp3
from app.audio.headers.ogg import read_ogg
from app.audio.headers.wav import PcmLayout, read_layout, read_wav
from app.audio.pcm import SAMPLE_BYTES
from app.audio.probe import Probe

MOST_WALKED_BYTES = 16 << 20  # a larger MP3 or Ogg is too large for one call in any case
MOST_CHANNELS = 2
RATES = range(4_000, 384_001)


def verified(path: Path) -> Probe | None:
    """Return the probe result of the file, or None if it is unverified. Blocks for some ms.

    Raises CutShortError if by its own figures the end of the file is missing.
    """
    with _mapped(path) as file:
        return verified_bytes(file)


def pcm_layout(path: Path, raw_rate: int | None = None) -> PcmLayout | None:
    """Return the position of the samples, or None if a decoder is needed. Blocks.

    With `raw_rate` the file holds raw samples of that rate, see `raw`.
    """
    with _mapped(path) as file:
        if raw_rate is not None:
            return PcmLayout(1, raw_rate, 0, len(file) // SAMPLE_BYTES * SAMPLE_BYTES)
        try:
            layout = read_layout(file)
        except (UnverifiedHeaderError, struct.error):
            return None
        return layout if layout.channels <= MOST_CHANNELS else None


@contextmanager
def _mapped(path: Path) -> Iterator[Bytes]:
    with path.open("rb") as file:
        try:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # it is empty
            yield b""
            return
        with whole:
            yield whole


def verified_bytes(file: Bytes) -> Probe | None:
    """Do the same for a file in memory."""
    try:
        if file[:4] == b"RIFF":
            found = read_wav(file)
        else:
            require(len(file) <= MOST_WALKED_BYTES)
            found = read_ogg(file) if file[:4] == b"OggS" else read_mp3(file)
        require(0 < found.channels <= MOST_CHANNELS and found.sample_rate in RATES)
    except CutShortError:
        raise
    except (UnverifiedHeaderError, struct.error):
        return None
    return found
