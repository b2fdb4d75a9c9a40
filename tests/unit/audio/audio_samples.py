"""Helpers of the audio tests: the speech sample, chunks, direct calls of ffmpeg."""

import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

import imageio_ffmpeg

MEDIA = Path(__file__).parents[2] / "media"
SPEECH = MEDIA / "en_clean_10s.wav"
SPEECH_SECONDS = 10.39

Make = Callable[..., Path]


def ffmpeg(*arguments: str) -> None:
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    command = [exe, "-nostdin", "-y", "-v", "error", *arguments]
    subprocess.run(command, check=True, capture_output=True)


async def chunked(data: bytes, sizes: Iterable[int] | int = 65536) -> AsyncIterator[bytes]:
    """Yield the data in chunks of these sizes, the last one repeated as often as needed."""
    remaining: Sequence[int] = [sizes] if isinstance(sizes, int) else list(sizes)
    at = index = 0
    while at < len(data):
        size = max(1, remaining[min(index, len(remaining) - 1)])
        yield data[at : at + size]
        at += size
        index += 1


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
