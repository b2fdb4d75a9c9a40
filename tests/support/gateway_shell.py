"""A gateway as the documents assume it: `serve` with a simulator, used from a shell.

The shell's folder contains audio, `speech.mp3`, the provider's bill so far, `bill.csv`, and the
gateway's folder, `data`. `curl` fails for a status of 4xx or 5xx. Addresses in the documents are
replaced (ADDRESSES).
"""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from tests.simulator import Delays, ProviderSimulator, Script
from tests.support.gateway import SPEECH
from tests.support.process import REPOSITORY, GatewayProcess
from tests.support.simulated_gateway import fast_catalogue

ADDRESSES = ("http://127.0.0.1:8000", "https://example.org")
"""What stands in the documents for the gateway, and for a server that has `speech.mp3`."""

SPOKEN = (
    "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his "
    "power to do for them. He was not an ill-disposed young man."
)
SHELL_SECONDS = 60.0
SERVE = ("-m", "app.serve")
_SHIMS = {
    "curl": 'exec "{curl}" --silent --show-error $FAILING --dump-header "$HEADERS" "$@"',
    "asr-gateway": 'exec "{python}" -m app.cli.main "$@"',
}


@dataclass
class Shell:
    """Runs blocks one after the other. Variables of one block are set in the next."""

    folder: Path
    environment: dict[str, str]
    replaced: dict[str, str]
    simulator: ProviderSimulator

    @property
    def headers(self) -> Path:
        """The file with the headers of the last answer."""
        return self.folder.parent / "headers"

    def run(self, block: str, *, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a block. It ends at the first command that fails."""
        if len(self.simulator.service.bill):
            (self.folder / "bill.csv").write_text(self.simulator.bill_csv())
        for written, real in self.replaced.items():
            block = block.replace(written, real)
        state = self.folder.parent / "state"
        script = f"set -ea\n. {state}\n{block}\nexport -p > {state}\n"
        return subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env=self.environment
            | {"HEADERS": str(self.headers), "FAILING": "" if may_fail else "--fail-with-body"},
            capture_output=True,
            text=True,
            check=False,
            timeout=SHELL_SECONDS,
        )


@asynccontextmanager
async def gateway_shell(folder: Path, **settings: str) -> AsyncIterator[Shell]:
    """Yield a shell. `settings` are settings of the gateway without the prefix GATEWAY_."""
    desk, bin_folder = folder / "desk", folder / "bin"
    desk.mkdir(parents=True)
    bin_folder.mkdir()
    _make_recording(desk / "speech.mp3")
    _make_shims(bin_folder)
    (folder / "state").touch()
    delays = Delays(pending=0.6, running=0.6)
    async with ProviderSimulator(words=Script(SPOKEN), delays=delays, seed=1) as simulator:
        with _files(desk) as files:
            process = GatewayProcess(
                folder, settings=_settings(simulator, folder, files) | settings, command=SERVE
            )
            with process.gone_at_the_end():
                await asyncio.to_thread(process.start)
                yield Shell(
                    desk,
                    process.environment() | _paths(bin_folder),
                    dict(zip(ADDRESSES, (process.url, files), strict=True)),
                    simulator,
                )
                assert await asyncio.to_thread(process.stop) == 0


def _settings(simulator: ProviderSimulator, folder: Path, files: str) -> dict[str, str]:
    return {
        "DATA_DIR": str(folder / "desk" / "data"),
        "DASHSCOPE__API_KEY": simulator.key,
        "DASHSCOPE__BASE_URL": f"{simulator.url}/api/v1",
        "SPEECH__DEFAULT_MODEL": "",
        "SPEECH__CATALOGUE": str(fast_catalogue(folder)),
        "LOCAL__ENABLED": "false",
        "AUDIO__MIN_FREE_BYTES": "0",
        "FETCH__ALLOW_HTTP": "true",
        "FETCH__PORTS": files.rpartition(":")[2],
        "FETCH__ALLOW_ADDRESSES": "127.0.0.0/8",
        "JOBS__POLL_INTERVAL_SECONDS": "0.1",
        "JOBS__MAX_POLL_INTERVAL_SECONDS": "0.2",
    }


def _paths(bin_folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }


def _make_recording(path: Path) -> None:
    convert = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(SPEECH)]
    subprocess.run([*convert, "-b:a", "32k", str(path)], check=True, stdin=subprocess.DEVNULL)


def _make_shims(folder: Path) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    for name, command in _SHIMS.items():
        shim = folder / name
        shim.write_text("#!/bin/sh\n" + command.format(curl=curl, python=sys.executable) + "\n")
        shim.chmod(0o755)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: Any) -> None: ...  # noqa: A002


@contextmanager
def _files(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP, as a third party's web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
