"""Decoder processes: ffmpeg children that can open only the one descriptor they are given.

Untrusted files are parsed in a child process with limits and deadlines, never in this process.
`fd:` is seekable, so an mp4 with its index at the end works; `pipe:` could not read it.
"""

import asyncio
import itertools
import os
import resource
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path

import imageio_ffmpeg

from app.audio.formats import CODECS, FORMATS
from app.audio.splitting.detectors import Detectors
from app.errors import DecodeTimeout
from app.kit.open_file import open_file
from app.kit.priority_semaphore import PrioritySemaphore
from app.settings import AudioSettings

ADDRESS_SPACE_BYTES = 2 << 30
MAX_ALLOC_BYTES = 256 << 20  # of one allocation
OPEN_FILES = 32
PIPE_BYTES = 256 << 10  # gathered from the pipe before the child has to wait
STDERR_BYTES = 64 << 10  # stored of each end of stderr
SILENT_CHILD_SECONDS = 60.0  # longest wait for one block; a healthy child needs some 40 ms
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

    A child whose consumer is slow waits on its full pipe and uses no CPU. It holds no slot then:
    otherwise four long files would block all other audio for hours. Header probes have their own
    slots, so that a backlog of audio does not block new uploads.

    Slots are given by turn. A decoding keeps its turn until the consumer has enough audio for a
    part: if all went on block by block, all would hold most of a part in memory at the same time.
    """

    def __init__(self, settings: AudioSettings) -> None:
        self.slots = PrioritySemaphore(settings.decoder_processes)
        self.probe_slots = asyncio.Semaphore(settings.decoder_processes)
        # A detector takes 9 MB and, while it works, a whole core.
        can_tell = hasattr(os, "sched_getaffinity")  # on Linux
        cores = len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1
        self.detectors = Detectors(min(settings.decoder_processes, cores))
        self._ffmpeg = settings.ffmpeg
        self._turns = itertools.count(1)

    def next_turn(self) -> int:
        """Return the priority of a turn that begins now: earlier turns go first."""
        return -next(self._turns)

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
        """Start a child on one file. It is killed and reaped when the context ends.

        With `raw_rate` the file holds raw samples of that rate, see `raw`.
        """
        read: Sequence[str] = _ANY_INPUT
        if raw_rate is not None:
            form = ("-f", "s16le", "-ar", str(raw_rate), "-ac", "1")
            read = ("-format_whitelist", "s16le", *form, "-i", "fd:")
        async with open_file(path) as source:
            child = await self._start(source, (*_SAFE, *read, *output), log_level, cpu_seconds)
        try:
            yield child
        finally:
            # Shielded, for a cancelled caller must not leave a process behind.
            await asyncio.shield(asyncio.ensure_future(child.reap()))

    async def _start(
        self, source: FileIO, arguments: Sequence[str], log_level: str, cpu_seconds: int
    ) -> "FfmpegProcess":
        if not self._ffmpeg:
            self._ffmpeg = await asyncio.to_thread(imageio_ffmpeg.get_ffmpeg_exe)
        process = await asyncio.create_subprocess_exec(
            *(self._ffmpeg, "-v", log_level, *arguments),
            stdin=source,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
            limit=PIPE_BYTES,
        )
        _limit(process.pid, cpu_seconds)
        return FfmpegProcess(process, self)


class FfmpegProcess:
    """A child that decodes. `turn` is its priority for a slot."""

    def __init__(self, process: asyncio.subprocess.Process, decoders: Decoders) -> None:
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("a child needs both pipes")
        self._stdout = process.stdout
        self._process = process
        self.turn = decoders.next_turn()
        self._slots = decoders.slots
        self._stderr = asyncio.create_task(_read_ends(process.stderr, STDERR_BYTES, STDERR_BYTES))

    async def blocks(self, size: int) -> AsyncGenerator[bytes, None]:
        """Yield the output of the child in blocks of `size` bytes. The last one may be shorter.

        A slot is held while the caller waits for a block. Raises DecodeTimeout.
        """
        is_open = True
        while is_open:
            try:
                async with self._slots.holding(self.turn), asyncio.timeout(SILENT_CHILD_SECONDS):
                    block = await self._stdout.readexactly(size)
            except asyncio.IncompleteReadError as end:
                block, is_open = end.partial, False
            except TimeoutError:
                raise DecodeTimeout(log=f"no block for {SILENT_CHILD_SECONDS} s") from None
            if block:
                yield block

    async def beginning(self, max_bytes: int) -> bytes:
        """Return the first bytes of the output. The rest is read and dropped: the child can end."""
        return await _read_ends(self._stdout, max_bytes, 0)

    async def end(self) -> tuple[int, str]:
        """Wait for the end and return the exit code and stderr. Raises DecodeTimeout."""
        try:
            async with asyncio.timeout(SILENT_CHILD_SECONDS):
                code, stderr = await self.finish()
        except TimeoutError:
            raise DecodeTimeout(log="the child did not end") from None
        if code == CPU_LIMIT_EXIT:
            raise DecodeTimeout(log=f"the child used up its CPU time, code {code}")
        return code, stderr

    async def finish(self) -> tuple[int, str]:
        """Wait for the end, however long it takes; return the exit code and stderr."""
        stderr = await asyncio.shield(self._stderr)
        return await self._process.wait(), stderr.decode("utf-8", "replace")

    async def reap(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        # Drained to the end, or the pipe's transport would stay open with the dead child's output.
        while await self._stdout.read(PIPE_BYTES):
            pass
        await self._stderr
        await self._process.wait()


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


async def _read_ends(stream: asyncio.StreamReader, head_bytes: int, tail_bytes: int) -> bytes:
    """Read a stream to its end and return its beginning and its end.

    The tags of a file, which FFmpeg prints, can be megabytes long.
    """
    head, tail = bytearray(), bytearray()
    while chunk := await stream.read(max(head_bytes, tail_bytes)):
        taken = head_bytes - len(head)
        head += chunk[:taken]
        tail += chunk[taken:]
        del tail[: max(0, len(tail) - tail_bytes)]
    return bytes(head + tail)
