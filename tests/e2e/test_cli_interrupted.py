"""Ctrl-C in `transcribe`: on a terminal it asks, otherwise it keeps the jobs and prints their ids.

Covers: app.cli.signals, app.cli.transcribe.interrupted
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Child, begun
from tests.support.gateway import speech
from tests.support.process import GatewayProcess, until

SECONDS = 10.0
INTERRUPTED = 130
QUESTION = "[c]ancel, [L]eave"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose engine does not answer during the tests."""
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), delay_seconds=600)
    with process.gone_at_the_end():
        process.start()
        yield process


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for file in files:
        file.write_bytes(speech(1))
    return "transcribe", *map(str, files)


def jobs(gateway: GatewayProcess, folder: Path) -> list[dict[str, Any]]:
    """Return the jobs of the files in one test's folder."""
    with urllib.request.urlopen(f"{gateway.url}/v1/transcriptions") as got:
        found = json.load(got)["items"]
    return [job for job in found if job["reference"].startswith(f"{folder}/")]


def interrupted(child: Child, gateway: GatewayProcess, folder: Path) -> None:
    until(
        lambda: statuses(gateway, folder) == ["processing"] * 2,
        SECONDS * 3,
        "both are under way",
    )
    child.interrupt()


@pytest.fixture
def settings(gateway: GatewayProcess) -> dict[str, str]:
    return gateway.environment() | {"ASR_GATEWAY_URL": gateway.url}


def statuses(gateway: GatewayProcess, folder: Path) -> list[str]:
    return [job["status"] for job in jobs(gateway, folder)]


def test_on_a_terminal_it_asks_and_cancels(
    gateway: GatewayProcess, settings: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    with begun(*words, cwd=tmp_path, environment=settings, terminal=True) as child:
        interrupted(child, gateway, tmp_path)
        child.sees(QUESTION)
        assert "Cancel the 2 jobs under way" in child.told
        assert statuses(gateway, tmp_path) == ["processing"] * 2
        child.types("c\n")
        assert child.ended() == INTERRUPTED
    assert child.told.count("cancelled, charged 0 CNY") == 2, child.told
    assert statuses(gateway, tmp_path) == ["cancelled"] * 2
    assert "Traceback" not in child.told


@pytest.mark.parametrize("answer", ["l\n", "\n", "\x04"], ids=["leave", "enter", "end"])
def test_on_a_terminal_it_keeps_the_jobs_after_that_answer(
    gateway: GatewayProcess,
    settings: dict[str, str],
    words: tuple[str, ...],
    tmp_path: Path,
    answer: str,
) -> None:
    with begun(*words, cwd=tmp_path, environment=settings, terminal=True) as child:
        interrupted(child, gateway, tmp_path)
        child.sees(QUESTION)
        child.types(answer)
        assert child.ended() == INTERRUPTED
    assert_left(child, gateway, tmp_path)


def test_a_second_ctrl_c_keeps_the_jobs(
    gateway: GatewayProcess, settings: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    with begun(*words, cwd=tmp_path, environment=settings, terminal=True) as child:
        interrupted(child, gateway, tmp_path)
        child.sees(QUESTION)
        child.interrupt()
        assert child.ended() == INTERRUPTED
    assert_left(child, gateway, tmp_path)


def test_without_a_terminal_it_keeps_the_jobs_and_prints_their_ids(
    gateway: GatewayProcess, settings: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    with begun(*words, cwd=tmp_path, environment=settings, terminal=False) as child:
        interrupted(child, gateway, tmp_path)
        assert child.ended() == INTERRUPTED
    assert QUESTION not in child.told
    assert len(child.told.splitlines()) == 1, child.told
    assert_left(child, gateway, tmp_path)


def assert_left(child: Child, gateway: GatewayProcess, folder: Path) -> None:
    found = jobs(gateway, folder)
    assert [job["status"] for job in found] == ["processing"] * 2
    assert set(re.findall(r"tr_[0-9a-f]{32}", child.told)) == {job["id"] for job in found}
    assert "Traceback" not in child.told
