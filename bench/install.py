"""Cost of each installation: time to install, size on disk, time until /healthz and /readyz answer.

python -m bench.install [--sets cloud local] [--model-dir FOLDER]

Each set is installed from its lock file, with hashes, by the real pip without a cache into a new
environment, followed by a wheel of this tree. Each start runs `asr-gateway serve` in an empty
folder: a new process and a new database, although the kernel may have cached the files. `local`
starts with its model files in --model-dir, else in the user's cache, because a download measures
the network. `cloud` has a key that is never used.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = {"cloud": "cloud.txt", "local": "run.txt"}
MIB = 1 << 20
START_SECONDS = 120.0
GLANCE_SECONDS = 0.01


@dataclass(frozen=True)
class Installed:
    environment: Path
    seconds: float

    @property
    def site(self) -> Path:
        (site,) = self.environment.glob("lib/python*/site-packages")
        return site

    @property
    def packages(self) -> int:
        return len(list(self.site.glob("*.dist-info")))

    @property
    def mebibytes(self) -> float:
        files = (path.lstat() for path in self.environment.rglob("*") if path.is_file())
        return sum(file.st_blocks * 512 for file in files) / MIB

    def largest(self, count: int) -> str:
        sizes = {
            place.name: sum(f.lstat().st_size for f in place.rglob("*") if f.is_file())
            for place in self.site.iterdir()
        }
        first = sorted(sizes, key=lambda name: -sizes[name])[:count]
        return ", ".join(f"{name} {sizes[name] / MIB:.0f}" for name in first)


def main() -> int:
    asked = arguments()
    folder = Path(tempfile.mkdtemp(prefix="gateway-install-"))
    try:
        wheel = built(folder)
        for name in asked.sets:
            print_figures(name, folder, wheel, asked.model_dir)
    finally:
        shutil.rmtree(folder)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=LOCKS, default=list(LOCKS))
    parser.add_argument("--model-dir", type=Path, help="folder with the files of local/base")
    return parser.parse_args()


def built(folder: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def print_figures(name: str, folder: Path, wheel: Path, model_dir: Path | None) -> None:
    set_up = installed(folder / name, LOCKS[name], wheel)
    print(
        f"{name}: {set_up.packages} packages, {set_up.mebibytes:.0f} MiB, "
        f"installed in {set_up.seconds:.0f} s; largest (MiB): {set_up.largest(5)}",
        flush=True,
    )
    for start in ("first", "second"):
        place = folder / f"{name}-{start}"
        place.mkdir()
        with serving(set_up, place, settings_of(name, model_dir)) as (base, began):
            alive = until_ok(f"{base}/healthz", began)
            ready = until_ok(f"{base}/readyz", began)
        print(f"{name}: {start} start: /healthz {alive:.2f} s, /readyz {ready:.2f} s", flush=True)


def installed(environment: Path, lock: str, wheel: Path) -> Installed:
    """Create an environment with the Dockerfile's commands."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--no-cache-dir"]
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    hashed = ["--require-hashes", "-r", str(ROOT / "requirements" / lock)]
    subprocess.run([*pip, *hashed], env=quiet, check=True)
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], env=quiet, check=True)
    return Installed(environment, time.monotonic() - began)


def settings_of(name: str, model_dir: Path | None) -> dict[str, str]:
    if name == "cloud":
        return {"DASHSCOPE_API_KEY": "sk-never-used"}
    given = {"GATEWAY_LOCAL__MODEL_DIR": str(model_dir)} if model_dir else {}
    return {"GATEWAY_SPEECH__DEFAULT_MODEL": "local/base", **given}


@contextmanager
def serving(
    set_up: Installed, folder: Path, settings: dict[str, str]
) -> Iterator[tuple[str, float]]:
    """Start the gateway on a free port and yield its address and when it was started."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "DASHSCOPE_", "PYTHON"))
    }
    ours = {"GATEWAY_SERVER__PORT": "0", "GATEWAY_LOG__FORMAT": "json", **settings}
    log = folder / "log"
    began = time.monotonic()
    with log.open("wb") as said:
        server = subprocess.Popen(
            [str(set_up.environment / "bin" / "asr-gateway"), "serve"],
            cwd=folder,
            env={**clean, **ours},
            stdout=said,
            stderr=said,
        )
    try:
        yield f"http://127.0.0.1:{port_of(server, log, began)}", began
    finally:
        server.terminate()
        assert server.wait(START_SECONDS) == 0


def port_of(server: "subprocess.Popen[bytes]", log: Path, began: float) -> int:
    while time.monotonic() - began < START_SECONDS:
        assert server.poll() is None, log.read_text()
        for line in log.read_text().splitlines():
            if '"server.listening"' in line:
                port: int = json.loads(line)["port"]
                return port
        time.sleep(GLANCE_SECONDS)
    raise TimeoutError(log.read_text())


def until_ok(url: str, began: float) -> float:
    """Return when the address first answered 200, in seconds since the start."""
    while time.monotonic() - began < START_SECONDS:
        try:
            with urllib.request.urlopen(url):  # noqa: S310 - our own server
                return time.monotonic() - began
        except (urllib.error.URLError, ConnectionError):
            time.sleep(GLANCE_SECONDS)
    raise TimeoutError(url)


if __name__ == "__main__":
    sys.exit(main())
