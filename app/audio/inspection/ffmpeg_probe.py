"""Probes a file before it is decoded: container, codec, channels, rate, length.

The length comes from FFmpeg's banner on stderr, where tags are printed too and can forge whole
lines (a newline in a tag's *name* is printed as it is). Codec, rate and channels therefore come
from the framecrc muxer on stdout, which prints no tags. All figures are estimates for planning: the
header may be wrong, and the real length is measured while the audio is decoded.
"""

import asyncio
import re
from pathlib import Path

from app.audio.ffmpeg import CPU_LIMIT_EXIT, Decoders
from app.audio.formats import MAX_CHANNELS, friendly_format
from app.audio.inspection.sniff import HEAD_BYTES, picture_in, seems_to_be
from app.audio.probe import Probe, too_long
from app.errors import (
    AudioError,
    DecodeTimeout,
    EmptyAudio,
    NoAudioStream,
    Undecodable,
)

SHEET_BYTES = 16 << 10  # of the framecrc output that are read; its head has a few lines
# Copies no packet but describes the first audio track; fails when there is none.
_DESCRIBE = (
    *("-map", "0:a:0", "-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1"),
    *("-t", "0", "-f", "framecrc", "pipe:1"),
)
_INPUT = re.compile(r"^Input #0, ([a-z0-9_,]+), from 'fd:':$")
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?), ")
_SHEET = re.compile(r"^#(codec_id|sample_rate|channel_layout_name) 0: (.+)$")
_COUNTED = re.compile(r"(\d+) channels")
_SURROUND = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_LAYOUTS = {"mono": 1, "stereo": 2, "downmix": 2, "quad": 4, "hexagonal": 6, "cube": 8}
_NO_SOUND = ("matches no streams", "does not contain any stream")


async def probe_with_ffmpeg(
    path: Path, *, decoders: Decoders, max_seconds: float, deadline_seconds: float
) -> Probe:
    """Read the header of a file. Raises an AudioError that describes the fault of the file."""
    head = await asyncio.to_thread(read_head, path)
    cpu_seconds = int(deadline_seconds) + 1
    try:
        async with (
            decoders.probe_slots,
            asyncio.timeout(deadline_seconds),
            decoders.open(path, _DESCRIBE, log_level="info", cpu_seconds=cpu_seconds) as child,
        ):
            sheet = await child.beginning(SHEET_BYTES)
            code, banner = await child.finish()
    except TimeoutError:
        code = CPU_LIMIT_EXIT  # either limit means the same to the client
    if code == CPU_LIMIT_EXIT:
        raise DecodeTimeout("The inspection of the file's header took too long.")
    if code != 0:
        raise decoder_refusal(head, banner)
    found = parse_banner(banner, sheet.decode("utf-8", "replace"), head)
    if found.channels > MAX_CHANNELS:
        raise Undecodable(f"The file has {found.channels} channels, which cannot be decoded.")
    if found.seconds is not None and found.seconds > max_seconds:
        raise too_long(found.seconds, max_seconds)
    return found


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file. Raises EmptyAudio."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise EmptyAudio
    return head


def parse_banner(banner: str, sheet: str, head: bytes = b"") -> Probe:
    """Combine the figures of stderr (`banner`) and of framecrc (`sheet`). Raises Undecodable."""
    # split("\n"), for splitlines() would also break at the control characters of a tag.
    demuxer = next((m[1] for line in banner.split("\n") if (m := _INPUT.match(line))), None)
    # The first line of each kind: extradata or packets that follow cannot replace it.
    facts: dict[str, str] = {}
    for line in sheet.split("\n"):
        if match := _SHEET.match(line):
            facts.setdefault(match[1], match[2])
    # Two different durations mean that one of them is forged.
    printed = {m.groups() for line in banner.split("\n") if (m := _DURATION.match(line))}
    length = None
    if len(printed) == 1:
        hours, minutes, seconds = printed.pop()
        length = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if demuxer is None or not facts.get("sample_rate", "").isdecimal():
        raise Undecodable
    return Probe(
        format=friendly_format(demuxer, head),
        codec=facts.get("codec_id", "unknown"),
        channels=_channel_count(facts.get("channel_layout_name", "")),
        sample_rate=int(facts["sample_rate"]),
        seconds=length,
    )


def decoder_refusal(head: bytes, complaints: str) -> AudioError:
    """Return the error for a file that the decoder refused."""
    if picture := picture_in(head):
        return NoAudioStream(f"The file is {picture} and contains no audio.")
    if kind := seems_to_be(head):
        return Undecodable(f"The file is not audio. It seems to be {kind}.")
    if any(words in complaints for words in _NO_SOUND):
        return NoAudioStream()
    return Undecodable(log=complaints[-500:])


def _channel_count(layout: str) -> int:
    if match := _COUNTED.match(layout):
        return int(match[1])
    if match := _SURROUND.match(layout):
        return sum(int(number) for number in match.groups() if number)
    return _LAYOUTS.get(layout, 0)
