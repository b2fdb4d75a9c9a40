"""Conditions under which a gateway refuses to start, each with one sentence, before it listens.

Covers: app.access.keys, app.lifespan, app.serve
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.access.keys import create_key
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.db.migrate import open_database
from app.kit.clock import utc_now
from app.lifespan import StartRefusedError, preflight
from app.serve import serve
from app.settings import Settings
from tests.support.gateway import code_of, running, settings_for
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio
OLD, NEW = "an old secret", "a new secret"
TIMEOUT_SECONDS = 60


def settings_with(url: str, folder: Path, *peppers: str, **server: Any) -> Settings:
    return settings_for(
        url, folder, access={"peppers": list(peppers)}, server={"port": 0, **server}
    )


@pytest.fixture
def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Settings], str]:
    """Start a server with these settings and return its message, which must be one sentence."""
    monkeypatch.setattr("app.serve.configure", lambda **_: None)  # the log belongs to the test

    def refused(settings: Settings) -> str:
        capsys.readouterr()
        assert serve(settings) == 1
        said = capsys.readouterr().err
        assert said.endswith((".\n", "keys create NAME\n")), said
        assert said.count("\n") == 1, said
        return said

    return refused


def preflighted(settings: Settings) -> None:
    asyncio.run(preflight(settings))


def key_made(url: str, pepper: str) -> str:
    async def make() -> str:
        async with open_database(url) as db:
            now = utc_now()
            project = await db.write(ensure_project, DEFAULT_PROJECT, now=now)
            made = await db.write(
                create_key,
                project_id=project,
                name="a test's",
                scopes=["read"],
                pepper=pepper.encode(),
                now=now,
            )
            return made.secret

    return asyncio.run(make())


# ── two folders, two secrets ────────────────────────────────────────────────────────────────


def test_the_same_folder_is_accepted_repeatedly(database_url: str, tmp_path: Path) -> None:
    for _ in range(3):
        preflighted(settings_with(database_url, tmp_path / "data"))


def test_another_folder_than_the_first_ones_is_refused(
    database_url: str, tmp_path: Path, refusal: Callable[[Settings], str]
) -> None:
    preflighted(settings_with(database_url, tmp_path / "first", OLD))
    said = refusal(settings_with(database_url, tmp_path / "second", OLD))
    assert "GATEWAY_DATA_DIR" in said
    preflighted(settings_with(database_url, tmp_path / "first", OLD))


def test_a_copy_of_the_folder_is_the_same_folder(database_url: str, tmp_path: Path) -> None:
    """The identity of a folder is stored in it, so it can be moved to a larger disk."""
    preflighted(settings_with(database_url, tmp_path / "first"))
    (tmp_path / "first").rename(tmp_path / "moved")
    preflighted(settings_with(database_url, tmp_path / "moved"))


def test_another_secret_for_keys_is_refused_without_saying_it(
    database_url: str, tmp_path: Path, refusal: Callable[[Settings], str]
) -> None:
    preflighted(settings_with(database_url, tmp_path / "data", OLD))
    said = refusal(settings_with(database_url, tmp_path / "data", NEW))
    assert "GATEWAY_ACCESS__PEPPERS" in said
    assert NEW not in said
    assert "GATEWAY_ACCESS__PEPPERS" in refusal(settings_with(database_url, tmp_path / "data"))


def test_a_pepper_is_rotated_by_putting_the_new_one_first(
    database_url: str, tmp_path: Path, refusal: Callable[[Settings], str]
) -> None:
    folder = tmp_path / "data"
    preflighted(settings_with(database_url, folder, OLD))
    preflighted(settings_with(database_url, folder, NEW, OLD))
    preflighted(settings_with(database_url, folder, NEW))
    assert "GATEWAY_ACCESS__PEPPERS" in refusal(settings_with(database_url, folder, OLD))


def test_during_a_rotation_keys_of_both_peppers_are_valid(
    database_url: str, engine: ScriptedEngine, tmp_path: Path
) -> None:
    preflighted(settings_with(database_url, tmp_path / "data", OLD))
    keys = [key_made(database_url, OLD), key_made(database_url, NEW)]

    async def answers(*peppers: str) -> list[int]:
        settings = settings_with(database_url, tmp_path / "data", *peppers)
        await preflight(settings)
        async with running(settings, engine) as gateway:
            assert code_of(await gateway.get("/v1/models")) == (401, "key_missing")
            responses = [await gateway.get("/v1/models", key=key) for key in keys]
            return [response.status_code for response in responses]

    assert asyncio.run(answers(NEW, OLD)) == [200, 200]
    assert asyncio.run(answers(NEW)) == [401, 200]


def test_a_process_with_the_new_pepper_in_second_place_starts(
    database_url: str, tmp_path: Path
) -> None:
    """A process with the new secret in second place starts beside processes without it."""
    preflighted(settings_with(database_url, tmp_path / "data", OLD))
    preflighted(settings_with(database_url, tmp_path / "data", OLD, NEW))
    preflighted(settings_with(database_url, tmp_path / "data", OLD))


# ── addresses ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x/y",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://h:abc/x",
        "nonsense",
        "postgresql://user:hunter2@127.0.0.1:1/x",
        "sqlite:////proc/nowhere/x.db",
    ],
)
def test_a_database_that_cannot_be_used(
    url: str, tmp_path: Path, refusal: Callable[[Settings], str]
) -> None:
    said = refusal(settings_with(url, tmp_path / "data"))
    assert "GATEWAY_DATABASE__URL" in said
    assert "hunter2" not in said


def test_a_file_that_is_no_database(tmp_path: Path, refusal: Callable[[Settings], str]) -> None:
    (tmp_path / "letter.db").write_text("Dear reader, " * 100)
    said = refusal(settings_with(f"sqlite:///{tmp_path / 'letter.db'}", tmp_path / "data"))
    assert "GATEWAY_DATABASE__URL" in said


def test_a_data_folder_that_is_a_file(
    database_url: str, tmp_path: Path, refusal: Callable[[Settings], str]
) -> None:
    (tmp_path / "data").write_text("in the way")
    assert "GATEWAY_DATA_DIR" in refusal(settings_with(database_url, tmp_path / "data"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_beyond_loopback_a_key_is_needed(
    database_url: str, tmp_path: Path, refusal: Callable[[Settings], str], host: str
) -> None:
    settings = settings_with(database_url, tmp_path / "data", OLD, host=host)
    said = refusal(settings)
    assert host in said
    assert "asr-gateway keys create" in said
    key_made(database_url, OLD)
    preflighted(settings)


def test_a_second_process_on_the_same_file(
    migrated_sqlite: Path, tmp_path: Path, refusal: Callable[[Settings], str]
) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    settings = settings_with(url, tmp_path / "data")

    async def beside() -> str:
        async with open_database(url, exclusive=True):
            return await asyncio.to_thread(refusal, settings)

    assert "already serves one.db" in asyncio.run(beside())
    preflighted(settings)


async def test_a_refused_start_raises_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(StartRefusedError):
        await preflight(settings_with("mysql://x/y", tmp_path))


@pytest.mark.parametrize(
    "setting",
    [{"DATABASE__URL": "mysql://x/y"}, {"SERVER__HOST": "0.0.0.0"}],  # noqa: S104
)
def test_serve_prints_the_reason_and_exits_with_1(tmp_path: Path, setting: dict[str, str]) -> None:
    ours = {"DATA_DIR": str(tmp_path), "SERVER__PORT": "0", **setting}
    done = subprocess.run(
        [sys.executable, "-m", "app.serve"],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        env=os.environ | {f"GATEWAY_{name}": value for name, value in ours.items()},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVR__PORT", "1", "is not a setting; did you mean GATEWAY_SERVER__PORT?"),
        ("AUDIO__MAX_SECONDS", "12h", "must be a whole number of seconds, e.g. 43200."),
    ],
)
def test_a_wrong_setting_ends_the_start(
    tmp_path: Path, place: str, name: str, value: str, said: str
) -> None:
    """CASES §5: an unknown variable was ignored in silence, and the gateway started without it."""
    variables = {"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_SERVER__PORT": "0"}
    if place == ".env":
        (tmp_path / ".env").write_text(f"GATEWAY_{name}={value}\n")
    else:
        variables[f"GATEWAY_{name}"] = value
    done = subprocess.run(
        [sys.executable, "-m", "app.serve"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=TIMEOUT_SECONDS,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | variables,
    )
    assert (done.returncode, done.stdout) == (2, "")
    shown = f"GATEWAY_{name}{' in .env' if place == '.env' and name == 'SERVR__PORT' else ''}"
    assert done.stderr == f"{shown} {said}\n"


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:7890", "ftp://127.0.0.1:7890"])
def test_a_proxy_that_cannot_be_used_refuses_the_start_with_an_account(
    tmp_path: Path, proxy: str
) -> None:
    """CASES 3: with a DashScope key the start died with a traceback of 73 lines."""
    done = subprocess.run(
        [sys.executable, "-m", "app.serve"],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        env=os.environ
        | {
            "ALL_PROXY": proxy,
            "GATEWAY_DATA_DIR": str(tmp_path),
            "GATEWAY_SERVER__PORT": "0",
            "GATEWAY_DASHSCOPE__API_KEY": "sk-canary",
        },
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("ALL_PROXY ")
