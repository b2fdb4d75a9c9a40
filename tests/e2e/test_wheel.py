"""A wheel in an empty environment and folder is complete: it migrates, serves and transcribes."""

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import ProviderSimulator, Script
from tests.support.dockerfile import ROOT
from tests.support.linked_pip import link, locked
from tests.support.process import until

pytestmark = pytest.mark.anyio
START_SECONDS = 60
WORDS = "欢迎使用语音识别。"
SAMPLE = ROOT / "app" / "cli" / "sample.flac"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the lock file's packages and a wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    wheels, environment = folder / "wheels", folder / "environment"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(venv, check=True, capture_output=True)
    (site,) = environment.glob("lib/python*/site-packages")
    for requirement in locked(ROOT / "requirements" / "run.txt"):
        link(requirement, site)
    (wheel,) = wheels.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return environment / "bin"


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Environment variables for an empty folder and a simulator that returns WORDS."""
    async with ProviderSimulator(words=Script(WORDS)) as simulator:
        yield {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "GATEWAY_SERVER__PORT": "0",
            "GATEWAY_LOG__FORMAT": "json",
            "DASHSCOPE_API_KEY": simulator.key,
            "GATEWAY_DASHSCOPE__BASE_URL": simulator.url,
        }


async def test_an_installed_wheel_migrates_serves_and_transcribes(
    programs: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    await asyncio.to_thread(_use, programs, environment, tmp_path)


def _use(programs: Path, environment: dict[str, str], folder: Path) -> None:
    empty = folder / "empty"
    empty.mkdir()
    origin = [str(programs / "python"), "-c", "import app; print(app.__file__)"]
    found = subprocess.run(origin, cwd=empty, env=environment, capture_output=True, text=True)  # noqa: PLW1510
    assert Path(found.stdout.strip()).is_relative_to(programs.parent)
    with _serving(programs, environment, empty) as base:
        assert _get(f"{base}/healthz") == {"status": "ok"}
        assert _get(f"{base}/readyz")["ready"] is True
        assert "createTranscription" in json.dumps(_get(f"{base}/openapi.json"))
        with urllib.request.urlopen(f"{base}/docs") as page:
            assert b"swagger" in page.read()
        told = _command(programs, environment, empty, "transcribe", ASR_GATEWAY_URL=base)
    assert (empty / "data" / "gateway.db").is_file()
    assert (told.returncode, told.stdout) == (0, f"{WORDS}\n"), told.stderr
    alone = _command(programs, environment, empty, "transcribe")
    assert (alone.returncode, alone.stdout) == (0, f"{WORDS}\n"), alone.stderr


def _command(
    programs: Path, environment: dict[str, str], folder: Path, name: str, **more: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(programs / "asr-gateway"), name, str(SAMPLE)],
        cwd=folder,
        env={**environment, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )


@contextmanager
def _serving(programs: Path, environment: dict[str, str], folder: Path) -> Iterator[str]:
    log = folder.parent / "log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            [str(programs / "asr-gateway"), "serve"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        port = until(lambda: _port(server, log), START_SECONDS, "it listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        assert server.wait(START_SECONDS) == 0


def _port(server: "subprocess.Popen[bytes]", log: Path) -> int | None:
    assert server.poll() is None, log.read_text()
    for line in log.read_text().splitlines():
        if '"server.listening"' in line:
            port: int = json.loads(line)["port"]
            return port
    return None


def _get(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        found = json.load(error)
    return found
