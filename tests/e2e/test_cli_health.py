"""`asr-gateway health` as a container's HEALTHCHECK, and the modules that a command loads.

Covers: app.cli.health, app.cli.main
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.main import COMMANDS
from tests.support.command import call
from tests.support.process import REPOSITORY
from tests.support.stub_server import answers, socket_server, upstream

pytestmark = pytest.mark.anyio

HEAVY = {"alembic", "fastapi", "httpx", "numpy", "sqlalchemy", "starlette"}


async def asked(url: str, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "GATEWAY_SERVER__PORT": url.rpartition(":")[2],
        "GATEWAY_SERVER__HOST": "0.0.0.0",  # noqa: S104 - the address of a container
    }
    return await asyncio.to_thread(
        lambda: call("health", *words, cwd=folder, environment=environment)
    )


async def test_a_running_gateway_is_healthy(tmp_path: Path) -> None:
    async with upstream(answers({"status": "ok"})) as there:
        told = await asked(there.url, tmp_path)
        assert [one.path for one in there.asked] == ["/healthz"]
    assert (told.returncode, told.stderr) == (0, "")
    at = there.url.removeprefix("http://")
    assert told.stdout == f"The gateway at {at} is alive.\n"


async def test_a_gateway_that_returns_an_error_is_not_healthy(tmp_path: Path) -> None:
    async with upstream(answers({}, "503 No")) as there:
        told = await asked(there.url, tmp_path)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.endswith(" answers 503.\n")


async def test_a_gateway_that_does_not_listen_is_not_healthy(tmp_path: Path) -> None:
    async with upstream(answers({})) as gone:
        pass
    told = await asked(gone.url, tmp_path)
    assert told.returncode == 1
    assert told.stderr.endswith(" does not answer (ConnectionRefusedError).\n")


async def test_a_gateway_that_does_not_answer_is_not_healthy(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with socket_server(silent) as url:
        told = await asked(url, tmp_path, "--timeout", "0.2")
    assert told.returncode == 1
    assert told.stderr.endswith(" has not answered for 0.2 s.\n")


@pytest.mark.parametrize("words", [["version"], ["health"]])
def test_a_short_command_loads_little(words: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['x', *{words}]\n"
        "import atexit; from app.cli.main import run\n"
        f"atexit.register(lambda: print('loaded', sorted({HEAVY} & set(sys.modules))))\n"
        "run()"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert told.stdout.endswith("loaded []\n"), told.stderr


SERVE = """
import asyncio, sys
from app.main import create_app
from app.settings import Settings

async def open_and_close():
    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        pass

asyncio.run(open_and_close())
loaded = {name for name, module in sys.modules.items() if module}
print(*sorted({"alembic", "pygments"} & loaded))
"""


def test_alembic_is_loaded_only_to_migrate_and_pygments_never(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "GATEWAY_DATA_DIR": str(tmp_path),
        "GATEWAY_LOCAL__ENABLED": "false",
    }
    for expected in ("alembic", ""):
        done = subprocess.run(
            [sys.executable, "-c", SERVE],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.splitlines()[-1:] == [expected], done.stderr


@pytest.mark.parametrize("name", [*COMMANDS, "serve", "version"])
def test_every_command_explains_itself(name: str, tmp_path: Path) -> None:
    told = call(name, "--help", cwd=tmp_path, environment={})
    assert told.returncode == 0
    assert f" {name} " in told.stdout
    assert "--install-completion" not in told.stdout
