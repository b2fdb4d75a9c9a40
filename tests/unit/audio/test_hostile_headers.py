"""Files whose headers claim a wrong length: the verified length is always the one FFmpeg decodes.

The maximum cost of audio is computed from the verified length.

Covers: app.audio.headers.verify, app.audio.headers.wav, app.audio.inspection.ffmpeg_probe
"""

import struct
import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import imageio_ffmpeg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.audio.headers.verify import MOST_WALKED_BYTES, verified_bytes
from app.audio.probe import Probe
from tests.unit.audio.audio_samples import Make
from tests.unit.audio.test_headers import (
    ape,
    extensible,
    frames,
    id3,
    ogg_pages,
    refilled,
    resealed,
    vouched,
    wav,
)

Draw = Callable[..., int]
NOISE = ("-f", "lavfi", "-i", "anoisesrc=sample_rate=16000:amplitude=0.2:seed=7:duration=20")
PLAIN_MP3 = ("-write_xing", "0", "-id3v2_version", "0")
FLAGS, GRANULE, SERIAL, NUMBER, BODY = 5, 6, 14, 18, 28  # where they stand in a page of one segment


def heard_seconds(path: Path, rate: int) -> float:
    """Return the seconds that FFmpeg decodes; 0 if it decodes nothing."""
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    command = [
        exe,
        "-v",
        "quiet",
        "-i",
        str(path),
        "-ac",
        "1",
        "-ar",
        str(rate),
        "-f",
        "s16le",
        "-",
    ]
    sound = subprocess.run(command, check=False, capture_output=True).stdout
    return len(sound) / 2 / rate


def frame_seconds(found: Probe) -> float:
    """Return the length of a frame and of the resampler's addition."""
    samples = {"mp3": 1_152 if found.sample_rate >= 32_000 else 576, "opus": 0}
    return (samples.get(found.codec, 0) + 2) / found.sample_rate


def agrees(path: Path, file: bytes) -> bool:
    """Tell whether a verified length equals the one that FFmpeg decodes; true for None."""
    found = vouched(file)
    if found is None:
        return False
    path.write_bytes(file)
    heard = heard_seconds(path, found.sample_rate)
    assert found.seconds == pytest.approx(heard, abs=frame_seconds(found)), found
    return True


def opus(granules: Sequence[tuple[int, int]], *, skipped: int = 312, head: bytes = b"") -> bytes:
    """Return Opus whose pages have this number of packets of 60 ms and this end position."""
    head = head or b"OpusHead" + struct.pack("<BBHIhB", 1, 1, skipped, 48_000, 0, 0)
    pages = [([head], 0), ([b"OpusTags" + bytes(8)], 0)]
    pages += [([b"\x18"] * packets, granule) for packets, granule in granules]
    made = []
    for at, (packets, granule) in enumerate(pages):
        flags = 2 * (at == 0) | 4 * (at == len(pages) - 1)
        plain = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 7, at, 0, len(packets))
        plain += bytes(map(len, packets)) + b"".join(packets)
        made.append(resealed(plain, FLAGS, bytes([flags])))
    return b"".join(made)


PACKET = 2_880  # samples of 60 ms


def test_opus_may_be_cut_within_its_last_packet_only() -> None:
    whole = 50 * PACKET
    for last, holds in (
        (whole, True),
        (whole - PACKET + 1, True),
        (whole - PACKET, False),
        (whole + 1, False),
        (312 + 48_000, False),
        (-1, False),
    ):
        found = vouched(opus([(25, 25 * PACKET), (25, last)]))
        assert (found is not None) is holds, last
        assert found is None or found.seconds == (last - 312) / 48_000
    assert (
        vouched(opus([(255, at * 255 * PACKET) for at in range(1, 18)] + [(255, 96_312)])) is None
    )
    assert vouched(opus([(25, 24 * PACKET), (25, whole)])) is None


def test_opus_with_unusual_pre_skip_comments_or_packets_is_not_verified() -> None:
    whole = [(50, 50 * PACKET)]
    assert vouched(opus(whole, skipped=9_600)) is not None
    assert vouched(opus(whole, skipped=9_601)) is None
    assert vouched(opus(whole).replace(b"OpusTags", b"OpusTogs")) is None
    pages = ogg_pages(opus(whole))
    pages[1] = resealed(pages[1], BODY, b"OpusTogs")
    assert vouched(b"".join(pages)) is None
    # 63 frames of 60 ms are no packet: a decoder drops it.
    head, tags, _ = pages = ogg_pages(opus(whole))
    sound = struct.pack("<4sBBqIIIB", b"OggS", 0, 4, 63 * PACKET, 7, 2, 0, 1) + b"\2\x1b\x3f"
    assert vouched(head + tags + resealed(sound, FLAGS, b"\4")) is None


def test_vorbis_with_inexact_granule_positions_is_not_verified(make: Make) -> None:
    pages = ogg_pages(make("long.ogg", "-c:a", "libvorbis", source=NOISE).read_bytes())
    slow = [
        resealed(page, GRANULE, struct.pack("<q", int.from_bytes(page[6:14], "little") // 8))
        for page in pages
    ]
    assert vouched(b"".join(slow)) is None


class CountedBytes(bytes):
    """A file that counts its reads."""

    reads = 0

    def __getitem__(self, key: object) -> object:  # type: ignore[override]
        self.reads += 1
        return super().__getitem__(key)  # type: ignore[index]


def test_endless_tags_are_not_verified() -> None:
    tags = CountedBytes(id3(b"") * (MOST_WALKED_BYTES // 10))
    assert vouched(tags) is None
    assert tags.reads < 30  # it is read twice


@pytest.mark.parametrize("kind", ["frames", "packets"])
def test_endless_frames_are_given_up_in_time(kind: str) -> None:
    files = {
        "frames": b"\xff\xf3\x14\xc4".ljust(24, b"\0") * (MOST_WALKED_BYTES // 24),
        "packets": opus([(255, at * 255 * PACKET) for at in range(1, 12_000)]),
    }
    file = CountedBytes(files[kind])
    assert vouched(file) is None
    assert file.reads < 2 * 150_100  # it is read twice


def info(frame: bytes, *, count: int, before: int, behind: int, flags: int = 1) -> bytes:
    """Return a frame of a mono MPEG-2 MP3 with an Info header and encoder delays."""
    said = b"Info" + struct.pack(">I", flags) + struct.pack(">I", count) * (flags & 1)
    said += b"Lavf\0\0\0\0\0" + bytes(12) + (before << 12 | behind).to_bytes(3, "big")
    return frame[:4] + (bytes(9) + said).ljust(len(frame) - 4, b"\0")[: len(frame) - 4]


def hostile_mp3(bare: bytes, draw: Draw) -> bytes:
    starts = [*frames(bare), len(bare)]
    pieces = [bare[a:b] for a, b in pairwise(starts[:201])]
    first, last = sorted((draw(0, 100), draw(100, 200)))
    kept = pieces[first:last]
    part = b"".join(pieces[: draw(0, 60)])
    edits: list[Callable[[], bytes | None]] = [
        lambda: kept.insert(draw(0, len(kept)), part),
        lambda: kept.insert(draw(0, len(kept)), bytes(draw(0, 3))),
        lambda: kept.insert(
            0,
            info(
                max(pieces, key=len),
                count=max(0, len(kept) + draw(-1, 1)),
                before=draw(0, 4_095),
                behind=draw(0, 4_095),
                flags=draw(0, 1),
            ),
        ),
        lambda: kept.insert(0, id3(part, version=bytes([draw(1, 5), 0]), flags=draw(0, 255))),
        lambda: kept.append(ape(part, size=draw(0, 20_000), flags=draw(0, 1) << 31)),
        lambda: kept.append(b"TAG" + part[:125].ljust(125, b"\0")),
        lambda: kept.append(id3(part)),
    ]
    for _ in range(draw(1, 3)):
        edits[draw(0, len(edits) - 1)]()
    return b"".join(kept)


def hostile_opus(file: bytes, draw: Draw) -> bytes:
    pages = ogg_pages(file)
    del pages[2 + draw(1, len(pages) - 3) :]
    last = len(pages) - 1
    pages[last] = resealed(pages[last], FLAGS, b"\4")
    for _ in range(draw(1, 2)):
        at = draw(2, last)
        granule = max(0, int.from_bytes(pages[at][6:14], "little", signed=True))
        edits: list[tuple[int, int, bytes]] = [
            (last, GRANULE, struct.pack("<q", max(0, granule - draw(0, 4_000)))),
            (at, GRANULE, struct.pack("<q", draw(-1, granule * 2))),
            (at, FLAGS, bytes([draw(0, 7)])),
            (at, NUMBER, struct.pack("<I", draw(0, last))),
            (at, SERIAL, struct.pack("<I", draw(0, 3))),
            (0, BODY + 10, struct.pack("<H", draw(0, 65_535))),
            (1, BODY, b"Opus"),
        ]
        where, field, new = edits[draw(0, len(edits) - 1)]
        pages[where] = resealed(pages[where], field, new)
    return b"".join(pages) + file * draw(0, 1) * draw(0, 1)


def hostile_wav(sound: bytes, draw: Draw) -> bytes:
    rate = (8_000, 16_000, 44_100)[draw(0, 2)]
    channels = draw(1, 2)
    ratio = draw(1, 4) / 2
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, int(rate * channels * ratio), channels * draw(1, 2), 16
    )
    file = wav(sound[: draw(64, len(sound))], form=(form, extensible(draw(8, 24)), b"")[draw(0, 2)])
    extra = b"data" if draw(0, 1) else b"LIST"
    more = extra + struct.pack("<I", draw(0, 40)) + sound[: draw(0, 40)]
    at = (len(file), 12, 36)[draw(0, 2)]
    file = file[:at] + more * draw(0, 1) + file[at:]
    return refilled(file) if draw(0, 3) else file


CHUNKS = (
    *(b"LIST", b"data", b"fmt ", b"fact", b"bext", b"JUNK", b"cue ", b"smpl", b"iXML", b"id3 "),
    *(b"ID3 ", b"SMV0", b"XMA2", b"strt", b"ds64", b"RIFF", b"WAVE", b"INFO", b"\0\0\0\0"),
)
SKIPPED_CHUNKS = {
    *((b"LIST", size) for size in (4, 10, 602)),
    *((b"fact", size) for size in (4, 10, 602)),
    (b"bext", 602),
    *((name, size) for name in (b"JUNK", b"cue ", b"smpl", b"iXML") for size in (0, 2, 4, 10, 602)),
}


def with_chunk(file: bytes, at: int, name: bytes, size: int) -> bytes:
    """Insert an empty chunk of this size into a WAV and correct its header."""
    return refilled(file[:at] + name + struct.pack("<I", size) + bytes(size) + file[at:])


@pytest.mark.parametrize("samples", [32, 16_000])
@pytest.mark.parametrize("name", CHUNKS)
def test_an_extra_chunk_does_not_change_the_length_of_a_wav(
    tmp_path: Path, name: bytes, samples: int
) -> None:
    file = wav(Random(samples).randbytes(samples * 2))
    for at in (12, 36, len(file)):
        for size in (0, 2, 4, 10, 602):
            agreed = agrees(tmp_path / "a.wav", with_chunk(file, at, name, size))
            assert agreed is ((name, size) in SKIPPED_CHUNKS), (at, size)


def test_a_chunk_of_an_odd_size_has_its_padding(tmp_path: Path) -> None:
    file = wav(Random(1).randbytes(3_200))
    for size, holds in ((1, False), (3, False), (5, True)):
        padded = refilled(file + b"LIST" + struct.pack("<I", size) + b"INFOa\0"[: size + 1])
        assert agrees(tmp_path / "a.wav", padded) is holds


@pytest.mark.parametrize("zeros", [0, 2, 5_000])
@pytest.mark.parametrize(
    "stream",
    [
        *("-c:a libmp3lame -f mp3", "-c:a libmp3lame -f mp3 -id3v2_version 0", "-c:a mp2 -f mp2"),
        *("-c:a aac -f adts", "-c:a aac -f latm", "-c:a ac3 -f ac3", "-c:a eac3 -f eac3"),
        *("-c:a dca -strict -2 -ar 48000 -ac 2 -f dts", "-c:a ac3 -ar 48000 -f spdif"),
        *("-c:a truehd -strict -2 -ar 48000 -f truehd", "-c:a mlp -strict -2 -f mlp"),
    ],
)
def test_a_compressed_stream_labelled_as_pcm_is_not_verified(
    make: Make, stream: str, zeros: int
) -> None:
    """FFmpeg decodes the compressed stream, up to ten times as long as PCM of that size."""
    data = bytes(zeros) + make("stream", *stream.split()).read_bytes()
    assert vouched(wav(data[: len(data) // 2 * 2])) is None


KINDS = {
    "mp3": (hostile_mp3, ("no-xing.mp3", *PLAIN_MP3, "-b:a", "32k")),
    "opus": (hostile_opus, ("page-each.opus", "-c:a", "libopus", "-page_duration", "20000")),
    "large.opus": (hostile_opus, ("a.opus", "-c:a", "libopus", "-frame_duration", "60")),
    "wav": (hostile_wav, ("a.wav",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_verified_length_is_the_decoded_length(make: Make, tmp_path: Path, kind: str) -> None:
    hostile, made = KINDS[kind]
    honest = make(*made).read_bytes()
    path = tmp_path / "hostile"
    assert agrees(path, honest)
    # The files of fixed seeds are of both kinds; random ones may all be of one kind.
    agreed = [agrees(path, hostile(honest, Random(seed).randint)) for seed in range(150)]
    assert any(agreed)
    assert not all(agreed)

    @hypothesis_settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.data())
    def lied_to(data: st.DataObject) -> None:
        def draw(least: int, most: int) -> int:
            return data.draw(st.integers(least, most))

        agrees(path, hostile(honest, draw))

    lied_to()


@pytest.mark.parametrize(
    "options", ["-b:a 8k", "-b:a 160k", "-q:a 9", "-ar 8000", "-ar 44100 -compression_level 9"]
)
def test_files_with_encoder_padding_have_the_decoded_length(
    make: Make, tmp_path: Path, options: str
) -> None:
    for seconds in ("1", "1.01", "2.345", "3"):
        file = make(f"{seconds}.mp3", "-t", seconds, *options.split(), source=NOISE).read_bytes()
        assert verified_bytes(file) is not None
        assert agrees(tmp_path / "a.mp3", file)
        file = make(f"{seconds}.opus", "-t", seconds, "-c:a", "libopus", source=NOISE).read_bytes()
        assert agrees(tmp_path / "a.opus", file)
