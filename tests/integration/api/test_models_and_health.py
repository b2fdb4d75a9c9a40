"""Models, health and version of the gateway; secrets that its log never contains.

Covers: app.api.health, app.api.v1.models, app.speech.model_availability
"""

import logging

import pytest

from app import __version__
from app.speech.engine import EngineReadiness
from tests.support.captured_log import capture_logs
from tests.support.gateway import Gateway

pytestmark = pytest.mark.anyio


async def test_models_with_their_limits_and_prices(gateway: Gateway) -> None:
    items = {item["id"]: item for item in (await gateway.get("/v1/models")).json()["items"]}
    echo = items["scripted/echo"]
    assert (echo["is_default"], echo["ready"], echo["unmet"]) == (True, True, "")
    assert echo["prices"] == [
        {"unit": "second", "amount": "0.00022", "currency": "CNY", "region": "test"}
    ]
    assert echo["options"] == sorted(echo["options"])
    assert items["scripted/unpriced"]["prices"] == []
    assert items["local/base"]["ready"] is False
    assert "local engine is off" in items["local/base"]["unmet"]
    assert sum(item["is_default"] for item in items.values()) == 1


async def test_a_gateway_that_is_ready(gateway: Gateway) -> None:
    assert (await gateway.get("/healthz")).json() == {"status": "ok"}
    assert (await gateway.get("/version")).json()["version"] == __version__
    response = await gateway.get("/readyz")
    assert response.status_code == 200
    assert response.json()["ready"] is True
    names = [check["name"] for check in response.json()["checks"]]
    assert names == ["database", "store", "decoder", "scripted/echo", "accepting"]


async def test_a_gateway_that_is_not_ready_lists_the_reasons(gateway: Gateway) -> None:
    gateway.engine.readiness = lambda _model: EngineReadiness(False, "model downloading 43 %")  # type: ignore[method-assign]  # noqa: FBT003
    gateway.app.state.begin_shutdown()
    response = await gateway.get("/readyz")
    assert response.status_code == 503
    missing = {check["name"]: check["unmet"] for check in response.json()["checks"]}
    assert missing["scripted/echo"] == "model downloading 43 %"
    assert missing["accepting"] == "shutting down"
    assert (await gateway.get("/healthz")).status_code == 200


async def test_no_log_line_has_private_data(
    gateway: Gateway, recording: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="app")
    gateway.engine.text = "canary-words"
    key = await gateway.key()
    with capture_logs() as lines:
        sent = await gateway.send(
            recording,
            name="canary-name.wav",
            key=key,
            reference="canary-reference",
            context="canary-context",
        )
        path = f"/v1/transcriptions/{sent.json()['id']}"
        await gateway.get(f"{path}/transcript", key=key, format="srt")
        await gateway.get("/v1/transcriptions", key=key, reference="canary-reference")
        await gateway.send(b"canary-bytes", name="canary-name.wav", key=key)
        await gateway.send(recording, key=key, language="canary-tag")
        gateway.engine.errors = [ValueError("canary-crash")]  # type: ignore[list-item]
        await gateway.send(recording, key=key)
        await gateway.client.delete(path, headers={"Authorization": f"Bearer {key}"})
    assert sent.json()["text"] == "canary-words"
    assert {line["event"] for line in lines} >= {"http.request", "job.completed", "job.failed"}
    written = "\n".join(str({**line, "exc_info": None}) for line in lines) + caplog.text
    assert "canary" not in written
    assert key not in written
