"""Machines on which a gateway refuses to start: no decoder, no model folder, a closed data folder.

Covers: app.audio.decoder_check, app.audio.storage.data_folder
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.audio.storage.data_folder import data_folder_problem
from app.lifespan import StartRefusedError, preflight
from app.settings import AudioSettings, LocalEngineSettings, Settings
from tests.support.captured_log import capture_logs
from tests.support.gateway import Gateway

pytestmark = pytest.mark.anyio
OTHER_USER = 54321
ROOT = Path(__file__).parents[2]


def refusal(tmp_path: Path, **groups: object) -> str:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", **groups)  # type: ignore[call-arg, arg-type]
    with pytest.raises(StartRefusedError) as refused:
        asyncio.run(preflight(settings))
    return str(refused.value)


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (lambda _: "/usr/bin/nope", "The decoder /usr/bin/nope is not there."),
        (lambda _: "nope", "The decoder nope is not there."),
        (lambda _: "bin/ffmpeg", "The decoder bin/ffmpeg is not an absolute path."),
        (str, "is not there."),
        (
            lambda folder: executable(folder / "a", "no program"),
            "cannot be run (Exec format error).",
        ),
        (
            lambda folder: executable(folder / "b", "#!/bin/sh\necho file pipe\n"),
            "is not an ffmpeg with the fd: protocol.",
        ),
    ],
)
def test_a_decoder_that_cannot_be_used_refuses_the_start(
    tmp_path: Path, program: Callable[[Path], str], said: str
) -> None:
    """CASES 30: the gateway started, was ready, and answered 500 to every upload."""
    found = refusal(tmp_path, audio=AudioSettings(ffmpeg=program(tmp_path)))
    assert said in found
    assert found.endswith("or set GATEWAY_AUDIO__FFMPEG to an ffmpeg with the fd: protocol.")


async def test_a_decoder_that_disappears_makes_the_gateway_unready(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CASES 30: /readyz did not name the decoder."""
    program = executable(tmp_path / "ffmpeg", "#!/bin/sh\n")
    monkeypatch.setitem(
        vars(gateway.services.settings), "audio", AudioSettings(ffmpeg=program, min_free_bytes=0)
    )
    assert (await gateway.get("/readyz")).status_code == httpx.codes.OK
    await asyncio.to_thread(Path(program).unlink)
    response = await gateway.get("/readyz")
    assert response.status_code == httpx.codes.SERVICE_UNAVAILABLE
    unmet = {check["name"]: check["unmet"] for check in response.json()["checks"]}
    assert unmet["decoder"] == f"The decoder {program} is not there"


def test_a_folder_of_models_that_does_not_exist_refuses_the_start(tmp_path: Path) -> None:
    """CASES §5: the setting was ignored, and the model was downloaded."""
    said = refusal(tmp_path, local=LocalEngineSettings(model_dir="/nope"))
    assert said == "GATEWAY_LOCAL__MODEL_DIR: there is no folder /nope."


CHECK = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from app.audio.storage.data_folder import data_folder_problem
os.setuid(int(sys.argv[3]))
print(". ".join(data_folder_problem(Path(sys.argv[2]))))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of another user")
@pytest.mark.parametrize("closed", ["", "audio", "audio/incoming"])
def test_a_folder_that_is_closed_to_the_user_is_named_with_the_remedy(closed: str) -> None:
    """CASES §5: `serve` said "The database cannot be used (DatabaseUnavailable)"."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        for name in ("data", "data/audio", "data/audio/incoming"):
            Path(root, name).mkdir()
            os.chown(Path(root, name), OTHER_USER, OTHER_USER)
        folder = Path(root, "data", closed)
        os.chown(folder, 0, 0)
        shown = subprocess.run(
            [sys.executable, "-c", CHECK, str(ROOT), f"{root}/data", str(OTHER_USER)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert shown == (
        f"{folder} cannot be written to by user {OTHER_USER} (Permission denied). "
        f"Make it writable for that user (chown -R {OTHER_USER} {folder}), "
        "or set GATEWAY_DATA_DIR to another folder.\n"
    )


def test_a_data_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    said = refusal(tmp_path)
    assert said.startswith(
        f"{tmp_path / 'data'} cannot be written to by user {os.getuid()} (Not a "
    )
    assert said.endswith("or set GATEWAY_DATA_DIR to another folder.")


def test_a_check_of_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    assert data_folder_problem(tmp_path / "a" / "b") is None
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_is_open_to_all_is_a_warning(
    tmp_path: Path,
) -> None:
    """ATTACKS L10: a folder of mode 0777 was used in silence."""
    folder = tmp_path / "data"
    folder.mkdir()
    settings = Settings(_env_file=None, data_dir=folder)  # type: ignore[call-arg]
    folder.chmod(0o777)
    with capture_logs() as lines:
        asyncio.run(preflight(settings))
    assert [line["folder"] for line in lines if line["event"] == "start.folder_open_to_all"] == [
        str(folder)
    ]
    folder.chmod(0o700)
    with capture_logs() as lines:
        asyncio.run(preflight(settings))
    assert lines == []
