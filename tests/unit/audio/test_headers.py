"""A file that header readers verify has the length that a decoder finds; others are not verified.

Covers: app.audio.headers.errors, app.audio.headers.mp3, app.audio.headers.ogg,
app.audio.headers.verify, app.audio.inspection.ffmpeg_probe, app.audio.inspection.inspect,
app.audio.probe
"""

import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import imageio_ffmpeg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.audio.ffmpeg import Decoders
from app.audio.headers.errors import CutShortError
from app.audio.headers.ogg import _page_checksum
from app.audio.headers.verify import MOST_WALKED_BYTES, verified, verified_bytes
from app.audio.inspection.ffmpeg_probe import probe_with_ffmpeg
from app.audio.inspection.inspect import inspect
from app.audio.probe import Probe
from app.errors import AudioTooLong, EmptyAudio
from app.settings import AudioSettings
from tests.unit.audio.audio_samples import SPEECH, SPEECH_SECONDS, Make

pytestmark = pytest.mark.anyio

LONGEST_HEADER = 200  # of a file below: within it a cut may leave nothing to tell it by
OPUS, VORBIS = "-c:a libopus", "-c:a libvorbis"
WHOLE = {
    **{
        f"{rate}-{n}.mp3": f"-ar {rate} -ac {n} -b:a 32k"
        for n in (1, 2)
        for rate in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    },
    "vbr.mp3": "-q:a 3",
    "vbr-44.mp3": "-q:a 0 -ar 44100",
    "no-xing.mp3": "-write_xing 0",
    "vbr-no-xing.mp3": "-q:a 5 -write_xing 0",
    "no-tags.mp3": "-id3v2_version 0",
    "id3v1.mp3": "-id3v2_version 0 -write_id3v1 1 -metadata title=x",
    "both-tags.mp3": "-id3v2_version 4 -write_id3v1 1 -metadata title=x",
    "joint.mp3": "-ac 2 -joint_stereo 1",
    "dual.mp3": "-ac 2 -joint_stereo 0",
    "320.mp3": "-ar 48000 -b:a 320k",
    "a.opus": OPUS,
    "stereo.opus": f"{OPUS} -ac 2",
    "narrow.ogg": f"{OPUS} -ar 8000 -b:a 8k",
    "60ms.opus": f"{OPUS} -frame_duration 60",
    "2.5ms.opus": f"{OPUS} -frame_duration 2.5 -application lowdelay",
    "page-each.opus": f"{OPUS} -page_duration 20000",
    "a.wav": "",
    "list.wav": "-metadata title=listed -metadata artist=somebody",
    "bare.wav": "-fflags +bitexact -map_metadata -1",
    "stereo-44.wav": "-ac 2 -ar 44100",
    "48.wav": "-ar 48000",
}
LEFT = {
    "24.wav": "-c:a pcm_s24le",
    "float.wav": "-c:a pcm_f32le",
    "alaw.wav": "-c:a pcm_alaw",
    "six.wav": "-ac 6",
    "vorbis.ogg": VORBIS,
    "flac.ogg": "-c:a flac",
    "six.opus": f"{OPUS} -ac 6 -mapping_family 1",
    "mp2.mp3": "-c:a mp2 -f mp2",
    "a.flac": "",
    "a.m4a": "",
    "a.webm": OPUS,
}


ALL = {**WHOLE, "vorbis.ogg": VORBIS}


def is_cut_short(file: bytes) -> bool:
    """Tell whether the file's figures say that its end is missing."""
    try:
        verified_bytes(file)
    except CutShortError:
        return True
    return False


def vouched(file: bytes) -> Probe | None:
    """Return the verified file, or None."""
    return None if is_cut_short(file) else verified_bytes(file)


def decoded_samples(path: Path) -> int:
    """Count the samples of one channel that FFmpeg decodes, at the file's own rate."""
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    command = [exe, "-v", "error", "-i", str(path), "-ac", "1", "-f", "s16le", "-"]
    return len(subprocess.run(command, check=True, capture_output=True).stdout) // 2


@pytest.mark.parametrize("name", WHOLE)
async def test_a_verified_file_has_the_decoders_length_to_the_sample(
    make: Make, decoders: Decoders, name: str
) -> None:
    path = make(name, *WHOLE[name].split())
    found = verified(path)
    probed = await probe_with_ffmpeg(path, decoders=decoders, max_seconds=60, deadline_seconds=10)
    assert found is not None
    assert found.exact
    assert not probed.exact
    for fact in ("format", "codec", "channels", "sample_rate"):
        assert getattr(found, fact) == getattr(probed, fact)
    assert found.seconds is not None
    assert round(found.seconds * found.sample_rate) == decoded_samples(path)


@pytest.mark.parametrize("name", LEFT)
def test_other_formats_are_not_verified(make: Make, name: str) -> None:
    assert verified(make(name, *LEFT[name].split())) is None


@pytest.mark.parametrize(
    "name", ["vbr.mp3", "16000-1.mp3", "a.opus", "vorbis.ogg", "a.wav", "list.wav"]
)
def test_a_truncated_file_is_not_verified(make: Make, name: str) -> None:
    whole = make(name, *ALL[name].split()).read_bytes()
    random = Random(name)
    cuts = [0, 1, 4, 12, 44, len(whole) - 1, *random.sample(range(45, len(whole)), 40)]
    borders = list(frames(whole))[1:-1] if name.endswith(".mp3") else []
    for cut in [*cuts, *random.sample(borders, min(20, len(borders)))]:
        assert vouched(whole[:cut]) is None, cut
        assert is_cut_short(whole[:cut]) or cut < LONGEST_HEADER, cut


def test_without_a_count_a_cut_between_frames_is_a_shorter_file(make: Make) -> None:
    whole = make("no-xing.mp3", "-write_xing", "0").read_bytes()
    borders = list(frames(whole))
    for border in borders[10::40]:
        found = vouched(whole[:border])
        assert found is not None
        assert found.seconds == pytest.approx(borders.index(border) * 576 / 16_000)
        assert is_cut_short(whole[: border - 1])


def frames(mp3: bytes) -> Iterator[int]:
    """Yield the offsets of the frames of a 16 kHz MP3, found by their sync word."""
    at = 10 + sum(mp3[6 + i] << (21 - 7 * i) for i in range(4)) if mp3[:3] == b"ID3" else 0
    bitrates = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    while mp3[at : at + 1] == b"\xff":
        yield at
        at += 72_000 * bitrates[mp3[at + 2] >> 4] // 16_000 + (mp3[at + 2] >> 1 & 1)


def test_a_frame_taken_out_or_put_in_is_noticed(make: Make) -> None:
    whole = make("16000-1.mp3", *WHOLE["16000-1.mp3"].split()).read_bytes()
    starts = list(frames(whole))
    out = whole[: starts[100]] + whole[starts[101] :]
    twice = whole[: starts[101]] + whole[starts[100] :]
    junk = whole[: starts[100]] + b"junk" + whole[starts[100] :]
    other = make("44100-1.mp3", *WHOLE["44100-1.mp3"].split()).read_bytes()
    assert [vouched(b) for b in (out, twice, junk, whole + b"\0", whole + other)] == [None] * 5


def id3(body: bytes, *, version: bytes = b"\4\0", flags: int = 0) -> bytes:
    """Return an ID3v2 tag around the body."""
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + version + bytes([flags]) + size + body


def ape(items: bytes, *, size: int | None = None, flags: int = 0) -> bytes:
    """Return an APE tag without a header. Its footer may have a wrong `size`."""
    said = len(items) + 32 if size is None else size
    return items + struct.pack("<8sIIII8x", b"APETAGEX", 2_000, said, 1, flags)


def test_unambiguous_tags_do_not_count_as_audio(make: Make) -> None:
    bare = make("no-tags.mp3", "-id3v2_version", "0").read_bytes()
    plain = vouched(bare)
    assert plain is not None
    picture = id3(bytes(16_384 + 5))
    id3v1 = b"TAG" + bytes(124) + b"\xff"
    assert vouched(picture + bare + id3v1) == plain
    assert vouched(picture * 4 + bare) == plain
    assert vouched(picture * 5 + bare) is None
    assert vouched(picture[:100] + bare) is None


def test_tags_that_could_hide_audio_are_not_verified(make: Make) -> None:
    bare = make("no-xing.mp3", "-write_xing", "0", "-id3v2_version", "0").read_bytes()
    starts = list(frames(bare))
    front, rest = bare[: starts[20]], bare[starts[20] :]
    assert vouched(front) is not None
    for file in (
        ape(bare, size=32 + len(rest)),  # it lays claim to most of the frames
        ape(front + rest, size=32 + len(rest)) + b"TAG" + bytes(125),
        ape(b"") + front,
        front + ape(b""),
        front + ape(b"", flags=1 << 31),
        front + b"APETAGEX" + b"\xff" * 24,
        id3(rest, version=b"\xff\0") + front,
        id3(rest, version=b"\4\xff") + front,
        id3(rest, flags=0x10) + b"3DI" + bytes(7) + front,
        front + b"TAG" + rest[:125],
        front + id3(rest),
    ):
        assert vouched(file) is None


def wav(
    data: bytes, *, size: int | None = None, riff: int | None = None, form: bytes = b""
) -> bytes:
    plain = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    said = len(data) if size is None else size
    body = b"fmt " + struct.pack("<I", len(form or plain)) + (form or plain)
    body += b"data" + struct.pack("<I", said) + data
    return b"RIFF" + struct.pack("<I", 4 + len(body) if riff is None else riff) + b"WAVE" + body


def refilled(file: bytes) -> bytes:
    """Correct the lengths in the header of a WAV."""
    return file[:4] + struct.pack("<I", len(file) - 8) + file[8:]


def extensible(valid_bits: int = 16, kind: int = 1) -> bytes:
    guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
    return struct.pack("<HHIIHHHHI", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, valid_bits, 4) + guid


def test_valid_wav_headers_are_verified() -> None:
    sound = bytes(64_000)
    padded = refilled(wav(sound) + b"LIST\5\0\0\0INFOa\0")
    for file in (wav(sound), wav(sound, form=extensible()), padded):
        found = vouched(file)
        assert found is not None
        assert (found.seconds, found.codec, found.channels) == (2.0, "pcm_s16le", 1)


@pytest.mark.parametrize(
    "file",
    [
        wav(bytes(64_000), size=0),
        wav(bytes(64_000), size=0xFFFFFFFF),
        wav(bytes(64_000), size=0xFFFFFFFF, riff=0xFFFFFFFF),
        wav(bytes(64_000), size=64_002),
        wav(bytes(64_000), size=63_998),
        wav(bytes(64_000), riff=0),
        wav(bytes(64_001)),
        wav(b""),
        wav(bytes(64_000)) + b"more",
        wav(bytes(64_000), form=extensible(valid_bits=12)),
        wav(bytes(64_000), form=extensible(kind=3)),
        wav(bytes(64_000), form=struct.pack("<HHIIHH", 1, 0, 16_000, 0, 0, 16)),
        wav(bytes(64_000), form=struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16)),
        wav(bytes(64_000), form=struct.pack("<HHIIHH", 1, 1, 1, 2, 2, 16)),
        wav(bytes(64_000), form=struct.pack("<HHIIHH", 1, 1, 4_000_000_000, 0, 2, 16)),
        wav(bytes(64_000), form=struct.pack("<HHIIHH", 1, 1, 16_000, 1_000, 2, 16)),
        wav(bytes(64_000), form=struct.pack("<HHIIH", 1, 1, 16_000, 32_000, 2)),
        wav(bytes(64_000), form=extensible()[:16] + b"\0\0" + extensible()[18:]),
        refilled(wav(bytes(64_000)) + b"data\2\0\0\0\0\0"),
        refilled(wav(bytes(64_000)) + b"LIST\5\0\0\0INFOadata!\0\0\0\0"),
        wav(bytes(64_000), form=struct.pack("<HHIIHH", 17, 1, 16_000, 8_000, 2, 16)),
        b"RIFF" + struct.pack("<I", 4 + 8 * 9_999) + b"WAVE" + b"junk\0\0\0\0" * 9_999,
        b"RF64" + wav(bytes(64_000))[4:],
        b"RIFF",
        b"",
    ],
)
def test_invalid_wav_headers_are_not_verified(file: bytes) -> None:
    assert vouched(file) is None


def ogg_pages(file: bytes) -> list[bytes]:
    """Cut an Ogg file into its pages."""
    pages, at = [], 0
    while at < len(file):
        count = file[at + 26]
        end = at + 27 + count + sum(file[at + 27 : at + 27 + count])
        pages.append(file[at:end])
        at = end
    return pages


def resealed(page: bytes, at: int, field: bytes) -> bytes:
    """Change a page and correct its checksum."""
    changed = bytearray(page)
    changed[at : at + len(field)] = field
    changed[22:26] = struct.pack("<I", _page_checksum(bytes(changed)))
    return bytes(changed)


@pytest.mark.parametrize("name", ["page-each.opus", "a.opus"])
def test_a_changed_lost_repeated_or_exchanged_page_is_not_verified(make: Make, name: str) -> None:
    whole = make(name, *WHOLE[name].split()).read_bytes()
    pages = ogg_pages(whole)
    assert vouched(b"".join(pages)) is not None
    for at in range(len(pages)):
        assert vouched(b"".join([*pages[:at], *pages[at + 1 :]])) is None
        assert vouched(b"".join([*pages[: at + 1], *pages[at:]])) is None
        flipped = bytearray(pages[at])
        flipped[-1] ^= 1
        assert vouched(b"".join([*pages[:at], flipped, *pages[at + 1 :]])) is None
    last, flags, granule, number = pages[-1], 5, 6, 18
    for odd in (
        resealed(last, flags, b"\0"),
        resealed(last, granule, struct.pack("<q", 1 << 40)),
        resealed(last, number, struct.pack("<I", 9_999)),
    ):
        assert vouched(b"".join([*pages[:-1], odd])) is None
    assert vouched(whole + whole) is None


def test_a_hole_in_opus_that_its_pages_do_not_show_is_noticed(make: Make) -> None:
    pages = ogg_pages(make("page-each.opus", *WHOLE["page-each.opus"].split()).read_bytes())
    del pages[100]
    renumbered = [resealed(page, 18, struct.pack("<I", at)) for at, page in enumerate(pages)]
    assert vouched(b"".join(renumbered)) is None


@hypothesis_settings(deadline=None)
@given(page=st.binary(min_size=27, max_size=300))
def test_the_checksum_is_the_one_of_ogg(page: bytes) -> None:
    blank = page[:22] + bytes(4) + page[26:]
    by_the_book = 0
    for byte in blank:
        by_the_book ^= byte << 24
        for _ in range(8):
            by_the_book = by_the_book << 1 ^ (0x104C11DB7 if by_the_book >> 31 else 0)
    assert _page_checksum(page) == by_the_book


@hypothesis_settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(["vbr.mp3", "a.opus", "a.wav", "both-tags.mp3"]))
def test_no_damage_raises_or_hangs(make: Make, data: st.DataObject, name: str) -> None:
    damaged = bytearray(make(name, *WHOLE[name].split()).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        # Headers are at the front: half of the damage goes there.
        at = data.draw(st.integers(0, 300) | st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    found = vouched(bytes(damaged))
    assert found is None or (found.seconds or 0) < SPEECH_SECONDS * 50


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=500), st.sampled_from([b"", b"ID3\3\0\0", b"OggS", b"RIFF", b"\xff\xf3"]))
def test_random_bytes_are_not_verified(noise: bytes, start: bytes) -> None:
    found = vouched(start + noise)
    assert found is None or found.seconds is not None


@pytest.mark.parametrize(
    "unit",
    [b"\xff\xf3\x14\xc4" + bytes(20), b"OggS" + bytes(23), b"ID3\4\0\0\0\0\0\0"],
    ids=["smallest-frames", "empty-pages", "tags"],
)
def test_files_made_to_be_slow_are_given_up_in_time(tmp_path: Path, unit: bytes) -> None:
    path = tmp_path / "slow"
    path.write_bytes(unit * (MOST_WALKED_BYTES // len(unit)))
    began = time.thread_time()
    with suppress(CutShortError):
        verified(path)
    assert time.thread_time() - began < 5
    path.write_bytes(unit * (MOST_WALKED_BYTES // len(unit) + 1))
    assert verified(path) is None


async def test_the_inspection_of_a_verified_file_starts_no_process(
    make: Make, settings: AudioSettings, decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_child(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(decoders, "open", no_child)
    found = await inspect(make("vbr.mp3", "-q:a", "3"), decoders=decoders, settings=settings)
    assert (found.format, found.exact) == ("mp3", True)


async def test_the_inspection_of_other_files_uses_the_probe_and_its_limits(
    make: Make, tmp_path: Path, settings: AudioSettings, decoders: Decoders
) -> None:
    found = await inspect(make("a.flac"), decoders=decoders, settings=settings)
    assert (found.format, found.exact) == ("flac", False)
    short = settings.model_copy(update={"max_seconds": 5})
    for path in (SPEECH, make("a.flac")):
        with pytest.raises(AudioTooLong):
            await inspect(path, decoders=decoders, settings=short)
    (tmp_path / "empty").touch()
    with pytest.raises(EmptyAudio):
        await inspect(tmp_path / "empty", decoders=decoders, settings=settings)


def test_the_checksum_differs_from_zlibs() -> None:
    assert _page_checksum(bytes(22) + b"\1\2\3\4" + b"abc") != zlib.crc32(bytes(26) + b"abc")
