"""Runs the Dockerfile's commands with the real pip, then its server and its health check.

python -m bench.container [--sets cloud local]

No container engine is used and no image is created: a folder serves as the root
(tests/support/dockerfile.py), and this machine's Python as that of the base image.
`tests/e2e/test_container.py` is the short form.
"""

import argparse
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from tests.support.dockerfile import Builder, Image
from tests.support.process import until
from tests.support.read_only_root import Confined

SECONDS = 120.0
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=("cloud", "local"), default=["cloud", "local"])
    for name in parser.parse_args().sets:
        folder = Path(tempfile.mkdtemp(prefix="gateway-image-"))
        folder.chmod(0o755)  # for the image's own user
        try:
            tried(name, folder)
        finally:
            shutil.rmtree(folder)
    return 0


def tried(name: str, folder: Path) -> None:
    began = time.monotonic()
    image = Builder(folder, {"EXTRAS": name}).build()
    built = time.monotonic() - began
    files = (path.lstat() for path in image.root.rglob("*") if path.is_file())
    size = sum(file.st_size for file in files) / MIB
    healthy, has_engine, how = served(image, folder)
    assert has_engine is (name == "local")
    print(
        f"{name}: built in {built:.0f} s, {size:.0f} MiB beside the base; {how}; "
        f"healthy after {healthy:.1f} s, stopped with 0",
        flush=True,
    )


def served(image: Image, folder: Path) -> tuple[float, bool, str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    confined = Confined(image, GATEWAY_SERVER__PORT=port, GATEWAY_LOCAL__SOURCES="")
    assert confined.run(["asr-gateway", "keys", "create", "bench"]).returncode == 0
    has_engine = confined.run(["python", "-c", "import faster_whisper"]).returncode == 0
    began = time.monotonic()
    server = confined.start(image.command, folder / "log")
    try:
        until(lambda: confined.run(image.health).returncode == 0, SECONDS, "it is healthy")
        healthy = time.monotonic() - began
    finally:
        server.terminate()
        assert server.wait(SECONDS) == 0
    root = "read-only" if confined.is_read_only else "writable"
    user = image.user if confined.has_own_user else "this user"
    return healthy, has_engine, f"root {root}, as {user}"


if __name__ == "__main__":
    sys.exit(main())
