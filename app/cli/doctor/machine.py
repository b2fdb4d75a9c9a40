"""Checks of this machine by `asr-gateway doctor`: disk, folders, decoder."""

import asyncio
import shutil
from collections.abc import AsyncIterator

from app.audio.decoder_check import DecoderError, check_decoder_program, decoder_name
from app.audio.ffmpeg import Decoders
from app.audio.inspection.ffmpeg_probe import probe_with_ffmpeg
from app.audio.storage.data_folder import (
    data_folder_problem,
    existing_folder,
    is_open_to_all,
)
from app.cli.demo import SAMPLE
from app.cli.doctor.check import CheckResult, failed, ok, warn
from app.errors import GatewayError
from app.settings import Settings

SCARCE_FACTOR = 2  # times the minimum


async def check_store(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check that the folder of the recordings is writable, and that its disk has enough space."""
    folder = settings.data_dir
    if problem := await asyncio.to_thread(data_folder_problem, folder):
        yield failed("store", *problem)
    elif is_open_to_all(folder):
        remedy = f"Run: chmod 700 {folder}"
        yield warn("store", f"{folder} is writable, but by every user of this machine", remedy)
    else:
        yield ok("store", f"{existing_folder(folder)} is writable")
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
    name = decoder_name(settings.audio)
    try:
        await check_decoder_program(settings.audio)
        found = await probe_with_ffmpeg(
            SAMPLE,
            decoders=Decoders(settings.audio),
            max_seconds=settings.audio.max_seconds,
            deadline_seconds=min(settings.audio.probe_timeout_seconds, 10.0),
        )
    except DecoderError as error:
        yield failed("decoder", str(error), error.remedy)
    except (GatewayError, OSError) as error:
        reason = f"{name} does not read a good recording: {error}"
        yield failed("decoder", reason, DecoderError.remedy)
    else:
        yield ok("decoder", f"{name} reads {found.format}")
