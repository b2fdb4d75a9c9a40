"""The report of `doctor` about DashScope, which never contains the key.

Covers: app.cli.doctor.check, app.cli.doctor.dashscope
"""

import asyncio
import json
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from app.billing.prices import PriceRow, add_price
from app.cli.doctor.check import CheckResult
from app.cli.doctor.dashscope import check_dashscope
from app.db.migrate import open_database
from app.settings import Settings
from tests.support.stub_server import ReceivedRequest, Reply, answers, refuses, upstream

pytestmark = pytest.mark.anyio
KEY = "sk-canary-of-the-doctor"
NOBODYS = {"request_id": "r", "output": {"task_id": "t", "task_status": "UNKNOWN"}}


async def taken(asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    """Answer as DashScope answers a valid key, with the present time."""
    now = format_datetime(datetime.now(UTC), usegmt=True)
    await answers(NOBODYS, date=now)(asked, writer)


def settings_of(
    folder: Path, url: str = "", key: str = KEY, default_model: str = "", **dashscope: Any
) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        data_dir=folder,
        speech={"default_model": default_model},
        dashscope={"api_key": key, "base_url": url, **dashscope},
    )


async def found(settings: Settings) -> dict[str, CheckResult]:
    findings = [finding async for finding in check_dashscope(settings)]
    for finding in findings:
        assert "canary" not in repr(finding)
        assert finding.is_well or finding.remedy.endswith((".", "cn-beijing", "ap-southeast-1"))
    return {finding.name.removeprefix("dashscope "): finding for finding in findings}


async def found_at(folder: Path, reply: Reply, **dashscope: Any) -> dict[str, CheckResult]:
    async with upstream(reply) as there:
        findings = await found(settings_of(folder, there.url, **dashscope))
        assert len(there.asked) == 1
    return findings


async def test_a_valid_key_is_ok_after_one_free_request(tmp_path: Path) -> None:
    async with upstream(taken) as there:
        findings = await found(settings_of(tmp_path, f"{there.url}/api/v1"))
        (asked,) = there.asked
    assert asked.path.startswith("/api/v1/tasks/0000")
    assert (asked.headers["authorization"], asked.body) == (f"Bearer {KEY}", b"")
    assert {name: finding.mark for name, finding in findings.items()} == dict.fromkeys(
        ("key", "host", "account", "clock", "price", "prices"), "ok"
    )
    assert findings["host"].found == f"{there.url.removeprefix('http://')} (cn-beijing) answers"
    assert findings["price"].found == "qwen3-asr-flash costs 0.00022 CNY per second in cn-beijing"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (refuses("InvalidApiKey", "401 No"), "DashScope rejects the key (401 InvalidApiKey)"),
        (refuses("Arrearage", "400 No"), "DashScope denies access (400 Arrearage)"),
        (refuses("Workspace.AccessDenied", "403 No"), "DashScope denies access (403 Work"),
        (answers(b"<html>", "200 OK"), "the host answers 200, but not as DashScope does"),
        (answers(b"Not Found", "404 No"), "the host answers 404, but not as DashScope does"),
        (refuses("InternalError", "500 No"), "the host answers 500 InternalError, but not"),
    ],
)
async def test_a_rejected_key_is_a_problem(tmp_path: Path, reply: Reply, said: str) -> None:
    account = (await found_at(tmp_path, reply))["account"]
    assert account.mark == "ERROR"
    assert account.found.startswith(said)


@pytest.mark.parametrize("reply", [refuses("NotFound", "404 No"), refuses("Throttling", "429 No")])
async def test_any_other_error_of_dashscope_means_a_valid_key(tmp_path: Path, reply: Reply) -> None:
    assert (await found_at(tmp_path, reply))["account"].is_well


async def test_a_refused_key_may_be_of_another_region(tmp_path: Path) -> None:
    findings = await found_at(tmp_path, refuses("InvalidApiKey", "401 No"), region="us-east-1")
    assert "of another region" in findings["account"].remedy
    assert "(now us-east-1)" in findings["account"].remedy


@pytest.mark.parametrize(
    ("hours", "said"), [(1, "this machine is 3600 s behind"), (-1, "this machine is 3600 s ahead")]
)
async def test_a_clock_that_is_off_is_a_warning(tmp_path: Path, hours: int, said: str) -> None:
    theirs = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    clock = (await found_at(tmp_path, answers(NOBODYS, date=theirs)))["clock"]
    assert clock.mark == "warn"
    assert abs(int(clock.found.split()[3]) - int(said.split()[3])) < 30
    assert clock.found.split()[-1] == said.rsplit(maxsplit=1)[-1]


@pytest.mark.parametrize("date", ["", "yesterday"])
async def test_the_clock_is_not_checked_without_a_date_header(tmp_path: Path, date: str) -> None:
    assert "clock" not in await found_at(tmp_path, answers(NOBODYS, date=date))


async def test_an_unreachable_host_is_a_problem(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        host = (await found(settings_of(tmp_path, url)))["host"]
    assert host.mark == "ERROR"
    assert host.found.endswith("(cn-beijing) takes no connection")


async def test_a_proxy_in_the_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upstream(refuses("x", "502 No")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        host = (await found(settings_of(tmp_path, "http://dashscope.invalid")))["host"]
    assert host.found == "dashscope.invalid (cn-beijing, through a proxy) answers"


@pytest.mark.parametrize(
    ("key", "mark"), [("st-canary", "warn"), ("sk-sp-canary", "warn"), ("'sk-canary'", "ERROR")]
)
async def test_the_format_of_the_key_is_checked(tmp_path: Path, key: str, mark: str) -> None:
    async with upstream(taken) as there:
        findings = await found(settings_of(tmp_path, there.url, key))
    assert findings["key"].mark == mark
    assert ("account" in findings) is (mark == "warn")


async def test_a_missing_key_is_a_problem_only_if_the_engine_is_needed(tmp_path: Path) -> None:
    assert (await found(settings_of(tmp_path, key="")))["key"].is_well
    wanted = Settings(
        _env_file=None,  # type: ignore[call-arg]
        data_dir=tmp_path,
        speech={"default_model": "qwen3-asr-flash"},
    )
    assert (await found(wanted))["key"].mark == "ERROR"


async def test_a_model_without_a_price_in_the_region_is_wrong_until_one_is_set(
    tmp_path: Path,
) -> None:
    model, region = "fun-asr-flash-2026-06-15", "ap-southeast-1"
    settings = settings_of(tmp_path, region=region, key="' '", default_model=model)
    price = (await found(settings))["price"]
    assert price.mark == "ERROR"
    assert price.found == f"no price of {model} is in force in {region}"
    since = datetime.now(UTC) - timedelta(days=1)
    row = PriceRow(model, region, "second", 35_000, "USD", since, None, "test")
    async with open_database(settings.database_url) as db:
        await db.write(add_price, row)
    assert "0.000035 USD per second" in (await found(settings))["price"].found


@pytest.mark.parametrize(
    ("reply", "code"), [(taken, 0), (answers(NOBODYS), 0), (refuses("x", "401 No"), 1)]
)
async def test_the_command_prints_json_and_ends_accordingly(
    tmp_path: Path, reply: Reply, code: int
) -> None:
    async with upstream(reply) as there:
        ours = {
            "DASHSCOPE_API_KEY": KEY,
            "GATEWAY_DASHSCOPE__BASE_URL": there.url,
            "GATEWAY_DATA_DIR": str(tmp_path),
            "GATEWAY_AUDIO__MIN_FREE_BYTES": "0",
        }
        doctor = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cli.main", "doctor", "--json"),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | ours,
        )
        out, _ = await doctor.communicate()
    assert doctor.returncode == code, out
    told = json.loads(out)
    assert told["works"] is (code == 0)
    findings = {finding["name"]: finding for finding in told["findings"]}
    assert findings["dashscope key"]["found"] == "set in DASHSCOPE_API_KEY"
    assert (findings["dashscope account"]["status"] == "ok") is (code == 0)
    assert KEY.encode() not in out


async def test_every_bundle_that_jobs_may_end_on_is_examined(tmp_path: Path) -> None:
    async with upstream(taken) as first, upstream(refuses("InvalidApiKey", "401 No")) as second:
        intl = {"api_key": "sk-other", "region": "ap-southeast-1", "base_url": second.url}
        findings = await found(settings_of(tmp_path, first.url, accounts={"intl": intl}))
        assert [len(first.asked), len(second.asked)] == [1, 1]
    assert findings["account"].is_well
    assert findings["dashscope/intl account"].mark == "ERROR"
    assert "0.00026 CNY per second" in findings["dashscope/intl price"].found
