"""Several provider accounts: which one is called when another fails, with which key and price.

Covers: app.billing.bill, app.jobs.reconcile, app.jobs.upstream.retry_policy, app.net.breaker,
app.speech.planning.failover
"""

import asyncio
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.billing.bill import read_bill
from app.billing.tables import ledger_line
from app.jobs.reconcile import BillScope, look
from app.jobs.tables import transcription, upstream_call
from app.jobs.upstream import retry_policy
from app.net.breaker import MIN_CALLS
from tests.simulator import ProviderSimulator, Script
from tests.simulator.bill import Line
from tests.simulator.counting import encode
from tests.support.gateway import Gateway, code_of
from tests.support.simulated_gateway import more_accounts, simulated_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
FIRST, SECOND = "cn-beijing", "ap-southeast-1"
REGIONS = (FIRST, SECOND)
NANO = {FIRST: 220_000, SECOND: 260_000}
ENGINES = {"dashscope": FIRST, "dashscope/intl": SECOND}
SOUND = encode([1, 2])
AT_ONCE = 8
ENDED = {"completed", "failed"}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without delays. The open time of a circuit breaker is not changed."""
    monkeypatch.setattr(retry_policy, "backoff_seconds", lambda error, _: error.retry_after or 0.01)


@pytest.fixture
def folder(migrated_sqlite: Path, tmp_path: Path) -> Path:
    shutil.copy(migrated_sqlite, tmp_path / "gateway.db")
    return tmp_path


def two() -> ProviderSimulator:
    return ProviderSimulator(regions=REGIONS, words=Script("heard"))


async def send_all(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    """Send this number of recordings concurrently and return the ended jobs."""

    async def one() -> dict[str, Any]:
        job_id = (await gateway.send(SOUND, wait="0")).json()["id"]
        await gateway.services.worker.wait(job_id, 120)
        return (await gateway.get(f"/v1/transcriptions/{job_id}")).json()

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def settled(gateway: Gateway) -> Counter[str]:
    """Return the settled amount of each region, by the engines of the calls."""
    made_on = {call["id"]: call["engine"] for call in await gateway.rows(upstream_call)}
    sums: Counter[str] = Counter()
    for line in await gateway.rows(ledger_line, kind="settle"):
        sums[ENGINES[made_on[line["call_id"]]]] += line["nano"]
    return sums


def billed(lines: list[Line]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for line in lines:
        sums[line.charge.region] += line.seconds * NANO[line.charge.region]
    return sums


def assert_keys_never_crossed(simulator: ProviderSimulator) -> None:
    for call in simulator.calls:
        assert call.headers["authorization"] == f"Bearer {simulator.key_of(call.region)}"
        assert not any(
            simulator.key_of(other) in str(call.headers)
            for other in REGIONS
            if other != call.region
        )


@pytest.mark.parametrize("how", ["answers 503", "is gone"])
async def test_jobs_complete_on_the_second_account_when_the_first_fails(
    database_url: str, tmp_path: Path, at_once: None, how: str
) -> None:
    async with (
        two() as simulator,
        simulated_gateway(
            simulator,
            tmp_path,
            database=database_url,
            jobs={"max_concurrent_jobs": AT_ONCE},
            **more_accounts(simulator, intl=SECOND),
        ) as gateway,
    ):
        alive = await send_all(gateway, 6)
        assert {call.region for call in simulator.calls} == {FIRST}
        asked = len(simulator.calls)
        if how == "is gone":
            await simulator.shut(FIRST)
        else:
            simulator.faults.down(FIRST)
        began = time.monotonic()
        after = await send_all(gateway, 30)
        seconds = time.monotonic() - began
        money, bill = await settled(gateway), billed(list(simulator.bill))
        report = await gateway.services.db.read(
            look, read_bill(bill_of(simulator, SECOND)), BillScope("dashscope/intl")
        )
        ready = (await gateway.get("/readyz")).json()
    assert [job["status"] for job in (*alive, *after)] == ["completed"] * 36
    assert [job["warnings"] for job in alive] == [[]] * 6
    for job in after:
        (warning,) = job["warnings"]
        assert warning["code"] == "failover_used"
        assert "dashscope/intl (ap-southeast-1)" in warning["detail"]
        assert job["cost"]["nano"] == 2 * NANO[SECOND]
    # The breaker opens after so many failures; those under way then are made too; then one probe
    # after each rest, the first of which is 15 s.
    to_the_dead = sum(call.region == FIRST for call in simulator.calls[asked:])
    probes = int(seconds / 15)
    assert to_the_dead <= (0 if how == "is gone" else MIN_CALLS + AT_ONCE - 1 + probes)
    assert_keys_never_crossed(simulator)
    assert money == bill
    assert set(bill) == set(REGIONS)
    assert report.differences == []
    assert report.recorded_nano == bill[SECOND]
    assert ready["ready"], ready


def bill_of(simulator: ProviderSimulator, region: str) -> str:
    """Return the bill of one account: the simulator writes those of all regions into one file."""
    head, *lines = simulator.bill_csv().splitlines()
    place = head.split(",").index("region")
    return "\n".join([head, *(line for line in lines if line.split(",")[place] == region)])


async def test_a_rejected_account_is_called_once_per_job(
    database_url: str, tmp_path: Path, at_once: None
) -> None:
    async with (
        two() as simulator,
        simulated_gateway(
            simulator,
            tmp_path,
            database=database_url,
            jobs={
                "max_concurrent_parts": 1
            },  # parts that are asked at once cannot know it of each other
            **more_accounts(simulator, intl=SECOND),
        ) as gateway,
    ):
        simulator.faults.down(FIRST, "arrearage")
        body = (await gateway.send(encode(range(250), pause_every=7))).json()
        states = [(row["engine"], row["state"]) for row in await gateway.rows(upstream_call)]
    assert body["status"] == "completed"
    assert "2 of 2 parts" in body["warnings"][0]["detail"]
    assert Counter(call.region for call in simulator.calls) == {FIRST: 1, SECOND: 2}
    assert states == [("dashscope", "failed"), *[("dashscope/intl", "answered")] * 2]
    assert_keys_never_crossed(simulator)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("data-inspection", (422, "engine_refused")),
        ("truncated-json", (502, "upstream_in_doubt")),
    ],
)
async def test_rejected_and_possibly_billed_calls_do_not_fail_over(
    folder: Path, at_once: None, fault: str, problem: tuple[int, str]
) -> None:
    async with (
        two() as simulator,
        simulated_gateway(simulator, folder, **more_accounts(simulator, intl=SECOND)) as gateway,
    ):
        simulator.faults.down(FIRST, fault)
        assert code_of(await gateway.send(SOUND)) == problem
    assert {call.region for call in simulator.calls} == {FIRST}


async def test_a_429_waits_and_does_not_fail_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.speech.engines.http.admission.BLOCK_SECONDS", 0.05)
    monkeypatch.setattr("app.jobs.upstream.retry_policy.LONGEST_PAUSE_SECONDS", 0.05)
    async with (
        two() as simulator,
        simulated_gateway(simulator, folder, **more_accounts(simulator, intl=SECOND)) as gateway,
    ):
        simulator.faults.next("429", times=6)
        body = (await gateway.send(SOUND)).json()
    assert (body["status"], body["warnings"]) == ("completed", [])
    assert [call.region for call in simulator.calls] == [FIRST] * 7


async def test_an_account_that_is_not_listed_or_has_another_currency_is_not_called(
    folder: Path, at_once: None
) -> None:
    async with (
        ProviderSimulator(regions=(*REGIONS, "us-east-1"), words=Script("heard")) as simulator,
        simulated_gateway(
            simulator,
            folder,
            **{**more_accounts(simulator, us="us-east-1", intl=SECOND), "failover": ("us",)},
        ) as gateway,
    ):
        simulator.faults.down(FIRST, "bad-key")
        assert code_of(await gateway.send(SOUND)) == (503, "engine_account")
        (job,) = await gateway.rows(transcription)
    assert job["fallbacks"] == []
    assert {call.region for call in simulator.calls} == {FIRST}


async def test_a_region_has_its_own_name_for_a_model(folder: Path) -> None:
    async with (
        ProviderSimulator(regions=("us-east-1",), words=Script("heard")) as simulator,
        simulated_gateway(simulator, folder, region="us-east-1") as gateway,
    ):
        body = (await gateway.send(SOUND)).json()
    assert (body["model"], body["cost"]["currency"]) == ("qwen3-asr-flash", "USD")
    assert [call.model for call in simulator.calls] == ["qwen3-asr-flash-us"]
    assert body["cost"]["nano"] == 2 * 35_000
