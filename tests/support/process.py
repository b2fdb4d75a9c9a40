"""A gateway in a process of its own that a test can stop, continue, kill and restart."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.scripted_engine import CATALOGUE, billed_seconds

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 60.0
END_SECONDS = 40.0
GLANCE_SECONDS = 0.02


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true result of `claim`; fail after this number of seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(GLANCE_SECONDS)
    return value


@dataclass
class GatewayProcess:
    """A gateway process. `settings` are GATEWAY_ variables without their prefix.

    Each start uses a free port. Without a `command` it is the gateway with the scripted engine.
    """

    folder: Path
    database_url: str = ""
    delay_seconds: float = 0.0
    settings: dict[str, str] = field(default_factory=dict)
    name: str = "gateway"
    command: tuple[str, ...] = ()

    _process: subprocess.Popen[bytes] | None = None
    _seen: int = 0  # bytes of the log that belong to earlier starts
    url: str = ""

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def bill(self) -> Path:
        return self.folder / "bill.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def billed_seconds(self) -> int:
        return billed_seconds(self.bill)

    def spawn(self) -> None:
        """Start the process without waiting for anything."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._seen = self.log.stat().st_size if self.log.exists() else 0
        scripted = ("-m", "tests.support.scripted_server", str(self.bill), str(self.delay_seconds))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *(self.command or scripted)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=self.environment(),
            )

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.spawn()
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        said = until(self._listening, START_SECONDS, "the gateway listens")
        self.url = f"http://127.0.0.1:{said['port']}"

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log events of this name since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._seen)
            lines = log.read().splitlines()
        told = [json.loads(line) for line in lines if line.startswith(b"{") and line[-1:] == b"}"]
        return [event for event in told if event.get("event") == name]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(END_SECONDS)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(END_SECONDS)

    @contextmanager
    def gone_at_the_end(self) -> Iterator[None]:
        """Kill the process at the end of the block."""
        try:
            yield
        finally:
            if self._process is not None and self._process.poll() is None:
                self.kill()

    def _listening(self) -> dict[str, Any] | None:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"the gateway ended with {code}: {self.log.read_text()[-2000:]}"
        return next(iter(self.events("server.listening")), None)

    def environment(self) -> dict[str, str]:
        """Return the environment of the process, also for other commands."""
        ours = {
            "DATA_DIR": str(self.data_dir),
            "DATABASE__URL": self.database_url,
            "SERVER__PORT": "0",
            "SPEECH__CATALOGUE": str(CATALOGUE),
            "SPEECH__DEFAULT_MODEL": "scripted/echo",
            "LOG__FORMAT": "json",
            **self.settings,
        }
        shells = ("GATEWAY_", "DASHSCOPE_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(shells)}
        return clean | {f"GATEWAY_{name}": value for name, value in ours.items()}
