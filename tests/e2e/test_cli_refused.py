"""A command that cannot run prints one sentence to stderr, with an exit code and no traceback."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import call, run
from tests.support.gateway import speech
from tests.support.process import GatewayProcess

NOBODY = "tr_" + "0" * 32


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a caller with a key of a running gateway."""
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"))
    with process.gone_at_the_end():
        process.start()
        environment = process.environment()
        made = call(
            "keys", "create", "tests", "--json", cwd=process.folder, environment=environment
        )
        key = json.loads(made.stdout)["key"]
        yield environment | {"ASR_GATEWAY_URL": process.url, "ASR_GATEWAY_KEY": key}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").write_bytes(speech(1))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear all")
    return tmp_path


REJECTED = {
    "no such file": (2, ["transcribe", "absent.wav"], {}, "no file or folder absent.wav"),
    "a folder without audio": (2, ["transcribe", "letters"], {}, "letters holds no audio"),
    "nothing at all": (2, ["transcribe"], {}, "Name at least one recording"),
    "an unknown format": (2, ["transcribe", "a.wav", "--format", "doc"], {}, "no format 'doc'"),
    "a folder that cannot be written to": (
        *(2, ["transcribe", "a.wav", "--output-dir", "a.wav/out"], {}),
        "Nothing can be written to the output folder a.wav/out",
    ),
    "an address that is none": (
        *(2, ["transcribe", "a.wav"], {"ASR_GATEWAY_URL": "gateway.local:8000"}),
        "ASR_GATEWAY_URL is not the address",
    ),
    "another scheme": (
        *(2, ["jobs", "list"], {"ASR_GATEWAY_URL": "ftp://localhost"}),
        "ASR_GATEWAY_URL is not the address",
    ),
    "a port that is none": (
        *(2, ["usage"], {"ASR_GATEWAY_URL": "http://localhost:port"}),
        "ASR_GATEWAY_URL is not the address",
    ),
    "a wrong key": (
        *(1, ["transcribe", "a.wav"], {"ASR_GATEWAY_KEY": "gw_live_wrong"}),
        "The API key is not valid",
    ),
    "no key": (1, ["jobs", "list"], {"ASR_GATEWAY_KEY": ""}, "ASR_GATEWAY_KEY"),
    "a key that is no text": (2, ["usage"], {"ASR_GATEWAY_KEY": "schlüssel"}, "ASR_GATEWAY_KEY"),
    "an unknown id": (1, ["jobs", "show", NOBODY], {}, f"no transcription '{NOBODY}'"),
    "an id that is none": (1, ["jobs", "cancel", "../models"], {}, "no transcription '../models'"),
    "an id that is empty": (1, ["jobs", "show", ""], {}, "no transcription ''"),
    "a key without a name": (2, ["keys", "create", " "], {}, "A key needs a name"),
    "a link of another kind": (2, ["transcribe", "ftp://h.example/a.wav"], {}, "only https://"),
    "a moment that is none": (
        *(1, ["usage", "--since", "yesterday"], {}),
        "a moment of RFC 3339, such as 2026-11-21T00:00:00Z",
    ),
    "an unknown model": (
        *(1, ["transcribe", "a.wav", "--model", "nobody/knows"], {}),
        "There is no model 'nobody/knows'",
    ),
}


@pytest.mark.parametrize("case", REJECTED.values(), ids=REJECTED.keys())
def test_bad_input_is_one_sentence(
    gateway: dict[str, str],
    folder: Path,
    case: tuple[int, list[str], dict[str, str], str],
) -> None:
    code, words, more, sentence = case
    done = call(*words, cwd=folder, environment=gateway, **more)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_process_of_its_own_ends_without_a_traceback(
    gateway: dict[str, str], folder: Path
) -> None:
    done = run("transcribe", "absent.wav", cwd=folder, environment=gateway)
    assert (done.returncode, done.stderr) == (2, "There is no file or folder absent.wav.\n")


def test_the_error_names_a_gateway_that_does_not_answer(
    folder: Path, gateway: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = f"http://user:secret@127.0.0.1:{port}"
    done = call("transcribe", "a.wav", cwd=folder, environment=gateway, ASR_GATEWAY_URL=away)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"No gateway answers at http://127.0.0.1:{port}: start it with `asr-gateway serve`, "
        "or correct ASR_GATEWAY_URL.\n"
    )


def test_something_else_at_the_address_is_no_gateway(folder: Path, gateway: dict[str, str]) -> None:
    elsewhere = gateway["ASR_GATEWAY_URL"] + "/docs"
    done = call("jobs", "list", cwd=folder, environment=gateway, ASR_GATEWAY_URL=elsewhere)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
