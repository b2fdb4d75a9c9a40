"""An estimate returns the expected plan, cost and wait of a request, and stores nothing.

Covers: app.api.v1.estimates
"""

import base64
from typing import Any

import httpx
import pytest

from app.audio.tables import audio
from app.billing.tables import ledger_line
from app.jobs.tables import event, transcription
from tests.support.gateway import NANO_PER_SECOND, Gateway, bearing, code_of, speech

pytestmark = pytest.mark.anyio
PATH = "/v1/estimates"


async def upload(gateway: Gateway, recording: bytes, **options: Any) -> httpx.Response:
    files = {"file": ("speech.wav", recording)}
    return await gateway.client.post(PATH, files=files, data=options)


async def ask(gateway: Gateway, **members: Any) -> httpx.Response:
    return await gateway.client.post(PATH, json=members)


async def assert_nothing_is_left(gateway: Gateway) -> None:
    for table in (transcription, audio, ledger_line, event):
        assert await gateway.rows(table) == []
    assert gateway.blobs() == []
    assert gateway.engine.calls == []


async def test_an_upload_is_inspected_and_deleted(gateway: Gateway) -> None:
    body = (await upload(gateway, speech(2.5))).json()
    assert (body["model"], body["engine"], body["region"]) == ("scripted/echo", "scripted", "test")
    assert (body["seconds"], body["parts"], body["requests"]) == (2.5, 1, 1)
    assert body["billed_seconds"] == 3
    assert body["cost"]["nano"] == 3 * NANO_PER_SECOND
    assert body["max_cost"]["nano"] >= body["cost"]["nano"]
    assert body["plan"]["kind"] == "direct"
    assert "120 s" in body["plan"]["reason"]
    (price,) = body["prices"]
    assert (price["unit"], price["amount"], price["source"]) == ("second", "0.00022", "made up")
    assert price["valid_from"].startswith("2026-01-01")
    await assert_nothing_is_left(gateway)


async def test_the_estimate_is_the_cost_of_the_transcription(gateway: Gateway) -> None:
    estimate = (await upload(gateway, speech(3))).json()
    body = (await gateway.send(speech(3))).json()
    (held,) = await gateway.rows(ledger_line, kind="hold")
    assert body["cost"] == estimate["cost"]
    assert held["nano"] == estimate["max_cost"]["nano"]
    assert body["plan"] == estimate["plan"]


async def test_a_data_uri_is_accepted(gateway: Gateway) -> None:
    uri = "data:audio/wav;base64," + base64.b64encode(speech(2)).decode()
    assert (await ask(gateway, audio=uri)).json()["seconds"] == 2
    await assert_nothing_is_left(gateway)


async def test_seconds_without_audio_are_accepted(gateway: Gateway) -> None:
    body = (await ask(gateway, seconds=3600, model="scripted/echo")).json()
    assert (body["plan"]["kind"], body["seconds"]) == ("split", 3600)
    assert body["parts"] == 34  # of 120 s, nine tenths full
    assert body["billed_seconds"] == 3600 + 33
    assert body["cost"]["nano"] == 3633 * NANO_PER_SECOND
    form = await gateway.client.post(PATH, data={"seconds": "3600"}, files={"x": ("", b"")})
    assert (form.status_code, form.json()["parts"]) == (200, 34)


async def test_a_url_is_not_fetched(gateway: Gateway) -> None:
    body = (await ask(gateway, url="https://example.org/speech.mp3")).json()
    unknown = [body[name] for name in ("seconds", "parts", "requests", "billed_seconds", "cost")]
    assert unknown == [None] * 5
    longest = gateway.settings.audio.max_seconds
    assert body["max_cost"]["nano"] >= longest * NANO_PER_SECOND
    assert body["wait"]["seconds"] is None
    assert body["wait"]["basis"]
    await assert_nothing_is_left(gateway)


async def test_the_wait_has_a_basis(gateway: Gateway) -> None:
    before = (await ask(gateway, seconds=10)).json()["wait"]
    assert before["measured_calls"] == 0
    assert before["seconds"] == before["seconds_per_call"] == 5.0
    assert "a default, no call was measured yet" in before["basis"]


async def test_exceeded_limits_are_warnings(gateway: Gateway) -> None:
    asked = {"seconds": 100, "max_cost": "0.02", "max_billable_seconds": 99}
    body = (await ask(gateway, **asked)).json()
    assert [one["code"] for one in body["warnings"]] == ["cost_above_limit"]
    body = (await ask(gateway, seconds=100, max_billable_seconds=99)).json()
    assert [one["code"] for one in body["warnings"]] == ["seconds_above_limit"]
    assert (await ask(gateway, seconds=100, max_cost="0.022 CNY")).json()["warnings"] == []


async def test_max_cost_limits_the_held_amount_unless_it_rejects(gateway: Gateway) -> None:
    asked = {"seconds": 500, "model": "scripted/echo"}
    free = (await ask(gateway, **asked)).json()
    cost = free["cost"]["nano"]
    assert cost < free["max_cost"]["nano"]
    kept = (await ask(gateway, **asked, max_cost=free["cost"]["amount"])).json()
    assert (kept["cost"], kept["max_cost"]["nano"]) == (free["cost"], cost)
    for limit in ({"max_cost": "0.0001"}, {"max_cost": "0.0001", "max_billable_seconds": 1}):
        refused = (await ask(gateway, **asked, **limit)).json()
        assert [one["code"] for one in refused["warnings"]] == ["cost_above_limit"]
        assert (refused["cost"], refused["max_cost"]) == (free["cost"], free["max_cost"])


async def test_openapi_has_the_maximum_of_seconds(gateway: Gateway) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    route = document["paths"][PATH]["post"]
    for body in route["requestBody"]["content"].values():
        longest = body["schema"]["properties"]["seconds"]["maximum"]
        assert (await ask(gateway, seconds=longest)).status_code == 200
        assert code_of(await ask(gateway, seconds=longest + 1)) == (422, "audio_too_long")


async def test_an_invalid_prefer_header_is_rejected(gateway: Gateway) -> None:
    response = await gateway.client.post(PATH, json={"seconds": 1}, headers={"Prefer": "wait=3601"})
    assert code_of(response) == (422, "invalid_parameter")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, "missing_audio"),
        ({"seconds": 0}, "invalid_parameter"),
        ({"seconds": -1}, "invalid_parameter"),
        ({"seconds": True}, "invalid_parameter"),
        ({"seconds": "soon"}, "invalid_parameter"),
        ({"seconds": [1]}, "invalid_parameter"),
        ({"seconds": {}}, "invalid_parameter"),
        ({"seconds": 43_201}, "audio_too_long"),
        ({"seconds": 10, "url": "https://example.org/a.mp3"}, "several_files"),
        ({"seconds": 10, "split": "off", "model": "scripted/nobody"}, "unknown_model"),
        ({"seconds": 500, "split": "off"}, "audio_too_long"),
        ({"url": "ftp://example.org/a.mp3"}, "url_not_allowed"),
        ({"audio": "data:;base64,bm8="}, "undecodable"),
        ({"seconds": 10, "model": "scripted/unpriced"}, "price_unknown"),
        ({"seconds": 10, "max_cost": "1e3"}, "invalid_parameter"),
        ({"seconds": 10, "max_cost": 0.5}, "invalid_parameter"),
        ({"seconds": 10, "max_cost": "0.50 USD"}, "invalid_parameter"),
    ],
)
async def test_rejected_audio_has_no_estimate(
    gateway: Gateway, members: dict[str, Any], code: str
) -> None:
    assert code_of(await ask(gateway, **members))[1] == code
    await assert_nothing_is_left(gateway)


async def test_it_needs_the_scope_of_a_transcription(gateway: Gateway) -> None:
    from app.access.principal import Scope  # noqa: PLC0415

    reader = bearing(await gateway.key(Scope.READ))
    response = await gateway.client.post(PATH, json={"seconds": 1}, headers=reader)
    assert code_of(response) == (403, "scope_missing")
