"""Reads Ogg files with one Opus stream: the checksum and the number of every page are checked.

Vorbis states its length only in its granule positions: the length of its packets depends on a
table of the setup header that is not read here. So its pages show only whether it was cut.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from app.audio.headers.errors import Bytes, CutShortError, UnverifiedHeaderError, require
from app.audio.probe import Probe

OPUS_RATE = 48_000
MOST_PAGES = 20_000  # five minutes with a page for every packet are 15,000
MOST_SEGMENTS = 150_000  # of packets; so many take a tenth of a second
NO_PACKET_ENDS = -1  # a granule position
_CONTINUED, _BEGINS, _ENDS = 1, 2, 4
_HEAD = struct.Struct("<4sBBqIIIB")
_CHECKSUM = slice(22, 26)
_WHOLE_SEGMENT = 255
_OPUS_MILLIS = (10, 20, 40, 60) * 3 + (10, 20) * 2 + (2.5, 5, 10, 20) * 4
_OPUS_SAMPLES = tuple(int(millis * OPUS_RATE / 1000) for millis in _OPUS_MILLIS)
_MOST_OPUS_SAMPLES = 120 * OPUS_RATE // 1000  # of one packet
_MOST_SKIPPED = OPUS_RATE // 5  # at the start; a decoder that does not skip it returns more
_MOST_OPUS_CHANNELS = 2  # of the mapping that has no table
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _OggPage(NamedTuple):
    """`packets` are the first bytes of the packets that begin on it; `ended` how many end."""

    flags: int
    granule: int
    packets: list[bytes]
    ended: int


def read_ogg(file: Bytes) -> Probe:
    """Read an Ogg file. Raises UnverifiedHeaderError, or struct.error if it ends in a page."""
    pages = _read_pages(file)
    first = next(pages, None)
    if first is None or len(first.packets) != 1 or first.ended != 1:
        raise UnverifiedHeaderError
    head = first.packets[0]
    if not head.startswith(b"OpusHead"):
        for _ in pages:
            pass  # for CutShortError
        raise UnverifiedHeaderError
    for page in pages:  # the comments begin on a page of their own and end with one
        require(all(packet.startswith(b"OpusTags") for packet in page.packets))
        if page.ended:
            require(page.ended == 1)
            break
    return _read_opus(head, pages)


def _read_opus(head: bytes, pages: Iterator[_OggPage]) -> Probe:
    """Read the header packet and the pages that hold audio."""
    version, channels, skipped, _, _, mapping = struct.unpack_from("<BBHIhB", head, 8)
    require(version >> 4 == 0 and mapping == 0 and 0 < channels <= _MOST_OPUS_CHANNELS)
    total = last = ended = 0
    going_on: list[int] = []  # the length of a packet that ends on a later page
    for page in pages:
        lengths = [*going_on, *map(_opus_samples, page.packets)]
        going_on = lengths[page.ended :]
        total += sum(lengths[: page.ended])
        ended = lengths[page.ended - 1] if page.ended else ended
        if page.granule == NO_PACKET_ENDS:
            require(page.ended == 0)
            continue
        # At the end it is cut to the sample: within its last packet, as FFmpeg cuts no more.
        least = total - ended + 1 if page.flags & _ENDS and page.ended else total
        require(least <= page.granule <= total)
        last = page.granule
    require(last > skipped and skipped <= _MOST_SKIPPED)
    return Probe("ogg", "opus", channels, OPUS_RATE, (last - skipped) / OPUS_RATE, exact=True)


def _opus_samples(packet: bytes) -> int:
    require(len(packet) > 0)
    kind = packet[0] & 3
    if kind == 3:  # noqa: PLR2004
        require(len(packet) > 1 and packet[1] & 63 > 0)
    frames = (1, 2, 2, packet[1] & 63)[kind] if kind == 3 else (1, 2, 2)[kind]  # noqa: PLR2004
    samples = frames * _OPUS_SAMPLES[packet[0] >> 3]
    require(samples <= _MOST_OPUS_SAMPLES)
    return samples


def _read_pages(file: Bytes) -> Iterator[_OggPage]:
    """Yield all pages of a file that is one stream, from its beginning to its end."""
    at = number = segments = 0
    stream = None
    is_open = False  # a packet goes on on the next page
    flags = 0
    while at < len(file):
        if at + _HEAD.size > len(file):
            raise CutShortError
        mark, version, flags, granule, serial, sequence, checksum, count = _HEAD.unpack_from(
            file, at
        )
        require(mark == b"OggS" and version == 0 and sequence == number < MOST_PAGES)
        require(bool(flags & _BEGINS) == (number == 0) and bool(flags & _CONTINUED) == is_open)
        stream = serial if stream is None else stream
        require(serial == stream)
        segments += count
        require(segments <= MOST_SEGMENTS)
        body = at + _HEAD.size + count
        table = file[at + _HEAD.size : body]
        end = body + sum(table)
        if len(table) < count or end > len(file):
            raise CutShortError
        page = file[at:end]
        require(_page_checksum(page) == checksum)
        packets, ended, position = [], 0, body - at
        for size in table:
            if not is_open:
                packets.append(page[position : position + size])
            position += size
            is_open = size == _WHOLE_SEGMENT
            ended += not is_open
        is_open = is_open and len(table) > 0
        at, number = end, number + 1
        require(not flags & _ENDS or (at == len(file) and not is_open))
        yield _OggPage(flags, granule, packets, ended)
    if not flags & _ENDS:
        raise CutShortError


def _page_checksum(page: bytes) -> int:
    """Return a page's CRC. It is zlib's one, read from the other end of each byte."""
    blank = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    mirrored = zlib.crc32(blank.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")
