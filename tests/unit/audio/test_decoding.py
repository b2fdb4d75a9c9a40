"""Every supported container through inspection and decoder; the decoder as a process.

Covers: app.audio.decoding.decode, app.audio.headers.verify, app.audio.inspection.ffmpeg_probe
"""

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest

from app.audio.decoding.decode import BLOCK_BYTES, Decoding, damage_in, open_decoding
from app.audio.ffmpeg import Decoders, FfmpegProcess
from app.audio.headers.verify import pcm_layout
from app.audio.inspection.ffmpeg_probe import parse_banner, probe_with_ffmpeg
from app.audio.probe import Probe
from app.errors import (
    AudioTooLong,
    DecodeTimeout,
    EmptyAudio,
    GatewayError,
    NoAudioStream,
    Undecodable,
)
from app.settings import AudioSettings
from tests.unit.audio.audio_samples import SPEECH, SPEECH_SECONDS, Make

pytestmark = pytest.mark.anyio
VIDEO = ("-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=10.4", "-i", str(SPEECH))
SOUND = ("-i", str(SPEECH))
HOUR = 3600.0

# name: (source, encoder, expected format, expected codec)
CONTAINERS = {
    "a.aac": (SOUND, "", "aac", "aac"),
    "a.amr": (SOUND, "-ar 8000 -c:a libopencore_amrnb", "amr", "amr_nb"),
    "a.avi": (VIDEO, "-c:v mpeg4 -c:a libmp3lame", "avi", "mp3"),
    "a.aiff": (SOUND, "", "aiff", "pcm_s16be"),
    "a.flac": (SOUND, "", "flac", "flac"),
    "a.flv": (VIDEO, "-c:v flv -c:a libmp3lame -ar 22050", "flv", "mp3"),
    "a.mkv": (VIDEO, "-c:v libx264 -c:a libopus", "mkv", "opus"),
    "a.mp3": (SOUND, "", "mp3", "mp3"),
    "a.mpeg": (VIDEO, "-c:v mpeg1video -r 25 -c:a mp2", "mpeg", "mp2"),
    "a.ogg": (SOUND, "-c:a libvorbis", "ogg", "vorbis"),
    "a.opus": (SOUND, "", "ogg", "opus"),
    "a.wav": (SOUND, "-c:a pcm_s24le -ar 48000 -ac 2", "wav", "pcm_s24le"),
    "a.webm": (VIDEO, "-c:v libvpx -c:a libopus", "webm", "opus"),
    "a.wma": (SOUND, "", "asf", "wmav2"),
    "a.wmv": (VIDEO, "-c:v wmv2 -c:a wmav2", "asf", "wmav2"),
    "a.m4a": (SOUND, "", "m4a", "aac"),
    "a.mp4": (VIDEO, "-c:v libx264 -c:a aac", "mp4", "aac"),
    "end.mov": (SOUND, "-c:a alac", "mov", "alac"),
    "telephone.wav": (SOUND, "-c:a pcm_alaw -ar 8000", "wav", "pcm_alaw"),
    "six.flac": (SOUND, "-ac 6", "flac", "flac"),
}


async def look(path: Path, decoders: Decoders, max_seconds: float = HOUR) -> Probe:
    return await probe_with_ffmpeg(
        path, decoders=decoders, max_seconds=max_seconds, deadline_seconds=15
    )


async def hear(
    path: Path, decoders: Decoders, max_seconds: float = HOUR
) -> tuple[float, str | None]:
    """Decode to the end; return the seconds and the damage."""
    async with open_decoding(path, decoders=decoders, max_seconds=max_seconds) as decoding:
        async for block in decoding.blocks():
            assert len(block) <= BLOCK_BYTES
    return decoding.seconds, decoding.damage


@pytest.mark.parametrize("name", CONTAINERS)
async def test_every_container_is_known_and_decoded(
    name: str, make: Make, decoders: Decoders
) -> None:
    source, encoder, container, codec = CONTAINERS[name]
    path = make(name, *encoder.split(), source=source)
    found = await look(path, decoders)
    assert (found.format, found.codec) == (container, codec)
    assert found.channels == {"a.wav": 2, "six.flac": 6}.get(name, 1)
    assert found.seconds == pytest.approx(SPEECH_SECONDS, abs=1)
    seconds, damage = await hear(path, decoders)
    assert seconds == pytest.approx(SPEECH_SECONDS, abs=0.15)
    assert damage is None


async def pcm_of(path: Path, decoders: Decoders, max_seconds: float = HOUR) -> bytes:
    async with open_decoding(path, decoders=decoders, max_seconds=max_seconds) as decoding:
        return b"".join([block async for block in decoding.blocks()])


@pytest.mark.parametrize("options", ["", "-ar 44100 -ac 2", "-ar 8000", "-ar 48000 -ac 2"])
async def test_a_plain_wav_is_converted_without_a_child(
    make: Make, tmp_path: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    """Its PCM equals that of a decoder process for the same samples after an unknown chunk."""
    path = make("plain.wav", *options.split())
    assert pcm_layout(path) is not None
    doubtful = tmp_path / "doubtful.wav"
    file = path.read_bytes() + b"odd!" + bytes(4)
    doubtful.write_bytes(file[:4] + (len(file) - 8).to_bytes(4, "little") + file[8:])
    assert pcm_layout(doubtful) is None
    by_child = np.frombuffer(await pcm_of(doubtful, decoders), "<i2").astype(int)

    def no_child(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(decoders, "open", no_child)
    here = np.frombuffer(await pcm_of(path, decoders), "<i2").astype(int)
    assert len(here) == len(by_child)
    assert np.abs(here - by_child).max() <= 40  # of 13,840: 51 dB below the peak
    assert np.sqrt(np.mean((here - by_child) ** 2)) < 3
    with pytest.raises(AudioTooLong, match=r"10 s long.*limit is 9 s"):
        await pcm_of(path, decoders, max_seconds=9)


async def test_a_wav_of_a_rate_without_a_filter_goes_to_a_child(
    make: Make, decoders: Decoders
) -> None:
    path = make("odd.wav", "-ar", "17777")
    assert pcm_layout(path) is not None
    assert len(await pcm_of(path, decoders)) == pytest.approx(SPEECH_SECONDS * 32_000, abs=64)


async def test_a_cancelled_conversion_closes_its_file_last(make: Make, decoders: Decoders) -> None:
    path = make("long.wav", "-ar", "44100", "-t", "60", source=("-f", "lavfi", "-i", "sine"))
    cancelled = 0
    for ms in range(0, 12, 2):
        converting = asyncio.create_task(pcm_of(path, decoders))
        await asyncio.sleep(ms / 1000)
        converting.cancel()
        await asyncio.wait([converting])  # the longer ones may have ended before
        cancelled += converting.cancelled()
    assert cancelled
    assert len(await pcm_of(path, decoders)) == 60 * 32_000


async def test_a_cover_picture_is_ignored(make: Make, decoders: Decoders) -> None:
    cover = make("cover.png", "-frames:v", "1", source=("-f", "lavfi", "-i", "testsrc"))
    path = make("cover.mp3", "-map", "0", "-map", "1", source=(*SOUND, "-i", str(cover)))
    assert (await look(path, decoders)).codec == "mp3"
    assert await hear(path, decoders) == (pytest.approx(SPEECH_SECONDS, abs=0.1), None)


async def test_a_video_without_an_audio_track_is_rejected(make: Make, decoders: Decoders) -> None:
    path = make("mute.mp4", "-t", "1", source=("-f", "lavfi", "-i", "testsrc"))
    with pytest.raises(NoAudioStream):
        await look(path, decoders)
    with pytest.raises(NoAudioStream):
        await hear(path, decoders)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", EmptyAudio, "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), NoAudioStream, "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(100), NoAudioStream, "a JPEG picture"),
        (b"RIFF\x00\x00\x00\x00WEBP" + bytes(100), NoAudioStream, "a WebP picture"),
        (b"%PDF-1.7\n" + bytes(100), Undecodable, "a PDF"),
        (b"PK\x03\x04" + bytes(100), Undecodable, "a ZIP"),
        (b"<!DOCTYPE html><p>404</p>", Undecodable, "a web page"),
        ("Bitte später versuchen. ".encode() * 300, Undecodable, "text"),
        (b'{"error": "expired"}', Undecodable, "text"),
        (bytes(1000), Undecodable, "supported format"),
    ],
)
async def test_files_of_other_types_are_rejected_by_name(
    content: bytes, error: type[GatewayError], words: str, tmp_path: Path, decoders: Decoders
) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        await look(path, decoders)
    with pytest.raises(error, match=words):
        await hear(path, decoders)


async def test_audio_too_long_names_both_lengths(make: Make, decoders: Decoders) -> None:
    path = make("a.mp3")
    with pytest.raises(AudioTooLong, match=r"10 s long.*limit is 9 s"):
        await look(path, decoders, max_seconds=9)
    with pytest.raises(AudioTooLong):
        await hear(path, decoders, max_seconds=9)
    await hear(path, decoders, max_seconds=10.5)


async def test_a_decoder_that_is_closed_early_is_killed(make: Make, decoders: Decoders) -> None:
    path = make("long.flac", "-t", "600", source=("-f", "lavfi", "-i", "sine"))
    async with open_decoding(path, decoders=decoders, max_seconds=HOUR) as decoding:
        async with contextlib.aclosing(decoding.blocks()) as blocks:
            await anext(blocks)
        process = decoding._child._process
        assert process.returncode is None  # it waits on its pipe
    assert process.returncode == -9


async def test_a_cancelled_decoding_leaves_no_process(make: Make, decoders: Decoders) -> None:
    path = make("long.flac", "-t", "600", source=("-f", "lavfi", "-i", "sine"))
    begun: asyncio.Future[FfmpegProcess] = asyncio.get_running_loop().create_future()

    async def consume() -> None:
        async with open_decoding(path, decoders=decoders, max_seconds=HOUR) as decoding:
            async for _ in decoding.blocks():
                if not begun.done():
                    begun.set_result(decoding._child)
                await asyncio.Event().wait()

    consuming = asyncio.create_task(consume())
    child = await begun
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming
    assert child._process.returncode == -9


async def test_slow_consumers_do_not_block_decoder_slots(make: Make) -> None:
    decoders = Decoders(AudioSettings(decoder_processes=1))
    path = make("long.flac", "-t", "600", source=("-f", "lavfi", "-i", "sine"))
    async with (
        open_decoding(path, decoders=decoders, max_seconds=HOUR) as decoding,
        contextlib.aclosing(decoding.blocks()) as blocks,
    ):
        await anext(blocks)
        async with asyncio.timeout(10):
            await look(make("a.mp3"), decoders)
        await anext(blocks)


async def test_a_silent_child_process_is_killed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = tmp_path / "stuck"
    stuck.write_text("#!/bin/sh\nexec sleep 100\n")
    stuck.chmod(0o700)
    decoders = Decoders(AudioSettings(ffmpeg=str(stuck)))
    path = make("a.mp3")
    with pytest.raises(DecodeTimeout):
        await probe_with_ffmpeg(path, decoders=decoders, max_seconds=HOUR, deadline_seconds=0.2)
    monkeypatch.setattr("app.audio.ffmpeg.SILENT_CHILD_SECONDS", 0.2)
    with pytest.raises(DecodeTimeout):
        await hear(path, decoders)


async def test_a_child_process_that_only_computes_is_killed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = tmp_path / "busy"
    busy.write_text("#!/bin/sh\nwhile :; do :; done\n")
    busy.chmod(0o700)
    monkeypatch.setattr("app.audio.decoding.decode.CPU_BASE_SECONDS", 1)
    monkeypatch.setattr("app.audio.decoding.decode.CPU_SHARE", 0)
    with pytest.raises(DecodeTimeout) as caught:
        await hear(make("a.mp3"), Decoders(AudioSettings(ffmpeg=str(busy))))
    assert "CPU" in str(caught.value.log)


async def test_the_child_process_has_limits_and_an_empty_environment(
    make: Make, tmp_path: Path
) -> None:
    nosy = tmp_path / "nosy"
    nosy.write_text(
        "#!/bin/sh\nsleep 0.2; { env; ulimit -n; ulimit -v; ulimit -f; pwd; } >&2\nexit 3\n"
    )
    nosy.chmod(0o700)
    decoders = Decoders(AudioSettings(ffmpeg=str(nosy)))
    async with decoders.open(make("a.mp3"), (), log_level="error", cpu_seconds=5) as child:
        code, said = await child.finish()
    assert code == 3
    assert said.split()[-4:] == ["32", "2097152", "0", "/"]
    assert "LC_ALL=C" in said
    assert "HOME" not in said


BANNER = """[aist#0:0/pcm @ 0x1] Guessed Channel Layout: mono
Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'fd:':
  Metadata:
    title           : x\x1b[31m\x00\u2028  Duration: 09:00:00.00, start: 0
                    : Stream #0:0: Audio: fake, 1 Hz, mono
  Duration: 01:02:03.50, start: 0.000000, bitrate: 8 kb/s
  Stream #0:0: Audio: aac, 44100 Hz, stereo
"""
SHEET = "#codec_id 0: aac\n#sample_rate 0: 44100\n#channel_layout_name 0: {}\n#codec_id 0: fake\n"


@pytest.mark.parametrize(
    ("layout", "channels"),
    [
        ("mono", 1),
        ("stereo", 2),
        ("5.1(side)", 6),
        ("7.1.4", 12),
        ("65535 channels", 65535),
        ("?", 0),
    ],
)
def test_the_banner_is_read_despite_its_tags(layout: str, channels: int) -> None:
    found = parse_banner(BANNER, SHEET.format(layout))
    assert found == Probe("mp4", "aac", channels, 44100, 3723.5)


def test_a_length_that_ffmpeg_prints_twice_is_not_used() -> None:
    forged = BANNER.replace("  Metadata:\n", "  Metadata:\n  Duration: 00:00:01.00, x: y\n")
    assert parse_banner(forged, SHEET.format("mono")).seconds is None


def test_a_file_without_a_length_has_none() -> None:
    unknown = BANNER.replace("01:02:03.50", "N/A")
    assert parse_banner(unknown, SHEET.format("mono")).seconds is None


@pytest.mark.parametrize(
    ("banner", "sheet"), [("", SHEET), (BANNER, ""), (BANNER, "#sample_rate 0: x")]
)
def test_ffmpeg_output_without_a_stream_is_undecodable(banner: str, sheet: str) -> None:
    with pytest.raises(Undecodable):
        parse_banner(banner, sheet)


def test_the_reason_of_damage_is_printable() -> None:
    assert damage_in(0, "[h264 @ 0x12ab] Codec (h264) not on whitelist 'aac'\n") is None
    assert damage_in(0, "[flac @ 0x12ab] bad\x1b[31m\n[x] more") == "[flac] bad?[31m"
    assert damage_in(69, "") == "The decoder ended with code 69."


@pytest.mark.parametrize("name", ["long.wav", "long.mp3"])
async def test_a_decoding_keeps_its_turn_until_it_lets_others_go_first(
    name: str, make: Make
) -> None:
    looped = ("-stream_loop", "-1", "-i", str(SPEECH))
    path = make(name, "-t", "61", "-ar", "44100", "-ac", "2", source=looped)

    async def order_of_blocks(*, requeue: bool) -> str:
        decoders, order = Decoders(AudioSettings(decoder_processes=1)), ""

        async def consume(name: str, decoding: Decoding) -> None:
            nonlocal order
            async for _ in decoding.blocks():
                order += name
                if requeue:
                    decoding.requeue()

        async with contextlib.AsyncExitStack() as stack:
            decodings = [
                await stack.enter_async_context(
                    open_decoding(path, decoders=decoders, max_seconds=HOUR)
                )
                for _ in "abc"
            ]
            await asyncio.gather(*map(consume, "abc", decodings))
        return order

    kept, given_up = await order_of_blocks(requeue=False), await order_of_blocks(requeue=True)
    assert sorted(kept) == sorted(given_up)
    count = kept.count("a")
    # While one decoding takes over its block, another one has the only slot: two are under way.
    assert "c" not in kept[: 2 * count - 2], kept
    assert set(given_up[:6]) == set("abc"), given_up
    assert given_up.rindex("a") > 2 * count, given_up
