"""Failures of the engine, in the answer to the caller and in the ledger.

Covers: app.jobs.upstream.engine_errors
"""

import pytest

from app.billing.tables import ledger_line
from app.jobs.tables import transcription, upstream_call
from app.speech.engine import Billed, EngineError, ErrorKind
from tests.support.gateway import NANO_PER_SECOND, Gateway, code_of

pytestmark = pytest.mark.anyio
TOLD = {
    ErrorKind.UNAVAILABLE: (503, "engine_unavailable"),
    ErrorKind.RATE_LIMITED: (503, "engine_busy"),
    ErrorKind.ACCOUNT: (503, "engine_account"),
    ErrorKind.TIMEOUT: (504, "engine_timeout"),
    ErrorKind.NETWORK: (502, "engine_failed"),
    ErrorKind.REJECTED: (422, "engine_refused"),
    ErrorKind.MALFORMED: (502, "engine_failed"),
    ErrorKind.INTERNAL: (502, "engine_failed"),
}


async def money(gateway: Gateway) -> list[tuple[str, int]]:
    return [(line["kind"], line["nano"]) for line in await gateway.rows(ledger_line)]


@pytest.mark.parametrize("kind", ErrorKind)
async def test_a_failed_call_is_reported_and_free(
    gateway: Gateway, recording: bytes, kind: ErrorKind
) -> None:
    gateway.engine.errors = [EngineError(kind, "canary of the upstream")]
    response = await gateway.send(recording)
    assert code_of(response) == TOLD[kind]
    assert "canary" not in response.text
    (hold, held), (release, released) = await money(gateway)
    assert (hold, release, released) == ("hold", "release", held)
    job = (await gateway.get(f"/v1/transcriptions/{response.json()['transcription_id']}")).json()
    assert (job["status"], job["error"]["code"]) == ("failed", TOLD[kind][1])
    assert job["error"]["retryable"] is response.json()["retryable"]
    assert (job["cost"]["nano"], job["text"]) == (0, None)
    transcript = await gateway.get(f"/v1/transcriptions/{job['id']}/transcript")
    assert code_of(transcript) == (409, "transcription_without_text")


async def test_a_retryable_call_is_retried_and_paid_once(
    gateway: Gateway, recording: bytes
) -> None:
    hiccup = EngineError(ErrorKind.NETWORK, "x", retryable=True, retry_after=0.01)
    gateway.engine.errors = [hiccup]
    response = await gateway.send(recording)
    assert response.json()["text"] == "heard"
    calls = await gateway.rows(upstream_call)
    assert [call["state"] for call in calls] == ["failed", "answered"]
    assert [call["attempt"] for call in calls] == [1, 2]
    settles = [nano for kind, nano in await money(gateway) if kind == "settle"]
    assert settles == [2 * NANO_PER_SECOND]


async def test_a_call_is_tried_three_times_and_no_more(gateway: Gateway, recording: bytes) -> None:
    hiccup = EngineError(ErrorKind.TIMEOUT, "x", retryable=True, retry_after=0.01)
    gateway.engine.errors = [hiccup] * 5
    assert code_of(await gateway.send(recording)) == (504, "engine_timeout")
    assert len(await gateway.rows(upstream_call)) == len(gateway.engine.calls) == 3
    held = sum(nano for kind, nano in await money(gateway) if kind == "hold")
    assert (await money(gateway))[-1] == ("release", held)


async def test_a_call_that_may_have_been_billed_is_repeated_once(
    gateway: Gateway, recording: bytes
) -> None:
    lost = EngineError(
        ErrorKind.NETWORK, "x", retryable=True, retry_after=0.01, billed=Billed.MAYBE
    )
    gateway.engine.errors = [lost] * 5
    assert code_of(await gateway.send(recording)) == (502, "upstream_in_doubt")
    states = [row["state"] for row in await gateway.rows(upstream_call)]
    assert states == ["in_doubt", "in_doubt"]


@pytest.mark.settings(jobs={"in_doubt": "fail"})
async def test_with_in_doubt_fail_a_call_in_doubt_is_not_repeated(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.errors = [
        EngineError(ErrorKind.NETWORK, "x", retryable=True, retry_after=0.01, billed=Billed.MAYBE)
    ]
    assert code_of(await gateway.send(recording)) == (502, "upstream_in_doubt")
    assert len(gateway.engine.calls) == 1


async def test_a_failure_that_was_billed_is_settled_as_estimated_and_not_repeated(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.errors = [
        EngineError(ErrorKind.MALFORMED, "x", retryable=True, billed=Billed.YES)
    ]
    assert code_of(await gateway.send(recording)) == (502, "engine_failed")
    assert len(gateway.engine.calls) == 1
    assert [kind for kind, _ in await money(gateway)] == ["hold", "settle", "release"]


async def test_finished_parts_of_a_failed_job_stay_settled(
    gateway: Gateway,
) -> None:
    from tests.support.gateway import speech  # noqa: PLC0415

    gateway.engine.errors = []
    calls = gateway.engine.transcribe

    async def fails_later(request, on_delta=None):  # noqa: ANN001, ANN202
        if len(gateway.engine.calls) == 1:
            gateway.engine.errors = [EngineError(ErrorKind.REJECTED, "no more")]
        return await calls(request, on_delta)

    gateway.engine.transcribe = fails_later  # type: ignore[method-assign]
    response = await gateway.send(speech(9, start=0), model="scripted/short")
    assert code_of(response) == (422, "engine_refused")
    job = (await gateway.get(f"/v1/transcriptions/{response.json()['transcription_id']}")).json()
    answered = [call["usage"] for call in await gateway.rows(upstream_call) if call["usage"]]
    assert job["cost"]["nano"] == sum(one["seconds"] for one in answered) * NANO_PER_SECOND > 0
    sums: dict[str, int] = {}
    for kind, nano in await money(gateway):
        sums[kind] = sums.get(kind, 0) + nano
    assert sums["hold"] == sums["settle"] + sums["release"]


async def test_usage_without_a_report_is_estimated_and_marked(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.reports_usage = False
    body = (await gateway.send(recording)).json()
    settle = [line for line in await gateway.rows(ledger_line) if line["kind"] == "settle"]
    assert [(line["estimated"], line["used_ms"]) for line in settle] == [(True, 2_000)]
    assert body["usage"]["seconds"] == 2.0


async def test_a_crash_of_an_engine_is_an_internal_error(
    gateway: Gateway, recording: bytes
) -> None:
    gateway.engine.errors = [ZeroDivisionError("canary")]  # type: ignore[list-item]
    response = await gateway.send(recording)
    assert code_of(response) == (500, "internal_error")
    assert "canary" not in response.text
    assert [row["status"] for row in await gateway.rows(transcription)] == ["failed"]
    assert (await gateway.send(recording)).status_code == 200
