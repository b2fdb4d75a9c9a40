"""The same long audio through the gateway and through the official qwen3-asr-toolkit.

python -m bench.long_audio FOLDER [--minutes 60] [--latency 5] [--environment DIR] [--only ours]

The files of FOLDER are joined, repeatedly, to audio of the given length. Both programs transcribe
it before a simulator of the same settings, in a process of its own. Each call takes `latency` s,
and the account has 100 calls a minute. The toolkit has an environment of its own, which is created
if DIR has none (with the CPU build of torch; otherwise it needs 5.7 GB). Memory is the resident
memory of a program's process and all its children, read every 20 ms. A cut is inside speech if the
audio is loud before and after it and, where FOLDER has labels in NAME.segments.json, the labels say
so. The start of the toolkit counts as its time, and is printed as well.
"""

import argparse
import asyncio
import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from tests.support.job_records import read_rows
from tests.support.process import REPOSITORY, GatewayProcess

TOOLKIT, TORCH = "qwen3-asr-toolkit==1.0.4", "torch==2.13.0"
ONNX = "onnxruntime"  # which it needs and does not ask for
MODEL, CALLS_A_MINUTE = "qwen3-asr-flash", 100
RATE = 16_000
MIB = 1 << 20
FULL_SCALE = 32768
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
GLANCE_SECONDS = 0.02
LONGEST_SECONDS = 3_600.0
READY_SECONDS = 30.0
AROUND_SECONDS, LOUD_DBFS = 0.1, -45.0
AUDIO = (".opus", ".mp3", ".wav", ".flac", ".ogg", ".m4a")
SERVE = ("-m", "app.cli.main", "serve")
WORDS = "And mister John Dashwood had then leisure to consider how much there might be."
EXPECTED = {"wall": 2.0, "first text": 5.0, "memory": 5.0}

_TOLD = re.compile(r"[\w-]+: (http\S+) key (\S+)$")  # the description of a region by the simulator

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Recording:
    """The joined audio. `speech` are the labelled spans of speech, in seconds."""

    file: Path
    samples: Samples
    speech: Sequence[tuple[float, float]]

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    def is_spoken(self, at: float) -> bool:
        """Tell whether a cut at this second is inside speech: both sides of it are speech."""
        are_loud = self._is_loud(at - AROUND_SECONDS, at) and self._is_loud(at, at + AROUND_SECONDS)
        return are_loud and (not self.speech or any(start < at < end for start, end in self.speech))

    def _is_loud(self, start: float, end: float) -> bool:
        found = self.samples[int(max(0.0, start) * RATE) : int(end * RATE)].astype(np.float64)
        power = float(np.mean((found / FULL_SCALE) ** 2)) if len(found) else 0.0
        return 10 * math.log10(power + 1e-12) > LOUD_DBFS


@dataclass
class Figures:
    """The figures of one program."""

    seconds: float
    first_text: float
    peak_bytes: int
    cuts: Sequence[float]
    requests: int = 0
    billed: float = 0.0
    started: float = 0.0
    spoken_cuts: int = 0

    def line(self, name: str) -> str:
        start = f" ({self.started:.1f} s of it to start)" if self.started else ""
        return (
            f"{name}: last word after {self.seconds:.1f} s{start}, first text after "
            f"{self.first_text:.1f} s, peak {self.peak_bytes / MIB:.0f} MiB, {self.requests} "
            f"calls, {self.billed:.0f} s billed, {self.spoken_cuts} of {len(self.cuts)} cuts "
            "inside speech"
        )


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory(prefix="gateway-long-") as name:
        folder = Path(name)
        recording = joined(asked.folder, asked.minutes, folder, asked.rate, asked.channels)
        form = f"mp3 of {asked.rate} Hz with {asked.channels} channels"
        minutes = recording.seconds / 60
        print(f"{minutes:.1f} minutes, {form}, {asked.latency:.0f} s a call", flush=True)
        ours = measured("ours", recording, asked.latency, folder)
        if asked.only:
            return int(ours.spoken_cuts > 0)
        toolkit = environment(asked.environment or folder / "toolkit")
        theirs = measured("toolkit", recording, asked.latency, folder, toolkit)
    return compared(ours, theirs)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with the files to join")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=44_100, help="sample rate of the joined audio")
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--latency", type=float, default=5.0, help="seconds of one call")
    parser.add_argument("--environment", type=Path, help="environment of the toolkit")
    parser.add_argument("--only", choices=["ours"], help="omit the toolkit")
    return parser.parse_args()


def measured(
    name: str, recording: Recording, latency: float, folder: Path, toolkit: Path | None = None
) -> Figures:
    """Transcribe the recording with one program and a simulator of its own. Print its figures."""
    with simulator(folder / f"{name}.csv", latency) as at:
        if toolkit is None:
            found = asyncio.run(through_us(recording, at, folder))
        else:
            found = through_toolkit(recording, at, folder, toolkit)
    with (folder / f"{name}.csv").open(newline="") as bill:
        found.requests, found.billed = billed(list(csv.DictReader(bill)))
    found.spoken_cuts = sum(recording.is_spoken(cut) for cut in found.cuts)
    print(found.line(name), flush=True)
    return found


def compared(ours: Figures, theirs: Figures) -> int:
    """Print the ratios. Return 1 if a ratio is below the expected one."""
    ratios = {
        "wall": theirs.seconds / ours.seconds,
        "first text": theirs.first_text / ours.first_text,
        "memory": theirs.peak_bytes / ours.peak_bytes,
        "calls": theirs.requests / ours.requests,
    }
    print("ratios: " + ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items()))
    short = [name for name, least in EXPECTED.items() if ratios[name] < least]
    for name in short:
        print(f"BELOW {name}: {ratios[name]:.1f}, expected {EXPECTED[name]:.0f}")
    return int(bool(short) or ours.spoken_cuts > 0)


# ── the recording ───────────────────────────────────────────────────────────────────────────


def joined(folder: Path, minutes: float, into: Path, rate: int, channels: int) -> Recording:
    """Join the files of a folder to an MP3 of the given length."""
    files = sorted(path for path in folder.iterdir() if path.suffix in AUDIO)
    labelled = [path for path in files if _labels(path).exists()]
    sounds = [(path, decoded(path)) for path in labelled or files]
    sounds = [(path, samples) for path, samples in sounds if len(samples)]
    if not sounds:
        sys.exit(f"{folder} holds no recording that can be decoded")
    parts: list[Samples] = []
    speech: list[tuple[float, float]] = []
    wanted, at = int(minutes * 60 * RATE), 0
    while at < wanted:
        for path, samples in sounds:
            speech += [(at / RATE + start, at / RATE + end) for start, end in spoken_in(path)]
            parts.append(samples[: wanted - at])
            at += len(parts[-1])
    whole = np.concatenate(parts)
    file = into / "long.mp3"
    _ffmpeg(
        "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-",
        "-ar", str(rate), "-ac", str(channels), "-b:a", "128k", str(file),
        given=whole.tobytes(),
    )  # fmt: skip
    return Recording(file, whole, speech if labelled else ())


def decoded(path: Path) -> Samples:
    made = _ffmpeg("-i", str(path), "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-")
    return np.frombuffer(made[: len(made) // 2 * 2], np.int16)


def spoken_in(path: Path) -> Iterator[tuple[float, float]]:
    if _labels(path).exists():
        for one in json.loads(_labels(path).read_text()):
            yield one["start"], one["end"]


def _labels(path: Path) -> Path:
    return path.with_suffix(".segments.json")


def _ffmpeg(*arguments: str, given: bytes = b"") -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-y", *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False).stdout


# ── the far side ────────────────────────────────────────────────────────────────────────────


@contextmanager
def simulator(bill: Path, latency: float) -> Iterator[tuple[str, str]]:
    """Run a simulator in its own process; yield its URL and key. It writes its bill at the end."""
    command = ("-m", "tests.simulator", "--port", "0", "--latency", str(latency), "--say", WORDS)
    command += ("--rpm", str(CALLS_A_MINUTE), "--bill", str(bill))
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        assert process.stdout is not None
        told = next(found for line in process.stdout if (found := _TOLD.match(line)))
        yield told[1], told[2]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(READY_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def billed(rows: Sequence[Mapping[str, str]]) -> tuple[int, float]:
    """Return the number of calls of a bill and their seconds."""
    return len(rows), sum(float(row["seconds"]) for row in rows)


# ── we ──────────────────────────────────────────────────────────────────────────────────────


async def through_us(recording: Recording, simulator_at: tuple[str, str], folder: Path) -> Figures:
    gateway = GatewayProcess(
        folder / "ours",
        f"sqlite:///{folder / 'ours' / 'gateway.db'}",
        settings={
            "SPEECH__CATALOGUE": "",
            "SPEECH__DEFAULT_MODEL": MODEL,
            "DASHSCOPE__BASE_URL": f"{simulator_at[0]}/api/v1",
            "DASHSCOPE__API_KEY": simulator_at[1],
            "LOCAL__ENABLED": "false",
        },
        command=SERVE,
    )
    with gateway.gone_at_the_end():
        await asyncio.to_thread(gateway.start)
        with Memory(gateway.pid) as memory:
            began = time.time()
            await transcribed(gateway.url, recording.file)
            took = time.time() - began
        rows = await read_rows(gateway.database_url)
    segments = [event for event in rows["event"] if event["type"] == "segment"]
    first: datetime = segments[0]["created_at"]
    cuts = [part["start_ms"] / 1000 for part in rows["part"][1:]]
    return Figures(took, first.timestamp() - began, memory.peak, cuts)


async def transcribed(url: str, file: Path) -> dict[str, Any]:
    """Send audio and wait for its text."""
    sound = await asyncio.to_thread(file.read_bytes)
    async with httpx.AsyncClient(base_url=url, timeout=LONGEST_SECONDS) as client:
        answer = await client.post(
            "/v1/transcriptions",
            files={"file": (file.name, sound)},
            data={"wait": str(int(LONGEST_SECONDS))},
        )
    body: dict[str, Any] = answer.raise_for_status().json()
    assert body["status"] == "completed", body["status"]
    return body


# ── the toolkit ─────────────────────────────────────────────────────────────────────────────


def environment(folder: Path) -> Path:
    """Return the toolkit's program; install it first if the folder has none."""
    program = folder / "bin" / "qwen3-asr"
    if not program.exists():
        print(f"installing {TOOLKIT} and {TORCH}", flush=True)
        venv.create(folder, with_pip=True)
        for package in ((TORCH,), (TOOLKIT, TORCH, ONNX)):
            install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *package]
            subprocess.run(install, check=True)
    return program


def through_toolkit(
    recording: Recording, simulator_at: tuple[str, str], folder: Path, program: Path
) -> Figures:
    """Run the official program without changes. Its text is available when it ends."""
    shells = ("GATEWAY_", "DASHSCOPE_")
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith(shells)}
    surroundings["DASHSCOPE_HTTP_BASE_URL"] = f"{simulator_at[0]}/api/v1"
    surroundings["PATH"] = f"{_with_ffmpeg(folder)}:{surroundings['PATH']}"
    began = time.time()
    subprocess.run([program, "--help"], env=surroundings, check=True, capture_output=True)
    start = time.time() - began
    command = [
        program,
        "-i",
        recording.file,
        "-key",
        simulator_at[1],
        "-srt",
        "-t",
        folder / "cache",
    ]
    began = time.time()
    with (folder / "toolkit.log").open("wb") as log:
        process = subprocess.Popen(command, env=surroundings, stdout=log, stderr=log)
        with Memory(process.pid) as memory:
            code = process.wait(LONGEST_SECONDS)
    took = time.time() - began
    assert code == 0, (folder / "toolkit.log").read_text()[-2_000:]
    cuts = srt_starts(recording.file.with_suffix(".srt").read_text())
    return Figures(took, took, memory.peak, cuts[1:], started=start)


def _with_ffmpeg(folder: Path) -> Path:
    """Return a folder for the PATH in which the packaged ffmpeg has its usual name."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    return tools


def srt_starts(text: str) -> list[float]:
    """Return when each cue of subtitles begins, in seconds."""
    times = re.findall(r"^(\d+):(\d\d):(\d\d),(\d{3}) -->", text, re.MULTILINE)
    return sorted(int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for h, m, s, ms in times)


@dataclass
class Memory:
    """Measures the peak resident memory of a process and its children inside the block."""

    pid: int
    peak: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._looking = threading.Thread(target=self._look)
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._done.wait(GLANCE_SECONDS):
            self.peak = max(self.peak, sum(map(_resident, family(self.pid))))


def family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants.

    A child that has not begun its own program yet is its parent: they share their memory.
    """
    yield pid
    own = _program(pid)
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # it has ended
            continue
        for child in children:
            if _program(int(child)) != own:
                yield from family(int(child))


def _program(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):  # it has ended
        return 0


if __name__ == "__main__":
    sys.exit(main())
