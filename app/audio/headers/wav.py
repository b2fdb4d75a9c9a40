"""Read the header of a WAV file of 16 bit PCM.

The chunks must fill the file to the byte, and every chunk must be of a kind that all decoders
skip or read in the same way. FFmpeg refuses a whole file because of one short `LIST` chunk, and it
decodes PCM that begins like an MP3 as MP3: such files are left to it.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from app.audio.headers.errors import Bytes, CutShortError, UnverifiedHeaderError, require
from app.audio.pcm import SAMPLE_BYTES
from app.audio.probe import Probe

PCM, EXTENSIBLE = 1, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
MAX_CHUNKS = 256
PLAIN_FORMAT_BYTES = (16, 18)  # without and with the size of an extension, which is 0
EXTENSIBLE_FORMAT_BYTES, EXTENSION_BYTES = 40, 22
OPEN_ENDED = 0x7FFF0000  # a size of 0, or from here on, means that the writer did not know it
# Chunks that do not change the audio, and the size below which FFmpeg refuses the file.
# Any other kind is doubtful: `SMV0` would add a video track, `XMA2` replace the format.
MIN_CHUNK_BYTES: Mapping[bytes, int] = {
    b"LIST": 4,
    b"fact": 4,
    b"bext": 602,
    **dict.fromkeys((b"JUNK", b"junk", b"PAD ", b"FLLR", b"PEAK", b"cue ", b"smpl", b"inst"), 0),
    **dict.fromkeys((b"iXML", b"axml", b"_PMX", b"chna", b"cart", b"acid", b"umid", b"DISP"), 0),
    **dict.fromkeys((b"afsp", b"minf", b"elm1", b"regn", b"plst", b"levl"), 0),
}
PROBED_BYTES = 128 << 10  # of PCM, which FFmpeg searches for a compressed stream
_STREAM_STARTS = (b"ID3", b"\x0b\x77", b"\x77\x0b")  # MP3 with a tag, AC-3 in both byte orders
_ALIGNED_MARKS = (  # of DTS: FFmpeg looks for them at whole samples
    *(b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80"),
    *(b"\x1f\xff\xe8\x00\x07", b"\xff\x1f\x00\xe8"),
)
# of S/PDIF, TrueHD and MLP
_STREAM_MARKS = (b"\x72\xf8\x1f\x4e", b"\xf8\x72\x6f\xba", b"\xf8\x72\x6f\xbb")


class PcmLayout(NamedTuple):
    """The position and format of the samples in a file: 16 bit little endian, interleaved."""

    channels: int
    rate: int
    start: int
    size: int


def read_wav(file: Bytes) -> Probe:
    """Read a WAV. Raises UnverifiedHeaderError, or struct.error where the file ends in a field."""
    layout = read_layout(file)
    seconds = layout.size / (layout.channels * SAMPLE_BYTES) / layout.rate
    return Probe("wav", "pcm_s16le", layout.channels, layout.rate, seconds, exact=True)


def read_layout(file: Bytes) -> PcmLayout:
    """Find the samples. Raises UnverifiedHeaderError, or struct.error."""
    require(file[:4] == b"RIFF" and file[8:12] == b"WAVE")
    (promised,) = struct.unpack_from("<I", file, 4)
    require(0 < promised < OPEN_ENDED)
    if promised + 8 > len(file):
        raise CutShortError
    require(promised + 8 == len(file))
    form: tuple[int, int] | None = None
    layout: PcmLayout | None = None
    for name, at, size in _chunks(file):
        if name == b"fmt ":
            require(form is None)
            form = _form(file, at, size)
        elif name == b"data":
            require(form is not None and layout is None and size > 0)
            layout = PcmLayout(*(form or (0, 0)), at, size)
        else:
            require(name in MIN_CHUNK_BYTES and size >= MIN_CHUNK_BYTES[name])
    if layout is None:
        raise UnverifiedHeaderError
    require(layout.channels > 0 and layout.rate > 0)
    require(layout.size % (layout.channels * SAMPLE_BYTES) == 0)
    require(
        not may_be_compressed(file[layout.start : layout.start + min(layout.size, PROBED_BYTES)])
    )
    return layout


def may_be_compressed(pcm: bytes) -> bool:
    """Return whether a decoder could read the start of this PCM as a compressed stream.

    The result is wrong for the few files whose first samples look like such a header by chance.
    """
    # Decoders skip zeros before the first frame.
    start = pcm.lstrip(b"\0")[:4]
    if start.startswith(_STREAM_STARTS) or any(mark in pcm for mark in _STREAM_MARKS):
        return True
    for mark in _ALIGNED_MARKS:
        at = pcm.find(mark)
        while at > 0 and at % SAMPLE_BYTES:
            at = pcm.find(mark, at + 1)
        if at >= 0:
            return True
    if len(start) < 4:  # noqa: PLR2004
        return False
    first, second, third, _ = start
    is_latm = first == 0x56 and second & 0xE0 == 0xE0  # noqa: PLR2004
    is_adts = first == 0xFF and second & 0xF6 == 0xF0  # noqa: PLR2004
    is_mpeg = first == 0xFF and second & 0xE0 == 0xE0 and second & 6 != 0  # noqa: PLR2004
    is_valid_rate = third >> 4 != 0xF and third & 0xC != 0xC and third >> 4 != 0  # noqa: PLR2004
    return is_latm or is_adts or (is_mpeg and is_valid_rate)


def _chunks(file: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset and size of each chunk; the last one ends with the file."""
    at = 12
    for _ in range(MAX_CHUNKS):
        name, size = struct.unpack_from("<4sI", file, at)
        at += 8
        require(at + size <= len(file))
        yield name, at, size
        at += size
        # A decoder that does not skip the padding must find no other chunk there. The padding of
        # the last chunk is often missing.
        require(size % 2 == 0 or file[at : at + 1] in {b"", b"\0"})
        at = min(at + size % 2, len(file))
        if at == len(file):
            return
    raise UnverifiedHeaderError


def _form(file: Bytes, at: int, size: int) -> tuple[int, int]:
    """Return channels and sample rate."""
    require(size in {*PLAIN_FORMAT_BYTES, EXTENSIBLE_FORMAT_BYTES})
    kind, channels, rate, byte_rate, frame_bytes, bits = struct.unpack_from("<HHIIHH", file, at)
    if kind == EXTENSIBLE:
        require(size == EXTENSIBLE_FORMAT_BYTES and file[at + 24 : at + 40] == PCM_GUID)
        require(struct.unpack_from("<HH", file, at + 16) == (EXTENSION_BYTES, bits))
    else:
        require(kind == PCM and size in PLAIN_FORMAT_BYTES)
        require(size == PLAIN_FORMAT_BYTES[0] or file[at + 16 : at + 18] == b"\0\0")
    require(bits == SAMPLE_BYTES * 8 and frame_bytes == channels * SAMPLE_BYTES)
    require(byte_rate == rate * frame_bytes)
    return channels, rate
