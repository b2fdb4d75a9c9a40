"""Checks of this machine by `asr-gateway doctor`: disk, folders, decoder."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from app.audio.ffmpeg import Decoders
from app.audio.inspection.ffmpeg_probe import probe_with_ffmpeg
from app.cli.demo import SAMPLE
from app.cli.doctor.check import CheckResult, failed, ok, warn
from app.errors import GatewayError
from app.settings import Settings

SCARCE_FACTOR = 2  # times the minimum


async def check_store(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check that the folder of the recordings is writable, and that its disk has enough space."""
    folder = settings.data_dir / "audio"
    yield await asyncio.to_thread(_check_writable, folder)
    minimum = settings.audio.min_free_bytes
    free = (await asyncio.to_thread(shutil.disk_usage, existing_folder(folder))).free
    found = f"{free >> 20:,} MiB free, uploads are refused below {minimum >> 20:,} MiB"
    remedy = "Free some space, move GATEWAY_DATA_DIR, or lower GATEWAY_AUDIO__MIN_FREE_BYTES."
    if free < minimum:
        yield failed("disk", found, remedy)
    elif free < SCARCE_FACTOR * minimum:
        yield warn("disk", found, remedy)
    else:
        yield ok("disk", found)


async def check_decoder(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check that ffmpeg exists and reads a recording."""
    program = settings.audio.ffmpeg or "the packaged ffmpeg"
    remedy = "Reinstall imageio-ffmpeg, or set GATEWAY_AUDIO__FFMPEG to one with the fd: protocol."
    try:
        found = await probe_with_ffmpeg(
            SAMPLE,
            decoders=Decoders(settings.audio),
            max_seconds=settings.audio.max_seconds,
            deadline_seconds=min(settings.audio.probe_timeout_seconds, 10.0),
        )
    except FileNotFoundError:
        yield failed("decoder", f"{program} is not there", remedy)
    except (PermissionError, RuntimeError) as error:
        yield failed("decoder", f"{program} cannot be run ({type(error).__name__})", remedy)
    except (GatewayError, OSError) as error:
        yield failed("decoder", f"{program} does not read a good recording: {error}", remedy)
    else:
        yield ok("decoder", f"{program} reads {found.format}")


def existing_folder(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent: a check creates no folder."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def _check_writable(folder: Path) -> CheckResult:
    place = existing_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=place, prefix="doctor-") as trial:
            trial.write(b"ready")
    except OSError as error:
        found = f"{place} cannot be written to ({error.strerror})"
        remedy = f"Make it writable for user {os.getuid()}, or set GATEWAY_DATA_DIR."
        return failed("store", found, remedy)
    return ok("store", f"{place} is writable")
