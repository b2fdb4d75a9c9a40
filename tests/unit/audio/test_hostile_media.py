"""Malicious files: each is decoded or rejected within a time limit, and none reads another file.

Covers: app.audio.decoding.decode, app.audio.ffmpeg, app.audio.formats,
app.audio.inspection.ffmpeg_probe, app.audio.inspection.sniff
"""

import random
import struct
import time
import zlib
from pathlib import Path

import pytest

from app.audio.decoding.decode import open_decoding
from app.audio.ffmpeg import Decoders
from app.audio.inspection.ffmpeg_probe import probe_with_ffmpeg
from app.errors import AudioError, AudioTooLong, GatewayError, Undecodable
from tests.unit.audio.audio_samples import SPEECH, SPEECH_SECONDS, Make, ffmpeg

pytestmark = pytest.mark.anyio
HOUR = 3600.0
MUTATIONS = 25  # of each kind of file


async def outcome(path: Path, decoders: Decoders, max_seconds: float = HOUR) -> float | AudioError:
    """Return the decoded seconds, or the error."""
    try:
        await probe_with_ffmpeg(
            path, decoders=decoders, max_seconds=max_seconds, deadline_seconds=15
        )
        return await decode_all(path, decoders, max_seconds)
    except AudioError as error:
        return error


async def decode_all(path: Path, decoders: Decoders, max_seconds: float) -> float:
    async with open_decoding(path, decoders=decoders, max_seconds=max_seconds) as decoding:
        async for _ in decoding.blocks():
            assert decoding.seconds <= max_seconds
    return decoding.seconds


def playlists(canary: Path) -> dict[str, str]:
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S" profiles="urn:mpeg:dash:profile:isoff-main:2011">'
        '<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{canary}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    return {
        "absolute.m3u8": hls.format(f"file://{canary}"),
        "absolute.mp3": hls.format(f"file://{canary}"),
        "sibling.m3u8": hls.format(canary.name),
        "fd.m3u8": hls.format("fd:0"),
        "concat.mp3": f"ffconcat version 1.0\nfile {canary}\n",
        "sibling.mp3": f"ffconcat version 1.0\nfile {canary.name}\n",
        "dash.mp4": dash,
        "session.mp3": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=audio 18998 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n",
        "asx.wma": f'<asx version="3.0"><entry><ref href="file://{canary}"/></entry></asx>',
        "list.mp3": f"{canary}\n",
    }


@pytest.mark.parametrize("name", playlists(Path("/x/canary.mp3")))
async def test_no_playlist_reads_another_file(
    name: str, tmp_path: Path, decoders: Decoders
) -> None:
    canary = tmp_path / "canary.mp3"
    ffmpeg("-i", str(SPEECH), str(canary))
    path = tmp_path / name
    path.write_text(playlists(canary)[name])
    with pytest.raises(Undecodable):
        await probe_with_ffmpeg(path, decoders=decoders, max_seconds=HOUR, deadline_seconds=15)
    with pytest.raises(Undecodable):
        await decode_all(path, decoders, HOUR)


def slow_wav(rate: int) -> bytes:
    data = bytes(100_000)
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    body = (
        b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data))
    )
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


async def test_a_recording_of_one_sample_a_second(tmp_path: Path, decoders: Decoders) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(slow_wav(1))
    with pytest.raises(AudioTooLong):
        await probe_with_ffmpeg(path, decoders=decoders, max_seconds=HOUR, deadline_seconds=15)


async def test_a_small_file_of_many_hours(make: Make, decoders: Decoders) -> None:
    source = ("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono")
    path = make("bomb.flac", "-t", "10800", "-frame_size", "65535", source=source)
    assert path.stat().st_size < 100_000
    began = time.monotonic()
    with pytest.raises(AudioTooLong):
        await probe_with_ffmpeg(path, decoders=decoders, max_seconds=HOUR, deadline_seconds=15)
    assert time.monotonic() - began < 2
    # The header does not say it: only decoding finds out, and stops there.
    with pytest.raises(AudioTooLong):
        await decode_all(path, decoders, 60)


@pytest.mark.parametrize(
    ("rate", "channels"), [(16000, 65535), (4_000_000_000, 1), (0, 1), (16000, 0)]
)
async def test_absurd_headers(rate: int, channels: int, tmp_path: Path, decoders: Decoders) -> None:
    wav = bytearray(slow_wav(1))
    wav[22:28] = struct.pack("<HI", channels, rate)
    path = tmp_path / "absurd"
    path.write_bytes(wav)
    assert isinstance(await outcome(path, decoders), Undecodable | AudioTooLong)


@pytest.mark.parametrize("extension", ["ogg", "flac", "mkv", "m4a", "mp3"])
async def test_tags_that_imitate_ffmpegs_output_are_ignored(
    extension: str, tmp_path: Path, decoders: Decoders
) -> None:
    tags = tmp_path / "tags.txt"
    tags.write_text(
        ";FFMETADATA1\nA\\\n  Stream #0:0: Audio: forged, 1 Hz, 9 channels\\\n=v\n"
        "B\\\n  Duration: 99:00:00.00, start\\\n=v\n"
    )
    path = tmp_path / f"forged.{extension}"
    copied = ("-map", "0:a", "-map_metadata", "1", "-map_metadata:s:a", "1")
    flags = ("-movflags", "use_metadata_tags") if extension == "m4a" else ()
    ffmpeg("-i", str(SPEECH), "-i", str(tags), *copied, *flags, str(path))
    found = await probe_with_ffmpeg(path, decoders=decoders, max_seconds=HOUR, deadline_seconds=15)
    assert (found.channels, found.sample_rate) == (1, 16000)
    assert found.codec in {"vorbis", "flac", "aac", "mp3"}
    assert found.seconds is None or found.seconds == pytest.approx(SPEECH_SECONDS, abs=0.1)


def with_tag(mp3: bytes, text: bytes) -> bytes:
    """Put an ID3v2.3 title in front of an MP3."""
    frame = b"TIT2" + struct.pack(">IH", len(text) + 1, 0) + b"\x03" + text
    size = len(frame)
    synchsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + synchsafe + frame + mp3


async def test_a_hostile_title_of_a_megabyte(
    make: Make, tmp_path: Path, decoders: Decoders
) -> None:
    line = b"\xff\xfe%s%n\x1b[31m\r\n  Duration: 00:00:01.00, start: 0\r\x85<script>"
    path = tmp_path / "titled.mp3"
    path.write_bytes(with_tag(make("a.mp3").read_bytes(), line * 20_000))
    found = await probe_with_ffmpeg(path, decoders=decoders, max_seconds=HOUR, deadline_seconds=15)
    assert (found.format, found.codec, found.channels) == ("mp3", "mp3", 1)
    assert await outcome(path, decoders) == pytest.approx(SPEECH_SECONDS, abs=0.1)


SEEDS = ("a.mp3", "a.m4a", "a.flac", "a.ogg", "a.opus", "a.wav")


@pytest.mark.parametrize("name", SEEDS)
async def test_a_file_cut_anywhere_is_decoded_or_rejected(
    name: str, make: Make, tmp_path: Path, decoders: Decoders
) -> None:
    whole = make(name).read_bytes()
    path = tmp_path / "cut"
    for part in range(20):
        path.write_bytes(whole[: len(whole) * part // 20])
        result = await outcome(path, decoders)
        assert isinstance(result, GatewayError) or result <= SPEECH_SECONDS + 0.2


@pytest.mark.parametrize("name", SEEDS)
async def test_mutated_files_are_decoded_or_rejected(
    name: str, make: Make, tmp_path: Path, decoders: Decoders
) -> None:
    whole = make(name).read_bytes()
    seed = zlib.crc32(name.encode()) ^ int(time.time())
    print(f"mutation seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    path = tmp_path / "mutant"
    for _ in range(MUTATIONS):
        mutant = bytearray(whole)
        for _ in range(chance.randrange(1, 20)):
            reach = chance.choice((64, 512, 4096, len(mutant)))
            mutant[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        path.write_bytes(mutant)
        result = await outcome(path, decoders)
        assert isinstance(result, GatewayError) or result <= HOUR
