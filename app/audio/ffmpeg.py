"""Decoder children: ffmpeg processes that can open nothing but the one descriptor they are given.

A parser of strangers' files runs in a process that we limit, watch and kill, never in ours.
`fd:` is seekable, so an mp4 with its index at the end works; `pipe:` could not read it.
"""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path

import imageio_ffmpeg

from app.audio.formats import CODECS, FORMATS
from app.kit.open_file import open_file
from app.settings import AudioSettings

ADDRESS_SPACE_BYTES = 2 << 30
MAX_ALLOC_BYTES = 256 << 20  # of one allocation
OPEN_FILES = 32
PIPE_BYTES = 256 << 10  # gathered from the pipe before the child has to wait
COMPLAINT_BYTES = 64 << 10  # kept from each end of what a child says on stderr
# Soft and hard limit are equal, so that the kernel kills at once: ffmpeg catches SIGXCPU and exits
# with 255, which is also its code for a file that "is not permitted".
CPU_LIMIT_EXIT = -signal.SIGKILL

_SAFE = (
    *("-nostdin", "-hide_banner", "-nostats", "-threads", "1"),
    *("-max_alloc", str(MAX_ALLOC_BYTES), "-protocol_whitelist", "fd"),
    *("-codec_whitelist", CODECS, "-fd", "0"),
)
_ANY_INPUT = ("-format_whitelist", FORMATS, "-i", "fd:")


class Decoders:
    """Starts children. `slots` bounds how many work at once: hold one while waiting for a child.

    A child whose consumer is slow waits on its full pipe and uses no CPU; it needs no slot
    then, or four long recordings would keep everybody else's out for hours. Looking at a header
    has slots of its own, so that a backlog of recordings does not keep new ones out.
    """

    def __init__(self, settings: AudioSettings) -> None:
        self.slots = asyncio.Semaphore(settings.decoder_processes)
        self.probe_slots = asyncio.Semaphore(settings.decoder_processes)
        self._ffmpeg = settings.ffmpeg

    @asynccontextmanager
    async def open(
        self,
        path: Path,
        output: Sequence[str],
        *,
        log_level: str,
        cpu_seconds: int,
        raw_rate: int | None = None,
    ) -> AsyncIterator["FfmpegProcess"]:
        """Start a child on one file; it is dead and reaped when the context ends.

        With `raw_rate` the file is bare samples of that rate, see `raw`.
        """
        async with open_file(path) as source:
            arguments = (*_SAFE, *_input(raw_rate), *output)
            child = await self._start(source, arguments, log_level, cpu_seconds)
        try:
            yield child
        finally:
            # Shielded, for a cancelled caller must not leave a process behind.
            await asyncio.shield(asyncio.ensure_future(child.reap()))

    async def through(self, arguments: Sequence[str], sound: bytes) -> tuple[int | None, bytes]:
        """Send sound of our own through a child; return its exit code and what it wrote."""
        process = await asyncio.create_subprocess_exec(
            await self._program(),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
        )
        try:
            _, written, _ = await asyncio.gather(
                _feed(process.stdin, sound), _all_of(process.stdout), process.wait()
            )
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(asyncio.ensure_future(process.communicate()))
            raise
        return process.returncode, written

    async def _program(self) -> str:
        return self._ffmpeg or await asyncio.to_thread(imageio_ffmpeg.get_ffmpeg_exe)

    async def _start(
        self, source: FileIO, arguments: Sequence[str], log_level: str, cpu_seconds: int
    ) -> "FfmpegProcess":
        process = await asyncio.create_subprocess_exec(
            *(await self._program(), "-v", log_level, *arguments),
            stdin=source,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
            limit=PIPE_BYTES,
        )
        _limit(process.pid, cpu_seconds)
        return FfmpegProcess(process)


class FfmpegProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("a child needs both pipes")
        self.stdout = process.stdout
        self._process = process
        self._complaints = asyncio.create_task(_both_ends(process.stderr))

    async def finish(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was said on stderr."""
        complaints = await asyncio.shield(self._complaints)
        return await self._process.wait(), complaints

    async def reap(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        # Drained to the end, or the pipe's transport would stay open with the dead child's output.
        while await self.stdout.read(PIPE_BYTES):
            pass
        await self._complaints
        await self._process.wait()


async def _feed(stdin: asyncio.StreamWriter | None, sound: bytes) -> None:
    """Write slice by slice: written at once, a pipe's transport would copy most of it."""
    if stdin is None:
        return
    view = memoryview(sound)
    with suppress(BrokenPipeError, ConnectionResetError):  # its exit code tells the rest
        for start in range(0, len(view), PIPE_BYTES):
            stdin.write(view[start : start + PIPE_BYTES])
            await stdin.drain()
    stdin.close()


async def _all_of(stdout: asyncio.StreamReader | None) -> bytes:
    return b"" if stdout is None else await stdout.read()


def _input(raw_rate: int | None) -> Sequence[str]:
    if raw_rate is None:
        return _ANY_INPUT
    form = ("-f", "s16le", "-ar", str(raw_rate), "-ac", "1")
    return ("-format_whitelist", "s16le", *form, "-i", "fd:")


def _limit(pid: int, cpu_seconds: int) -> None:
    """Set limits from outside: a preexec_fn is not safe in a process with threads."""
    limits = {
        resource.RLIMIT_AS: (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES),
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds),
        resource.RLIMIT_NOFILE: (OPEN_FILES, OPEN_FILES),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
    }
    # AttributeError: only Linux can limit another process; elsewhere the deadlines remain.
    with suppress(AttributeError, ProcessLookupError, PermissionError):
        for kind, bounds in limits.items():
            resource.prlimit(pid, kind, bounds)


async def _both_ends(stream: asyncio.StreamReader) -> str:
    """Return the first and the last of what is said: strangers' tags can be megabytes long."""
    head, tail = bytearray(), bytearray()
    while chunk := await stream.read(COMPLAINT_BYTES):
        taken = COMPLAINT_BYTES - len(head)
        head += chunk[:taken]
        tail += chunk[taken:]
        del tail[:-COMPLAINT_BYTES]
    return (head + tail).decode("utf-8", "replace")
