"""A streamed call that is cancelled behind its words is charged: the caller has heard them.

Covers: app.jobs.cancel
"""

import asyncio

import pytest

from app.billing.tables import ledger_line
from app.jobs.tables import upstream_call
from tests.support.gateway import NANO_PER_SECOND, Gateway, speech
from tests.support.job_records import JobRecords, snapshot
from tests.support.sse_client import sent, text_of

pytestmark = pytest.mark.anyio
BOUND = 2 * NANO_PER_SECOND


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("deed", ["cancel", "delete", "hang up"])
async def test_a_cancelled_call_whose_text_was_heard_is_charged(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, deed: str, *, is_stored: bool
) -> None:
    """ATTACKS M1: at its largest cost, marked as estimated, whether its text is stored or not."""
    monkeypatch.setattr("app.jobs.streaming.hub.SAVE_SECONDS", 0.01 if is_stored else 600)
    engine = gateway.engine
    engine.pieces, engine.text, engine.gate = ["one ", "two"], "one two", asyncio.Event()
    options = {"mode": "stream", "on_disconnect": "cancel"}
    async with sent(gateway, speech(2), **options) as heard:
        await heard.until(lambda events: text_of(events) == "one two")
        if is_stored:
            await asyncio.sleep(0.2)
        path = f"/v1/transcriptions/{heard.events[0].data['id']}"
        if deed == "cancel":
            said = (await gateway.client.post(f"{path}/cancel")).json()
            assert (said["charged"]["nano"], said["in_doubt"]["nano"]) == (BOUND, 0)
        elif deed == "delete":
            assert (await gateway.client.delete(path)).status_code == 204
    async with asyncio.timeout(10):
        while not (lines := await gateway.rows(ledger_line, kind="settle")):
            await asyncio.sleep(0.01)
    (call,) = await gateway.rows(upstream_call)
    assert (call["state"], call["billed"], call["error_kind"]) == ("failed", "yes", "cancelled")
    assert [(line["nano"], line["used_ms"], line["estimated"]) for line in lines] == [
        (BOUND, 2000, True)
    ]
    records = JobRecords(await gateway.services.db.read(snapshot))
    assert list(records.violations()) == []


async def test_a_call_without_words_stays_in_doubt(gateway: Gateway) -> None:
    """ATTACKS M1: nothing was heard, so only the provider's bill shows whether it costs money."""
    gateway.engine.gate = asyncio.Event()
    async with sent(gateway, speech(2), mode="stream") as heard:
        async with asyncio.timeout(10):
            while not gateway.engine.calls:
                await asyncio.sleep(0.01)
        path = f"/v1/transcriptions/{heard.events[0].data['id']}"
        said = (await gateway.client.post(f"{path}/cancel")).json()
    assert (said["charged"]["nano"], said["in_doubt"]["nano"]) == (0, BOUND)
