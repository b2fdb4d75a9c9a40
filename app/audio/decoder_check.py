"""Checks that the decoder program is there and can be used."""

import asyncio
import os
import shutil

import imageio_ffmpeg

from app.settings import AudioSettings

ENVIRONMENT = {"LC_ALL": "C"}
_CHECK_SECONDS = 10.0
_REMEDY = (
    "Reinstall imageio-ffmpeg, or set GATEWAY_AUDIO__FFMPEG to an ffmpeg with the fd: protocol."
)


class DecoderError(Exception):
    """The decoder cannot be used. The message is a sentence without its full stop."""

    remedy = _REMEDY


def decoder_name(settings: AudioSettings) -> str:
    """Return the name of the decoder for a sentence."""
    return f"The decoder {settings.ffmpeg}" if settings.ffmpeg else "The packaged ffmpeg"


def find_decoder(settings: AudioSettings) -> str:
    """Return the path of the decoder. Raises DecoderError if there is no such program. Blocks."""
    name = decoder_name(settings)
    try:
        program = settings.ffmpeg or imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise DecoderError(f"{name} is not there") from None
    if "/" not in program:
        program = shutil.which(program, path=os.defpath) or ""
    # Decoders run in the folder `/`, so that a relative path would not be the one that was meant.
    if program and not program.startswith("/"):
        raise DecoderError(f"{name} is not an absolute path")
    if not os.path.isfile(program):  # noqa: PTH113 - "" is no file; Path("") is a folder
        raise DecoderError(f"{name} is not there")
    if not os.access(program, os.X_OK):
        raise DecoderError(f"{name} cannot be run by user {os.getuid()}")
    return program


async def check_decoder_program(settings: AudioSettings) -> None:
    """Run the decoder once. Raises DecoderError if it is no ffmpeg with the fd: protocol."""
    program = await asyncio.to_thread(find_decoder, settings)
    name = decoder_name(settings)
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            process = await asyncio.create_subprocess_exec(
                *(program, "-hide_banner", "-protocols"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
            )
            try:
                output, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    except TimeoutError:
        raise DecoderError(f"{name} does not answer") from None
    except OSError as error:
        raise DecoderError(f"{name} cannot be run ({error.strerror})") from error
    if b"fd" not in output.split():
        raise DecoderError(f"{name} is not an ffmpeg with the fd: protocol")
