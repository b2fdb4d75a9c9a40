"""WAV of 16 bit PCM: its chunks have to fill the file to the byte."""

import struct
from collections.abc import Iterator

from app.audio.headers.doubt import Bytes, CutShortError, DoubtfulError, require
from app.audio.probe import Probe

PCM, EXTENSIBLE = 1, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
SAMPLE_BYTES = 2
MOST_CHUNKS = 256
OPEN_ENDED = 0x7FFF0000  # from here on, or 0, it is what writers put who do not know the length yet


def read_wav(file: Bytes) -> Probe:
    """Read a WAV. Raises DoubtfulError, or struct.error where the file ends inside a field."""
    require(file[:4] == b"RIFF" and file[8:12] == b"WAVE")
    (promised,) = struct.unpack_from("<I", file, 4)
    require(0 < promised < OPEN_ENDED)
    if promised + 8 > len(file):
        raise CutShortError
    require(promised + 8 == len(file))
    form: tuple[int, int] | None = None
    sound: int | None = None
    for name, at, size in _chunks(file):
        if name == b"fmt ":
            require(form is None)
            form = _form(file, at, size)
        elif name == b"data":
            require(form is not None and sound is None and size > 0)
            sound = size
    if form is None or sound is None:
        raise DoubtfulError
    channels, rate = form
    require(channels > 0 and rate > 0)
    frames, rest = divmod(sound, channels * SAMPLE_BYTES)
    require(rest == 0)
    return Probe("wav", "pcm_s16le", channels, rate, frames / rate, exact=True)


def _chunks(file: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and size of each chunk; the last one ends with the file."""
    at = 12
    for _ in range(MOST_CHUNKS):
        name, size = struct.unpack_from("<4sI", file, at)
        at += 8
        require(at + size <= len(file))
        yield name, at, size
        at = min(at + size + size % 2, len(file))  # the last chunk's padding is often left out
        if at == len(file):
            return
    raise DoubtfulError


def _form(file: Bytes, at: int, size: int) -> tuple[int, int]:
    """Return channels and sample rate."""
    kind, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", file, at)
    if kind == EXTENSIBLE:
        require(size >= 40 and file[at + 24 : at + 40] == PCM_GUID)  # noqa: PLR2004
        require(struct.unpack_from("<H", file, at + 18)[0] == bits)
    else:
        require(kind == PCM)
    require(bits == SAMPLE_BYTES * 8 and frame_bytes == channels * SAMPLE_BYTES)
    return channels, rate
