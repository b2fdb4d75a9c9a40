"""`max_cost` and `max_billable_seconds`: rejected before any cost, never exceeded later.

Covers: app.jobs.store.spending_limit, app.kit.money
"""

import asyncio
from typing import Any

import pytest

from app.audio.tables import audio
from app.billing.tables import ledger_line
from app.jobs.tables import transcription, upstream_call
from app.kit.money import format_nano
from app.speech.engine import Billed, EngineError, ErrorKind
from tests.support.gateway import NANO_PER_SECOND, Gateway, code_of, speech

pytestmark = pytest.mark.anyio
THREE_SECONDS = format_nano(3 * NANO_PER_SECOND)  # 0.00066
A_NANO_LESS = format_nano(3 * NANO_PER_SECOND - 1)


async def assert_nothing_is_left(gateway: Gateway) -> None:
    for table in (transcription, audio, ledger_line):
        assert await gateway.rows(table) == []
    assert gateway.blobs() == []
    assert gateway.engine.calls == []


@pytest.mark.parametrize("wanted", [THREE_SECONDS, f"{THREE_SECONDS} CNY"])
async def test_a_job_within_max_cost_is_completed(gateway: Gateway, wanted: str) -> None:
    body = (await gateway.send(speech(2.5), max_cost=wanted)).json()
    assert (body["status"], body["cost"]["nano"]) == ("completed", 3 * NANO_PER_SECOND)
    (held,) = await gateway.rows(ledger_line, kind="hold")
    assert held["nano"] == 3 * NANO_PER_SECOND  # not the bound of two seconds more


async def test_a_job_above_max_cost_is_rejected_before_any_cost(gateway: Gateway) -> None:
    response = await gateway.send(speech(2.5), max_cost=A_NANO_LESS)
    assert code_of(response) == (422, "cost_above_limit")
    body = response.json()
    assert body["estimate"] == {
        "amount": THREE_SECONDS,
        "currency": "CNY",
        "nano": 3 * NANO_PER_SECOND,
    }
    assert body["max_cost"] == A_NANO_LESS
    assert THREE_SECONDS in body["detail"]
    await assert_nothing_is_left(gateway)


async def test_a_job_above_max_billable_seconds_is_rejected(gateway: Gateway) -> None:
    response = await gateway.send(speech(2.5), max_billable_seconds="2")
    assert code_of(response) == (422, "seconds_above_limit")
    assert (response.json()["estimate_seconds"], response.json()["max_billable_seconds"]) == (3, 2)
    await assert_nothing_is_left(gateway)
    assert (await gateway.send(speech(2.5), max_billable_seconds="3")).status_code == 200


async def test_a_max_cost_in_another_currency_is_rejected(gateway: Gateway) -> None:
    response = await gateway.send(speech(2), max_cost="10 USD")
    assert code_of(response) == (422, "invalid_parameter")
    assert "CNY" in response.json()["detail"]
    await assert_nothing_is_left(gateway)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_cost", "1e-3"),
        ("max_cost", "-1"),
        ("max_cost", "0.0000000001"),
        ("max_cost", "1 yuan"),
        ("max_cost", "NaN"),
        ("max_billable_seconds", "0"),
        ("max_billable_seconds", "1.5"),
    ],
)
async def test_an_invalid_max_cost_is_rejected(gateway: Gateway, option: str, value: str) -> None:
    response = await gateway.send(speech(2), **{option: value})
    assert code_of(response) == (422, "invalid_parameter")
    assert response.json()["parameter"] == option
    await assert_nothing_is_left(gateway)


def lost() -> EngineError:
    """The error of a call that may have been billed."""
    return EngineError(
        ErrorKind.NETWORK, "lost", retryable=True, billed=Billed.MAYBE, retry_after=0.01
    )


def free() -> EngineError:
    return EngineError(ErrorKind.INTERNAL, "x", retryable=True, billed=Billed.NO, retry_after=0.01)


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("max_cost", THREE_SECONDS, "cost_above_limit"),
        ("max_billable_seconds", "5", "seconds_above_limit"),
    ],
)
async def test_a_call_that_could_exceed_max_cost_is_not_made(
    gateway: Gateway, option: str, value: str, code: str
) -> None:
    gateway.engine.errors = [lost()]
    response = await gateway.send(speech(3), **{option: value})
    assert code_of(response) == (422, code)
    (call,) = await gateway.rows(upstream_call)
    held = sum(line["nano"] for line in await gateway.rows(ledger_line, kind="hold"))
    assert call["state"] == "in_doubt"
    if option == "max_cost":
        assert held == 3 * NANO_PER_SECOND
    (row,) = await gateway.rows(transcription)
    assert (row["status"], row["error"]["code"]) == ("failed", code)


@pytest.mark.parametrize(
    "limit", [{"max_cost": format_nano(6 * NANO_PER_SECOND)}, {"max_billable_seconds": "6"}]
)
async def test_a_call_within_max_cost_is_repeated(gateway: Gateway, limit: dict[str, Any]) -> None:
    gateway.engine.errors = [lost()]
    body = (await gateway.send(speech(3), **limit)).json()
    assert body["status"] == "completed"
    held = sum(line["nano"] for line in await gateway.rows(ledger_line, kind="hold"))
    if "max_cost" in limit:
        assert held <= 6 * NANO_PER_SECOND


async def test_a_free_failed_call_is_repeated_within_max_cost(gateway: Gateway) -> None:
    gateway.engine.errors = [free(), free()]
    body = (await gateway.send(speech(3), max_cost=THREE_SECONDS)).json()
    assert (body["status"], body["cost"]["nano"]) == ("completed", 3 * NANO_PER_SECOND)


async def test_max_cost_covers_all_parts(gateway: Gateway) -> None:
    recording = speech(9, start=0)
    estimate = await gateway.client.post(
        "/v1/estimates", files={"file": ("a.wav", recording)}, data={"model": "scripted/short"}
    )
    cost = estimate.json()["cost"]
    assert estimate.json()["parts"] == 3
    body = (await gateway.send(recording, model="scripted/short", max_cost=cost["amount"])).json()
    assert body["status"] == "completed", body
    assert 0 < body["cost"]["nano"] <= cost["nano"]


async def test_max_cost_counts_calls_in_doubt_from_before_a_retry(gateway: Gateway) -> None:
    """ATTACKS M2: cancel and retry again and again makes no call above the limit."""
    gateway.engine.gate = asyncio.Event()
    sent = await gateway.send(speech(3), max_cost=format_nano(7 * NANO_PER_SECOND), mode="async")
    path = f"/v1/transcriptions/{sent.json()['id']}"
    for calls in (1, 2):
        async with asyncio.timeout(10):
            while len(gateway.engine.calls) < calls:
                await asyncio.sleep(0.01)
        assert (await gateway.client.post(f"{path}/cancel")).status_code == 200
        assert (await gateway.client.post(f"{path}/retry")).status_code == 202
    ended = await gateway.ended(sent.json()["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "cost_above_limit")
    assert len(gateway.engine.calls) == 2
    states = [call["state"] for call in await gateway.rows(upstream_call)]
    assert states == ["in_doubt", "in_doubt"]
