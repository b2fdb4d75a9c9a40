"""Checks of this machine by `asr-gateway doctor`: disk, folders, decoder."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from app.audio.ffmpeg import Decoders
from app.audio.inspection.ffmpeg_probe import probe
from app.cli.demo import SAMPLE
from app.cli.doctor.check import CheckResult, ok, problem, warning
from app.errors import GatewayError
from app.settings import Settings

SCARCE = 2  # times the floor


async def store(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield whether recordings can be written where they are kept, and whether there is room."""
    folder = settings.data_dir / "audio"
    yield await asyncio.to_thread(_writable, folder)
    yield await asyncio.to_thread(_room, folder, settings.audio.min_free_bytes)


async def decoder(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield whether ffmpeg is there and reads a recording."""
    program = settings.audio.ffmpeg or "the packaged ffmpeg"
    remedy = "Reinstall imageio-ffmpeg, or set GATEWAY_AUDIO__FFMPEG to one that knows fd:."
    try:
        found = await probe(
            SAMPLE,
            decoders=Decoders(settings.audio),
            max_seconds=settings.audio.max_seconds,
            deadline_seconds=min(settings.audio.probe_timeout_seconds, 10.0),
        )
    except FileNotFoundError:
        yield problem("decoder", f"{program} is not there", remedy)
    except (PermissionError, RuntimeError) as error:
        yield problem("decoder", f"{program} may not be run ({type(error).__name__})", remedy)
    except (GatewayError, OSError) as error:
        yield problem("decoder", f"{program} does not read a good recording: {error}", remedy)
    else:
        yield ok("decoder", f"{program} reads {found.format}")


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that is there: looking must not make any."""
    return next(place for place in (folder, *folder.resolve().parents) if place.exists())


def _writable(folder: Path) -> CheckResult:
    place = existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place, prefix="doctor-") as trial:
            trial.write(b"ready")
    except OSError as error:
        words = f"{place} cannot be written to ({error.strerror})"
        remedy = f"Make it a folder that user {os.getuid()} may write to, or set GATEWAY_DATA_DIR."
        return problem("store", words, remedy)
    return ok("store", f"{folder} is writable" if place == folder else f"{place} is writable")


def _room(folder: Path, floor: int) -> CheckResult:
    free = shutil.disk_usage(existing(folder)).free
    words = f"{_mib(free)} free, uploads are refused below {_mib(floor)}"
    remedy = "Make room, move GATEWAY_DATA_DIR, or lower GATEWAY_AUDIO__MIN_FREE_BYTES."
    if free < floor:
        return problem("disk", words, remedy)
    return warning("disk", words, remedy) if free < SCARCE * floor else ok("disk", words)


def _mib(count: int) -> str:
    return f"{count >> 20:,} MiB"
