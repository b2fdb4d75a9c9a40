"""`asr-gateway jobs` and `usage` with a running gateway, and --json on every list.

Covers: app.cli.database, app.cli.jobs, app.cli.keys, app.cli.usage
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import call
from tests.support.gateway import speech
from tests.support.process import GatewayProcess


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a caller of a gateway with one completed and one failed job."""
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"))
    with process.gone_at_the_end():
        process.start()
        found = process.environment() | {"ASR_GATEWAY_URL": process.url}
        (process.folder / "a.wav").write_bytes(speech(2))
        done = call("transcribe", "a.wav", cwd=process.folder, environment=found)
        assert done.returncode == 0, done.stderr
        words = ("transcribe", "http://127.0.0.1:9/b.wav", "--async")
        assert call(*words, cwd=process.folder, environment=found).returncode == 1
        yield found


def ask(environment: dict[str, str], folder: Path, *words: str) -> str:
    done = call(*words, cwd=folder, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_jobs_are_listed_and_shown(environment: dict[str, str], tmp_path: Path) -> None:
    listed = json.loads(ask(environment, tmp_path, "jobs", "list", "--json"))
    (job,) = [job for job in listed if job["reference"] == "a.wav"]
    header, *rows = ask(environment, tmp_path, "jobs", "list").splitlines()
    assert header.split()[:3] == ["ID", "STATUS", "DONE"]
    (row,) = [row.split() for row in rows if "a.wav" in row]
    assert row[:6] == [job["id"], "completed", "100%", "2.0", "0.00044", "CNY"]
    shown = ask(environment, tmp_path, "jobs", "show", job["id"])
    assert shown.endswith("\nheard\n")
    answer = json.loads(ask(environment, tmp_path, "jobs", "show", job["id"], "--json"))
    assert answer["segments"]
    assert ask(environment, tmp_path, "jobs", "list", "--status", "queued", "--json") == "[]\n"


def test_a_rejected_cancel_or_retry_prints_the_reason(
    environment: dict[str, str], tmp_path: Path
) -> None:
    listed = json.loads(ask(environment, tmp_path, "jobs", "list", "--json"))
    (ended,) = [job["id"] for job in listed if job["reference"] == "a.wav"]
    for action, reason in (("cancel", "has ended already"), ("retry", "nothing to retry")):
        done = call("jobs", action, ended, cwd=tmp_path, environment=environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
        assert done.stderr.startswith(ended)


def test_usage_prints_seconds_and_costs_in_one_row(
    environment: dict[str, str], tmp_path: Path
) -> None:
    header, row = ask(environment, tmp_path, "usage", "--by", "model").splitlines()
    assert header.split() == ["MODEL", "TRANSCRIPTIONS", "SECONDS", "TOKENS", "COST"]
    assert row.split() == ["scripted/echo", "1", "2.0", "0", "0.00044", "CNY"]
    told = json.loads(ask(environment, tmp_path, "usage", "--json"))
    assert told["items"][0]["seconds"] == 2.0
    assert told["costs"][0]["amount"] == "0.00044"


@pytest.mark.parametrize("what", ["keys", "models", "prices"])
def test_lists_are_columns_or_json(environment: dict[str, str], tmp_path: Path, what: str) -> None:
    ask(environment, tmp_path, "keys", "list", "--json")
    rows = json.loads(ask(environment, tmp_path, what, "list", "--json"))
    header, *lines = ask(environment, tmp_path, what, "list").splitlines()
    assert header == header.upper()
    assert len(lines) == len(rows)


def test_commands_of_the_operator_print_json_as_well(tmp_path: Path) -> None:
    alone = GatewayProcess(tmp_path / "gateway").environment()
    made = json.loads(ask(alone, tmp_path, "keys", "create", "a phone", "--json"))
    gone = json.loads(ask(alone, tmp_path, "keys", "revoke", made["id"], "--json"))
    assert gone == {"id": made["id"], "revoked": True}
    words = ("prices", "set", "scripted/echo", "0.5", "--currency", "CNY", "--region", "test")
    assert json.loads(ask(alone, tmp_path, *words, "--json"))["amount"] == "0.5"
