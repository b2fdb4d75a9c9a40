"""The wheel carries all it needs: installed into an empty folder, it migrates and serves."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
PAUSE_SECONDS = 0.1


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with nothing but what the wheel holds."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True)
    return site


def test_an_installed_wheel_migrates_and_serves(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with _serving(installed, empty) as base:
        assert _get(f"{base}/healthz") == {"status": "ok"}
        checks = {check["name"]: check for check in _get(f"{base}/readyz")["checks"]}
        assert checks["database"] == {"name": "database", "ready": True, "missing": ""}
        assert "createTranscription" in json.dumps(_get(f"{base}/openapi.json"))
        with urllib.request.urlopen(f"{base}/docs") as page:
            assert b"swagger" in page.read()
    assert (empty / "data" / "gateway.db").is_file()


@contextmanager
def _serving(site: Path, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "GATEWAY_SERVER__PORT": str(port),
        "GATEWAY_LOCAL__SOURCES": "hub",
        "GATEWAY_LOCAL__HUB_URL": "http://127.0.0.1:9",
        "GATEWAY_LOCAL__CACHE_DIR": str(folder / "cache"),
    }
    origin = "import app; print(app.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", origin],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    server = subprocess.Popen([sys.executable, "-m", "app.serve"], cwd=folder, env=environment)
    try:
        _until_alive(f"http://127.0.0.1:{port}/healthz", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        assert server.wait(START_SECONDS) == 0


def _until_alive(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None
        try:
            _get(url)
        except OSError:
            time.sleep(PAUSE_SECONDS)
        else:
            return
    pytest.fail("the server did not answer in time")


def _get(url: str) -> dict[str, object]:
    try:
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return json.load(error)
