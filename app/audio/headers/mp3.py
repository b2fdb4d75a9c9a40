"""Reads MP3 files: every frame between the leading and the trailing tags is checked.

A file without a Xing or Info header that was cut exactly between two frames looks complete; the
cut cannot be detected. With such a header, its count of frames must be right. Tags could contain
audio that a decoder plays and the check does not find, so only tags that all decoders read alike
are skipped.
"""

from app.audio.headers.errors import Bytes, CutShortError, UnverifiedHeaderError, require
from app.audio.probe import Probe

LEAST_FRAMES = 4
MOST_FRAMES = 150_000  # an hour or more; so many take some hundredths of a second
DECODER_DELAY = 529  # samples that FFmpeg, too, cuts off the start and counts in at the end
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44_100, 48_000, 32_000)
_RATE_DIVISORS = {3: 1, 2: 2, 0: 4}  # by the version's bits: MPEG 1, 2 and 2.5
_HEAD_BYTES, _SYNC = 4, 0xFF
_LAYER_3 = 1
_MONO = 3
_TAG_HEAD, _ID3V1 = 10, 128
MOST_TAGS = 4  # each is a step of Python that costs no more than ten bytes
_TAG_VERSIONS = (2, 3, 4)
_ODD_TAG_FLAGS = 0x1F  # a footer, which not all versions have, and unknown flags
# More than encoders add. A decoder that does not remove it returns that much more audio.
_MOST_PADDING = 3 * 1152
_HAS_FRAMES, _HAS_BYTES, _HAS_TABLE, _HAS_QUALITY = 1, 2, 4, 8
_ENCODERS = (b"LAME", b"Lavf", b"Lavc")  # whose delays FFmpeg believes
_DELAYS_AT = 21  # in what stands behind an encoder's name


class _Frame:
    """The fields of the four bytes of a frame header."""

    __slots__ = ("channels", "form", "rate", "samples", "side_bytes", "size")

    def __init__(self, head: bytes) -> None:
        require(len(head) == _HEAD_BYTES and head[0] == _SYNC and head[1] & 0xE0 == 0xE0)  # noqa: PLR2004
        version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
        bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
        require(version in _RATE_DIVISORS and layer == _LAYER_3)
        require(0 < bitrate < len(_BITRATES_1) and rate < len(_RATES) and head[3] & 3 != 2)  # noqa: PLR2004
        is_first = _RATE_DIVISORS[version] == 1
        self.rate = _RATES[rate] // _RATE_DIVISORS[version]
        self.channels = 1 if head[3] >> 6 == _MONO else 2
        self.samples = 1152 if is_first else 576
        bits = (_BITRATES_1 if is_first else _BITRATES_2)[bitrate] * 1000
        self.size = self.samples // 8 * bits // self.rate + (head[2] >> 1 & 1)
        self.side_bytes = (32, 17)[self.channels == 1] if is_first else (17, 9)[self.channels == 1]
        self.form = (self.rate, self.channels)


def read_mp3(file: Bytes) -> Probe:
    """Read an MP3. Raises UnverifiedHeaderError."""
    start, end = _find_frames(file)
    first = _Frame(file[start : start + 4])
    count = _count_frames(file, start, end, first)
    stated, trimmed = _read_info(file[start : start + first.size], first)
    if stated is not None:
        count -= 1  # the frame of the header itself holds no audio
        if stated > count:
            raise CutShortError
        require(stated == count)
    samples = count * first.samples - trimmed
    require(count >= LEAST_FRAMES and samples > 0)
    return Probe("mp3", "mp3", first.channels, first.rate, samples / first.rate, exact=True)


def _count_frames(file: Bytes, at: int, end: int, first: _Frame) -> int:
    """Count the frames. The last one must end where the audio ends."""
    sizes: dict[bytes, int] = {}
    for count in range(MOST_FRAMES + 1):
        if at >= end:
            if at > end:
                raise CutShortError
            return count
        head = file[at : at + 4]
        if head not in sizes:
            if len(head) < _HEAD_BYTES and head[0] == _SYNC:
                raise CutShortError
            frame = _Frame(head)
            require(frame.form == first.form)
            sizes[head] = frame.size
        at += sizes[head]
    raise UnverifiedHeaderError


def _read_info(frame: bytes, form: _Frame) -> tuple[int | None, int]:
    """Return the frame count of a Xing or Info header, and the samples that are padding.

    None: there is no such header. 0: it has no frame count, and FFmpeg plays it.
    """
    require(frame[36:40] != b"VBRI")  # another maker's header, which no file at hand has
    at = 4 + form.side_bytes
    if frame[at : at + 4] not in {b"Xing", b"Info"}:
        return None, 0
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    at += 8
    frames = int.from_bytes(frame[at : at + 4], "big") if flags & _HAS_FRAMES else 0
    for flag, size in ((_HAS_FRAMES, 4), (_HAS_BYTES, 4), (_HAS_TABLE, 100), (_HAS_QUALITY, 4)):
        at += size if flags & flag else 0
    if frame[at : at + 4] not in _ENCODERS:
        return frames, 0
    delays = int.from_bytes(frame[at + _DELAYS_AT : at + _DELAYS_AT + 3], "big")
    before, behind = delays >> 12, delays & 0xFFF
    require(before + behind <= _MOST_PADDING)
    return frames, before + DECODER_DELAY + max(0, behind - DECODER_DELAY)


def _find_frames(file: Bytes) -> tuple[int, int]:
    """Return where the frames begin, behind the leading tags, and where they end."""
    at = 0
    for _ in range(MOST_TAGS):
        if file[at : at + 3] != b"ID3":
            break
        head = file[at : at + _TAG_HEAD]
        require(len(head) == _TAG_HEAD and head[3] in _TAG_VERSIONS and head[4] == 0)
        require(not head[5] & _ODD_TAG_FLAGS and head[6:].isascii())
        at += _TAG_HEAD + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    end = len(file)
    tag = file[max(0, end - _ID3V1) : end]
    if tag[:3] == b"TAG":
        require(_SYNC not in tag[:-1])  # the last one is the genre: there it means none
        end -= _ID3V1
    # An APE tag states its own length, so it could contain any number of frames. `rfind`
    # skips most bytes; `find` reads all of them in more than twice the time.
    require(file.rfind(b"APETAGEX") < 0)
    return at, end
