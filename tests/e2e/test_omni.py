"""Qwen-Omni with the simulator: off by default, complete text, every token settled.

Covers: app.billing.bill, app.jobs.reconcile
"""

from pathlib import Path
from typing import Any

import pytest

from app.billing.bill import read_bill
from app.billing.tables import ledger_line
from app.jobs.reconcile import BillScope, look
from app.jobs.tables import upstream_call
from tests.simulator import ProviderSimulator
from tests.simulator.counting import Second, encode, joined, read
from tests.support.gateway import code_of
from tests.support.simulated_gateway import more_accounts, simulated_gateway

pytestmark = pytest.mark.anyio
FLASH = "qwen3-omni-flash"
MODELS = [
    FLASH,
    "qwen3.5-omni-flash",
    "qwen3.5-omni-plus",
    "qwen3.8-omni-flash",
    "qwen-omni-turbo",
]
# Nano-CNY for a token of sound, of text, and out.
PRICES = {
    FLASH: (15_800, 1_800, 12_700),
    "qwen3.5-omni-flash": (18_000, 18_000, 13_300),
    "qwen3.5-omni-plus": (53_000, 53_000, 40_000),
    "qwen3.8-omni-flash": (800, 800, 2_700),
    "qwen-omni-turbo": (25_000, 25_000, 4_500),
}


def bill_of(simulator: ProviderSimulator, model: str) -> int:
    sound, text, out = PRICES[model]
    return sum(
        (one.input_tokens - one.text_input_tokens) * sound
        + one.text_input_tokens * text
        + one.output_tokens * out
        for one in (line.charge for line in simulator.bill)
    )


def heard_in(body: dict[str, Any]) -> list[Second]:
    """Return the seconds that a transcript names; a second that was cut is joined."""
    return joined(read(body["text"]))


@pytest.mark.parametrize(
    ("model", "length"), [(model, 12) for model in MODELS] + [(FLASH, 250), (MODELS[-1], 200)]
)
async def test_text_and_tokens_are_those_of_the_simulator(
    database_url: str, tmp_path: Path, model: str, length: int
) -> None:
    numbers = range(length)
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url, omni=True) as there,
    ):
        asked = {"model": model, "language": "en", "context": "Ada Lovelace, 北京"}
        body = (await there.send(encode(numbers, pause_every=7), **asked)).json()
        lines = await there.rows(ledger_line)
        calls = await there.rows(upstream_call)
        report = await there.services.db.read(
            look, read_bill(simulator.bill_csv()), BillScope("dashscope")
        )
    assert body["status"] == "completed", body
    assert heard_in(body) == list(map(Second, numbers))
    assert (body["model"], body["language"]) == (model, "en")
    assert "may_paraphrase" in [warning["code"] for warning in body["warnings"]]
    cost = bill_of(simulator, model)
    assert body["cost"] == {**body["cost"], "nano": cost, "currency": "CNY"}
    assert cost > 0
    charges = [line.charge for line in simulator.bill]
    assert body["usage"]["tokens"] == sum(one.input_tokens + one.output_tokens for one in charges)
    assert not body["usage"]["estimated"]
    assert len(calls) == len(charges) == (1 if length == 12 else 2)
    (held,) = [line["nano"] for line in lines if line["kind"] == "hold"]
    assert held >= sum(call["max_cost_nano"] for call in calls) >= cost
    assert report.differences == []
    assert all(call.path == "/compatible-mode/v1/chat/completions" for call in simulator.calls)
    assert all(
        call.body["stream"] and call.body["modalities"] == ["text"] for call in simulator.calls
    )


async def test_short_audio_is_sent_as_received(database_url: str, tmp_path: Path) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url, omni=True) as there,
    ):
        body = (await there.send(encode([4, 5, 6]), model=FLASH)).json()
    assert body["plan"]["as_is"]
    assert heard_in(body) == [Second(4), Second(5), Second(6)]
    assert body["cost"]["nano"] == bill_of(simulator, FLASH)
    (call,) = simulator.calls
    assert call.seconds == pytest.approx(3)


@pytest.mark.parametrize("fault", ["cut-short", "error-in-stream", "truncated-json", "html-page"])
async def test_a_truncated_stream_is_retried_and_only_complete_text_is_returned(
    database_url: str, tmp_path: Path, fault: str
) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url, omni=True) as there,
    ):
        simulator.faults.next(fault)
        answer = await there.send(encode([7, 8, 9]), model=FLASH)
        lines = await there.rows(ledger_line, kind="settle")
    body = answer.json()
    if fault == "error-in-stream":  # the content was rejected: another format would not help
        assert code_of(answer) == (422, "engine_refused")
        assert not simulator.bill.lines
        return
    assert (body["status"], len(simulator.calls)) == ("completed", 2)
    assert heard_in(body) == [Second(7), Second(8), Second(9)]
    answered = sum(line["nano"] for line in lines)
    assert body["cost"]["nano"] == answered <= bill_of(simulator, FLASH)


async def test_another_account_offers_omni(database_url: str, tmp_path: Path) -> None:
    regions = ("cn-beijing", "ap-southeast-1")
    async with (
        ProviderSimulator(regions=regions) as simulator,
        simulated_gateway(
            simulator,
            tmp_path,
            database=database_url,
            omni=True,
            **more_accounts(simulator, intl="ap-southeast-1"),
        ) as there,
    ):
        simulator.faults.down("cn-beijing", "arrearage")
        body = (await there.send(encode([1, 2, 3]), model=FLASH)).json()
    (charge,) = [line.charge for line in simulator.bill]
    assert charge.region == "ap-southeast-1"
    assert body["cost"]["nano"] == charge.input_tokens * 27_962 + charge.output_tokens * 22_458
    assert {"may_paraphrase", "failover_used"} <= {one["code"] for one in body["warnings"]}


async def test_omni_is_off_by_default(database_url: str, tmp_path: Path) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url) as there,
    ):
        refused = await there.send(encode([1]), model=FLASH)
        models = {one["id"]: one for one in (await there.get("/v1/models")).json()["items"]}
    assert code_of(refused) == (503, "engine_disabled")
    assert "GATEWAY_DASHSCOPE__OMNI=true" in refused.json()["detail"]
    assert not simulator.calls
    assert [models[name]["ready"] for name in MODELS] == [False] * len(MODELS)
    assert "GATEWAY_DASHSCOPE__OMNI=true" in models[FLASH]["unmet"]
    assert models["qwen3-asr-flash"]["ready"]


async def test_omni_is_listed_as_ready_if_enabled(database_url: str, tmp_path: Path) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url, omni=True) as there,
    ):
        models = {one["id"]: one for one in (await there.get("/v1/models")).json()["items"]}
    assert all(models[name]["ready"] for name in MODELS)
    units = [price["unit"] for price in models[FLASH]["prices"][:3]]
    assert units == ["input_token", "text_input_token", "output_token"]
