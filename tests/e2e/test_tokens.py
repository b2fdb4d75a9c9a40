"""Models with prices per token: the maximum is held, the reported tokens are settled.

Covers: app.access.stream_tokens, app.billing.bill, app.jobs.reconcile
"""

from pathlib import Path

import pytest

from app.billing.bill import read_bill
from app.billing.tables import ledger_line
from app.jobs.reconcile import BillScope, look
from app.jobs.tables import upstream_call
from tests.simulator import ProviderSimulator
from tests.simulator.counting import encode
from tests.support.gateway import code_of
from tests.support.simulated_gateway import more_accounts, simulated_gateway

pytestmark = pytest.mark.anyio
FLASH, REVIVED = "qwen-audio-3.1-asr-flash", "qwen-audio-asr"
PRICES = {"cn-beijing": (800, 2_700), "ap-southeast-1": (1_094, 3_427)}
FACTS = """
tokens_per_second = 25
max_output_tokens = 2048
"""
AGAIN = """
[models."qwen-audio-asr"]
engine = "dashscope"
upstream_model = "qwen-audio-asr"
wire = "qwen3"
title = "Back again"
part_seconds = 180
options = ["language", "context"]
context_tokens = 2000
{facts}
source = "an operator"
checked = 2026-11-21

[[models."qwen-audio-asr".prices]]
region = "cn-beijing"
unit = "input_token"
amount = "0.0000008"
currency = "CNY"
valid_from = 2026-01-01
source = "an operator"

[[models."qwen-audio-asr".prices]]
region = "cn-beijing"
unit = "output_token"
amount = "0.0000027"
currency = "CNY"
valid_from = 2026-01-01
source = "an operator"
"""


@pytest.mark.parametrize("model", [FLASH, REVIVED])
@pytest.mark.parametrize("context", [None, "Ada Lovelace, Zhang Wei, 北京"])
async def test_settled_tokens_equal_the_bill(
    database_url: str, tmp_path: Path, model: str, context: str | None
) -> None:
    async with (
        ProviderSimulator(revived=[REVIVED]) as simulator,
        simulated_gateway(
            simulator, tmp_path, database=database_url, models=AGAIN.format(facts=FACTS)
        ) as there,
    ):
        asked = {"context": context} if context else {}
        body = (await there.send(encode(range(250), pause_every=7), model=model, **asked)).json()
        lines = await there.rows(ledger_line)
        calls = await there.rows(upstream_call)
        report = await there.services.db.read(
            look, read_bill(simulator.bill_csv()), BillScope("dashscope")
        )
    charges = [line.charge for line in simulator.bill]
    tokens_in, tokens_out = PRICES["cn-beijing"]
    cost = sum(one.input_tokens * tokens_in + one.output_tokens * tokens_out for one in charges)
    assert len(charges) == 2
    assert body["cost"]["nano"] == cost > 0
    assert body["usage"]["tokens"] == sum(one.input_tokens + one.output_tokens for one in charges)
    assert not body["usage"]["estimated"]
    held = [line["nano"] for line in lines if line["kind"] == "hold"]
    assert len(held) == 1  # the job's own bound covers each of its calls
    assert held[0] >= sum(call["max_cost_nano"] for call in calls) >= cost
    for call, charge in zip(calls, charges, strict=True):
        used = charge.input_tokens * tokens_in + charge.output_tokens * tokens_out
        assert used <= call["max_cost_nano"]
    assert report.differences == []
    assert report.billed_nano == cost


async def test_silence_is_free_with_token_prices(database_url: str, tmp_path: Path) -> None:
    from tests.simulator import Script  # noqa: PLC0415

    async with (
        ProviderSimulator(words=Script("")) as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url) as there,
    ):
        body = (await there.send(encode([1, 2]), model=FLASH)).json()
    assert (body["status"], body["text"], body["cost"]["nano"]) == ("completed", "", 0)
    assert len(simulator.bill) == 0


async def test_tokens_without_bounds_are_refused_before_a_call(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        ProviderSimulator(revived=[REVIVED]) as simulator,
        simulated_gateway(
            simulator, tmp_path, database=database_url, models=AGAIN.format(facts="")
        ) as there,
    ):
        answer = await there.send(encode([1]), model=REVIVED)
    assert code_of(answer) == (503, "price_unknown")
    assert not simulator.calls


async def test_a_more_expensive_route_is_held_and_settled_at_its_own_token_prices(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        ProviderSimulator(regions=("cn-beijing", "ap-southeast-1")) as simulator,
        simulated_gateway(
            simulator,
            tmp_path,
            database=database_url,
            **more_accounts(simulator, intl="ap-southeast-1"),
        ) as there,
    ):
        simulator.faults.down("cn-beijing", "arrearage")
        body = (await there.send(encode([1, 2, 3]), model=FLASH)).json()
        holds = [line["nano"] for line in await there.rows(ledger_line, kind="hold")]
        (refused, answered) = await there.rows(upstream_call)
    (charge,) = [line.charge for line in simulator.bill]
    tokens_in, tokens_out = PRICES["ap-southeast-1"]
    used = charge.input_tokens * tokens_in + charge.output_tokens * tokens_out
    assert body["cost"]["nano"] == used
    assert refused["max_cost_nano"] < answered["max_cost_nano"] <= holds[0]
    assert len(holds) == 1


async def test_token_prices_are_listed_per_token(tmp_path: Path, database_url: str) -> None:
    async with (
        ProviderSimulator() as simulator,
        simulated_gateway(simulator, tmp_path, database=database_url) as there,
    ):
        models = (await there.get("/v1/models")).json()["items"]
    (flash,) = [model for model in models if model["id"] == FLASH]
    assert flash["ready"]
    assert flash["prices"][0] == {
        "unit": "input_token",
        "amount": "0.0000008",
        "currency": "CNY",
        "region": "cn-beijing",
    }
