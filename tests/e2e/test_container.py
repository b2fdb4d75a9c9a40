"""The Dockerfile's commands, its health check and its read-only root, without a container engine.

`bench/container.py` does the same with the real pip, which downloads; here a lock file is installed
by links to the packages of this environment. The image itself is not built.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.dockerfile import ROOT, Builder, Image, context, instructions
from tests.support.linked_pip import locked
from tests.support.process import until
from tests.support.read_only_root import Confined

SECONDS = 40.0
PIP = """#!/bin/sh
PYTHONPATH={root} exec {python} -m tests.support.linked_pip "$0" "$@"
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The result of the Dockerfile's default build."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-image-"))
    folder.chmod(0o755)  # for the image's own user
    pip = folder / "pip"
    pip.write_text(PIP.format(root=ROOT, python=sys.executable))
    pip.chmod(0o755)
    try:
        yield Builder(folder, pip=pip).build()
    finally:
        shutil.rmtree(folder)


def left_in(image: Image) -> set[tuple[str, int]]:
    """All files of the image's root, without its volumes, with their times of change."""
    return {
        (str(path), path.lstat().st_mtime_ns)
        for path in image.root.rglob("*")
        if not any(path.is_relative_to(volume) for volume in image.volumes)
    }


def test_the_image_serves_from_a_read_only_root_and_is_healthy(
    image: Image, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    confined = Confined(image, GATEWAY_SERVER__PORT=port)
    before = left_in(image)
    refused = confined.run(image.command)
    assert refused.returncode == 1
    assert "asr-gateway keys create NAME" in refused.stderr
    made = confined.run(["asr-gateway", "keys", "create", "me"])
    assert made.returncode == 0, made.stderr
    assert confined.run(image.health).returncode == 1

    server = confined.start(image.command, tmp_path / "log")
    try:
        until(lambda: is_healthy(confined, image, server), SECONDS, "it is healthy")
        doctor = confined.run(["asr-gateway", "doctor", "--json"])
        findings = {one["name"]: one for one in json.loads(doctor.stdout)["findings"]}
    finally:
        server.terminate()
        assert server.wait(SECONDS) == 0
    assert findings["port"]["found"].endswith("a gateway answers there already")
    assert findings["decoder"]["status"] == "ok"
    assert "pip install 'asr-gateway[local]'" in findings["local engine"]["remedy"]
    assert left_in(image) == before
    assert not confined.is_read_only or is_refused_a_file(confined, image)


def is_healthy(confined: Confined, image: Image, server: "subprocess.Popen[bytes]") -> bool:
    assert server.poll() is None
    return confined.run(image.health).returncode == 0


def is_refused_a_file(confined: Confined, image: Image) -> bool:
    return confined.run(["touch", str(image.workdir / "x")]).returncode != 0


def test_the_image_contains_the_cloud_set_without_build_tools(image: Image) -> None:
    assert not (image.root / "build").exists()
    have = 'import asyncpg, imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe() != "")'
    assert Confined(image).run(["python", "-c", have]).stdout == "True\n"
    lacks = Confined(image).run(["python", "-c", "import faster_whisper"])
    assert "ModuleNotFoundError" in lacks.stderr


def test_the_image_runs_as_a_fixed_user(image: Image) -> None:
    assert image.user == "10001:10001"
    assert image.command == ["asr-gateway", "serve"]
    assert image.health == ["asr-gateway", "health"]
    assert re.fullmatch(r"(--[a-z-]+=\d+s ?)+", image.health_flags)
    assert [image.root / "var/lib/gateway/data"] == image.volumes


def test_the_build_argument_selects_a_lock_file(tmp_path: Path) -> None:
    (run,) = [words for name, words in instructions(ROOT / "Dockerfile") if "EXTRAS" in words][1:]
    pip = "/opt/gateway/bin/pip"
    for extras, lock in {"cloud": "cloud", "local": "run", "rest": None}.items():
        told = subprocess.run(
            ["sh", "-ec", run.replace(pip, "echo")],
            env={"EXTRAS": extras},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (told.returncode == 0) is (lock is not None)
        assert lock is None or told.stdout.endswith(
            f"install --no-cache-dir --require-hashes -r requirements/{lock}.txt\n"
        )


@pytest.mark.parametrize("lock", ["cloud", "run"])
def test_a_lock_file_contains_all_requirements_of_its_set(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ["postgres"] if lock == "cloud" else ["postgres", "local"]
    asked = [*project["dependencies"]]
    for extra in extras:
        asked += project["optional-dependencies"][extra]
    names = {plain(re.split(r"[\[<>=; ]", one)[0]) for one in asked}
    found = {plain(one.name): one for one in locked(ROOT / "requirements" / f"{lock}.txt")}
    assert names <= found.keys()
    assert ("faster-whisper" in found) is (lock == "run")
    for name in names:
        assert version(name) in found[name].specifier, name


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def test_the_build_context_has_no_private_files() -> None:
    sent = {str(file.relative_to(ROOT)) for file in context(".")}
    copied = {"app/main.py", "migrations/env.py", "requirements/cloud.txt", "pyproject.toml"}
    assert copied <= sent
    for name in sent:
        assert not name.startswith((".env", ".git", "data/", "tests/", ".venv")), name
        assert "__pycache__" not in name


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_compose_uses_sqlite_and_with_one_variable_postgresql(
    compose: dict[str, Any],
) -> None:
    gateway = compose["services"]["gateway"]
    assert "profiles" not in gateway
    url = gateway["environment"]["GATEWAY_DATABASE__URL"]
    name, _, then = url.removeprefix("${").removesuffix("}").partition(":+")
    assert name == "POSTGRES_PASSWORD"
    assert then == "postgresql://gateway:${POSTGRES_PASSWORD}@postgres/gateway"
    assert gateway["depends_on"]["postgres"] == {"condition": "service_healthy", "required": False}
    postgres = compose["services"]["postgres"]
    assert postgres["profiles"] == ["postgres"]
    assert postgres["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert postgres["environment"]["POSTGRES_USER"] == "gateway"
    assert postgres["environment"]["POSTGRES_DB"] == "gateway"
    variables = set(re.findall(r"\$\{(\w+)(?![\w:]*:-)", json.dumps(compose)))
    assert variables == {"POSTGRES_PASSWORD"}  # all others have a default


def test_compose_has_a_read_only_root_no_capabilities_and_one_volume(
    compose: dict[str, Any],
) -> None:
    gateway = compose["services"]["gateway"]
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    assert gateway["ports"] == ["127.0.0.1:${PORT:-8000}:8000"]
    assert gateway["volumes"] == ["data:/var/lib/gateway/data"]
    assert set(compose["volumes"]) == {"data", "postgres"}
    assert gateway["build"]["args"] == {"EXTRAS": "${EXTRAS:-cloud}"}
