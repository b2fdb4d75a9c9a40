"""Inspects audio files: by their header alone where it can be verified, else by FFmpeg.

To start a child costs sixty times as much as all other work for a short file.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from app.audio.ffmpeg import Decoders
from app.audio.headers.errors import CutShortError
from app.audio.headers.verify import verified, verified_bytes
from app.audio.inspection.ffmpeg_probe import probe_with_ffmpeg
from app.audio.inspection.raw import raw_found
from app.audio.inspection.sniff import HEAD_BYTES, container_in
from app.audio.probe import Probe, too_long
from app.audio.storage.blob_store import BlobStore, StoredBlob
from app.errors import InvalidParameter
from app.settings import AudioSettings


async def inspect(
    path: Path,
    *,
    decoders: Decoders,
    settings: AudioSettings,
    raw_rate: int | None = None,
) -> Probe:
    """Inspect an audio file.

    With `raw_rate` the file holds raw samples of that rate. Raises InvalidParameter, and an
    AudioError that describes the fault of the file.
    """
    if raw_rate is not None:
        size, container = await asyncio.to_thread(_size_and_container, path)
        if container is not None:
            raise InvalidParameter(
                f"The file looks like {container}; leave out `format` (or the media type of PCM).",
                parameter="format",
            )
        return _within(raw_found(size, raw_rate), settings)
    try:
        if (whole := await asyncio.to_thread(verified, path)) is not None:
            return _within(whole, settings)
        is_cut_short = False
    except CutShortError:
        is_cut_short = True
    found = await probe_with_ffmpeg(
        path,
        decoders=decoders,
        max_seconds=settings.max_seconds,
        deadline_seconds=settings.probe_timeout_seconds,
    )
    return replace(found, cut_short=is_cut_short)


def _size_and_container(path: Path) -> tuple[int, str | None]:
    """Return the bytes of a file that is said to be PCM, and its container if it has one."""
    with path.open("rb") as file:
        container = container_in(file.read(HEAD_BYTES))
    if container is None:
        with suppress(CutShortError):  # by chance, samples may look like one frame of MP3
            whole = verified(path)
            container = None if whole is None else whole.format.upper()
    return path.stat().st_size, container


class Inspector:
    """Inspects stored audio with the given decoders and limits."""

    def __init__(self, store: BlobStore, decoders: Decoders, settings: AudioSettings) -> None:
        self._store = store
        self._decoders = decoders
        self._settings = settings

    async def inspect(self, blob: StoredBlob, raw_rate: int | None) -> Probe:
        """Inspect stored audio; see `inspect`. Raises AudioError."""
        if blob.data is not None and raw_rate is None:
            # Reading the header of a small file in memory takes less than changing threads.
            with suppress(CutShortError):  # which is found again below
                if (whole := verified_bytes(blob.data)) is not None:
                    return _within(whole, self._settings)
        async with self._store.local_copy(blob.key) as path:
            return await inspect(
                path, decoders=self._decoders, settings=self._settings, raw_rate=raw_rate
            )


def _within(found: Probe, settings: AudioSettings) -> Probe:
    if found.seconds is not None and found.seconds > settings.max_seconds:
        raise too_long(found.seconds, settings.max_seconds)
    return found
