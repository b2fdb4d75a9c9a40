"""The command line in a process of its own, with or without a terminal."""

import contextlib
import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from app.cli.main import run as command_line
from tests.support.process import REPOSITORY, until

COLUMNS = 160
TIMEOUT_SECONDS = 60.0
COMMAND = (sys.executable, "-m", "app.cli.main")


def ours(environment: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return an environment in which a child process can import the package from any folder."""
    plain = {k: v for k, v in environment.items() if k not in {"OUTPUT_DIR", "NO_COLOR"}}
    return {**plain, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", **more}


def run(
    *words: str, cwd: Path, environment: Mapping[str, str], **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without a terminal."""
    return subprocess.run(
        [*COMMAND, *words],
        cwd=cwd,
        env=ours(environment, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


def call(
    *words: str, cwd: Path, environment: Mapping[str, str], **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, which saves a second and is otherwise nearly the same."""
    said, told, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, ours(environment, **more), clear=True),
        mock.patch.object(sys, "argv", ["asr-gateway", *words]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(told),
    ):
        try:
            command_line()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return subprocess.CompletedProcess(words, code, said.getvalue(), told.getvalue())


class Child:
    """A running command. `told` is its output on stderr, or on its terminal if it has one."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process, self._descriptor = process, descriptor
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def told(self) -> str:
        return b"".join(self._chunks).decode(errors="replace")

    def sees(self, words: str) -> None:
        until(lambda: words in self.told, TIMEOUT_SECONDS, f"it says {words!r}")

    def types(self, words: str) -> None:
        os.write(self._descriptor, words.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self) -> int:
        code = self.process.wait(TIMEOUT_SECONDS)
        self._reader.join(TIMEOUT_SECONDS)
        return code

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._descriptor, 65536)
            except OSError:  # the other end of the terminal is closed
                return
            if not chunk:
                return
            self._chunks.append(chunk)


@contextmanager
def begun(
    *words: str, cwd: Path, environment: Mapping[str, str], terminal: bool, **more: str
) -> Iterator[Child]:
    """Start a command. Its stdout is written to the file `stdout` in `cwd`."""
    ours_end, its_end = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    with (cwd / "stdout").open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=cwd,
            env=ours(environment, **more),
            stdin=its_end if terminal else subprocess.DEVNULL,
            stdout=out,
            stderr=its_end,
            start_new_session=True,
        )
    os.close(its_end)
    try:
        yield Child(process, ours_end)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(TIMEOUT_SECONDS)
        os.close(ours_end)
