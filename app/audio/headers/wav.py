"""WAV of 16 bit PCM: its chunks have to fill the file to the byte."""

import struct
from collections.abc import Iterator

from app.audio.headers.errors import Bytes, CutShortError, DoubtfulError, require
from app.audio.probe import Probe

PCM, EXTENSIBLE = 1, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
SAMPLE_BYTES = 2
MOST_CHUNKS = 256
_FORM_BYTES, _EXTENDED_BYTES, _EXTENSION = 16, 40, 22
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
    sound_bytes = 0
    for name, at, size in _chunks(file):
        if name == b"fmt ":
            require(form is None)
            form = _form(file, at, size)
        elif name == b"data":
            require(form is not None and not sound_bytes and size > 0)
            sound_bytes = size
    if form is None or not sound_bytes:
        raise DoubtfulError
    channels, rate = form
    require(channels > 0 and rate > 0)
    frames, rest = divmod(sound_bytes, channels * SAMPLE_BYTES)
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
        at += size
        # Who does not skip the padding must find no other chunk; the last one's is often left out.
        require(size % 2 == 0 or file[at : at + 1] in {b"", b"\0"})
        at = min(at + size % 2, len(file))
        if at == len(file):
            return
    raise DoubtfulError


def _form(file: Bytes, at: int, size: int) -> tuple[int, int]:
    """Return channels and sample rate."""
    require(size >= _FORM_BYTES)
    kind, channels, rate, byte_rate, frame_bytes, bits = struct.unpack_from("<HHIIHH", file, at)
    if kind == EXTENSIBLE:
        require(size >= _EXTENDED_BYTES and file[at + 24 : at + 40] == PCM_GUID)
        require(struct.unpack_from("<HH", file, at + 16) == (_EXTENSION, bits))
    else:
        require(kind == PCM)
    require(bits == SAMPLE_BYTES * 8 and frame_bytes == channels * SAMPLE_BYTES)
    require(byte_rate == rate * frame_bytes)
    return channels, rate
