"""Streams of a job's events: sent as they happen, resumed at any process, ended correctly.

Covers: app.api.v1.events
"""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.access.principal import Scope
from app.jobs.tables import event, part, upstream_call
from app.speech.engine import Billed, EngineError, ErrorKind
from tests.support.gateway import Gateway, code_of, running, settings_for, speech
from tests.support.resumed_stream import ResumedStream, SseEvent
from tests.support.scripted_engine import ScriptedEngine
from tests.support.sse_client import followed, read_events, rows_of, sent, text_of, types_of

pytestmark = pytest.mark.anyio
PIECES = ["Good", " morning,", " 世界", "。", " It is", " ten", " o'clock", ".  "]
TEXT = "Good morning, 世界。 It is ten o'clock."


@pytest.fixture
def engine(engine: ScriptedEngine) -> ScriptedEngine:
    engine.pieces, engine.text = PIECES, "".join(PIECES)
    return engine


async def test_a_stream_sends_text_as_it_arrives(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(lambda events: text_of(events) == TEXT)
        assert heard.status == 200
        assert heard.headers["content-type"].startswith("text/event-stream")
        assert heard.headers["cache-control"] == "no-store, no-transform"
        assert heard.headers["x-accel-buffering"] == "no"
        assert bytes(heard.raw).startswith(b"retry: 1000\n\n")
        assert types_of(heard.events) == ["created", "delta"]
        engine.gate.set()
        events = await heard.end()
    assert text_of(events) == TEXT
    assert events[-1].type == "completed"
    shown = (await gateway.get(heard.headers["location"])).json()
    assert events[-1].data == {"language": "en", "coverage": 1.0, "transcription": shown}
    assert shown["text"] == TEXT
    assert shown["mode"] == "stream"
    assert events[0].data["id"] == shown["id"]
    assert len({one.id for one in events}) == len(events)


async def test_the_example_of_openapi_is_a_valid_stream(gateway: Gateway, recording: bytes) -> None:
    path = gateway.app.openapi()["paths"]["/v1/transcriptions/{id}/events"]["get"]
    example, _ = read_events(path["responses"]["200"]["content"]["text/event-stream"]["example"].encode())  # fmt: skip  # noqa: E501
    async with sent(gateway, recording, mode="stream") as heard:
        events = await heard.end()
    assert types_of(example) == types_of(events)
    both = list(zip(rows_of(example), rows_of(events), strict=True))
    assert [set(one.data) for one, _ in both] == [set(one.data) for _, one in both]
    shown, real = (one.data["transcription"] for one in both[-1])
    assert set(shown) == set(real)
    assert text_of(example) == shown["text"]


async def test_an_accept_header_selects_a_stream_unless_mode_is_set(
    gateway: Gateway, recording: bytes
) -> None:
    async with sent(gateway, recording, accept="text/event-stream") as heard:
        assert text_of(await heard.end()) == TEXT
    async with sent(gateway, recording, accept="text/event-stream", mode="sync") as heard:
        await heard.end()
    assert json.loads(heard.raw)["text"].strip() == TEXT


async def test_a_rejected_stream_request_receives_a_problem(gateway: Gateway) -> None:
    async with sent(gateway, b"", mode="stream") as heard:
        await heard.end()
    assert heard.status == 422
    assert json.loads(heard.raw)["code"] == "empty_audio"
    async with sent(gateway, b"x", mode="flow") as heard:
        await heard.end()
    assert "`mode` must be `auto`, `sync`, `async` or `stream`" in heard.raw.decode()


async def test_an_accept_header_does_not_override_async(gateway: Gateway, recording: bytes) -> None:
    async with sent(gateway, recording, accept="text/event-stream", **{"async": "true"}) as heard:
        await heard.end()
    assert heard.status == 202
    said = json.loads(heard.raw)
    assert said["mode"] == "async"
    assert (await gateway.ended(said["id"]))["text"].strip() == TEXT


async def test_a_stream_that_is_not_acceptable_is_not_sent(
    gateway: Gateway, recording: bytes
) -> None:
    async with sent(gateway, recording, accept="text/event-stream;q=0, */*") as heard:
        await heard.end()
    assert json.loads(heard.raw)["text"].strip() == TEXT


async def test_only_stream_jobs_request_a_stream_from_the_engine(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    job = (await gateway.send(recording)).json()["id"]
    assert await stored_text(gateway) == []
    async with followed(gateway, job) as heard:
        events = await heard.end()
    assert types_of(events)[0] == "created"
    assert "delta" not in types_of(events)
    assert events[-1].data["transcription"]["text"].strip() == TEXT


async def test_a_client_that_disconnects_at_any_byte_misses_and_repeats_nothing(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    """The recorded run has a failed attempt, so its text is sent, voided and sent again."""
    engine.late_error = EngineError(
        ErrorKind.UNAVAILABLE, "away", retryable=True, billed=Billed.NO, retry_after=0.05
    )
    engine.pace_seconds = 0.02
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(lambda events: "reset" in types_of(events))
        engine.late_error = None
        whole = await heard.end()
    raw, job = bytes(heard.raw), whole[0].data["id"]
    assert text_of(whole) == TEXT
    assert types_of(whole)[:4] == ["created", "delta", "reset", "delta"]
    rests = {"": whole}
    for offset in range(len(raw) + 1):
        begun, last = read_events(raw[:offset])
        if last not in rests:
            async with followed(gateway, job, last_id=last) as again:
                rests[last] = await again.end()
            assert again.status == (204 if begun[-1].type == "completed" else 200)
        kept = begun if last else []
        both = [*kept, *rests[last]]
        assert told(both) == told(whole), (offset, last)
        assert rows_of(both) == rows_of(whole), (offset, last)
    assert len(rests) == len(whole) + 1  # every event was the last one of a client


def told(events: list) -> str:  # type: ignore[type-arg]
    """Return all text that was sent, including voided text."""
    return "".join(one.data["text"] for one in events if one.type == "delta")


async def test_a_client_that_disconnects_during_a_stream_misses_nothing(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.pieces = [f"{number} " for number in range(150)]
    engine.text = "".join(engine.pieces)
    engine.pace_seconds = 0.004
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(lambda events: len(events) > 1)
    got, drops = heard.events, 0
    while got[-1].type != "completed":
        async with followed(gateway, got[0].data["id"], last_id=got[-1].id) as again:
            await again.until(lambda events: len(events) > 8 or (events[-1:] and events[-1].type == "completed"))  # fmt: skip  # noqa: E501
        got += again.events
        drops += 1
    assert drops > 1
    assert text_of(got) == engine.text.strip()
    assert [one.type for one in rows_of(got)].count("completed") == 1
    assert len({one.id for one in got}) == len(got)


async def test_text_of_a_failed_call_is_void(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.late_error = EngineError(ErrorKind.REJECTED, "never")
    async with sent(gateway, recording, mode="stream") as heard:
        events = await heard.end()
    assert types_of(events) == ["created", "delta", "reset", "failed"]
    assert text_of(events) == ""
    assert events[-1].data["code"] == "engine_refused"


async def test_text_that_differs_from_the_final_answer_is_void(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.text = "Something else."
    async with sent(gateway, recording, mode="stream") as heard:
        events = await heard.end()
    assert types_of(events)[:4] == ["created", "delta", "reset", "delta"]
    assert text_of(events) == "Something else." == events[-1].data["transcription"]["text"]


async def test_an_engine_without_streaming_sends_one_delta_at_the_end(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.pieces = ()
    async with sent(gateway, recording, mode="stream") as heard:
        assert text_of(await heard.end()) == TEXT


@pytest.mark.settings(stream={"heartbeat_seconds": 0.05})
async def test_an_idle_stream_receives_comments(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream") as heard:
        async with asyncio.timeout(10):
            while heard.raw.count(b": ping\n\n") < 3:
                await asyncio.sleep(0.01)
        engine.gate.set()
        assert text_of(await heard.end()) == TEXT


async def test_text_is_stored_while_it_is_sent(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    engine.pieces = ["x" * 1500, "y" * 1500]
    engine.text = "".join(engine.pieces)
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(lambda events: len(text_of(events)) == 3000)
        async with asyncio.timeout(10):
            while not (stored := await stored_text(gateway)):
                await asyncio.sleep(0.01)
        assert stored[0] == text_of(heard.events)[: len(stored[0])]
        engine.gate.set()
        events = await heard.end()
    rows = await gateway.rows(event)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert "".join(await stored_text(gateway)) == text_of(events)
    types = [row["type"] for row in rows]
    last_text = max(number for number, kind in enumerate(types) if kind == "delta")
    assert types[:2] == ["created", "delta"]
    assert types[last_text + 1 :] == ["segment", "progress", "completed"]


async def stored_text(gateway: Gateway) -> list[str]:
    """Return the text of each stored `delta` event, in order."""
    rows = await gateway.rows(event)
    return [row["data"]["text"] for row in rows if row["type"] == "delta"]


# ── taking it up elsewhere ──────────────────────────────────────────────────────────────────


async def test_another_process_sends_the_same_events(
    shared_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    settings = settings_for(shared_url, tmp_path / "data", stream={"poll_seconds": 0.05})
    engine.gate = asyncio.Event()
    async with running(settings, engine) as here, running(settings, ScriptedEngine()) as there:
        async with sent(here, recording, mode="stream") as heard:
            await heard.until(lambda events: text_of(events) == TEXT)
            job = heard.events[0].data["id"]
            async with (
                followed(there, job) as other,
                followed(there, job, last_id=heard.events[2].id) as later,
            ):
                await other.until(lambda events: text_of(events) == TEXT)
                assert other.events[-1].type == "delta"
                engine.gate.set()
                whole, others = await heard.end(), await other.end()
                rest = await later.end()
        assert rows_of(others) == rows_of(whole)
        assert told(others) == told(whole) == TEXT
        assert told([*whole[:3], *rest]) == TEXT
        assert rows_of([*whole[:3], *rest]) == rows_of(whole)


async def test_a_run_after_lost_text_begins_with_reset(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, recording: bytes
) -> None:
    """Text that was sent and never stored is void, also for a client that resumes with its id."""
    settings = settings_for(
        database_url,
        tmp_path / "data",
        server={"shutdown_seconds": 0},
        jobs={"maintenance_interval_seconds": 0.1},
    )
    engine.gate = asyncio.Event()
    async with (
        running(settings, engine) as first,
        sent(first, recording, mode="stream") as heard,
    ):
        await heard.until(lambda events: text_of(events) == TEXT)
    got, job = heard.events, heard.events[0].data["id"]
    other = ScriptedEngine(pieces=["Another", " hearing."], text="Another hearing.")
    async with running(settings, other) as second:
        async with followed(second, job, last_id=got[-1].id) as again:
            rest = await again.end()
        async with followed(second, job) as fresh:
            whole = await fresh.end()
    assert rest[0].type == "reset"
    assert text_of([*got, *rest]) == text_of(whole) == "Another hearing."
    assert rest[-1].type == "completed"
    assert {one.id.partition(".")[0] for one in rest if one.type == "delta"} == {"2"}


async def tried_anew(gateway: Gateway, job: str) -> None:
    response = await gateway.client.post(f"/v1/transcriptions/{job}/retry")
    assert response.status_code == 202, response.text


async def test_a_retry_voids_unstored_text_of_a_cancelled_run(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event is sent once and no text twice, from every id that a client may have."""
    monkeypatch.setattr("app.jobs.streaming.hub.SAVE_SECONDS", 60)
    engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(lambda events: text_of(events) == TEXT)
        job = heard.events[0].data["id"]
        await gateway.client.post(f"/v1/transcriptions/{job}/cancel")
        got = await heard.end()
    assert types_of(got) == ["created", "delta", "cancelled"]
    assert await stored_text(gateway) == []
    async with followed(gateway, job, last_id=got[-2].id) as late:
        assert await late.end() == got[-1:]
    engine.pieces, engine.text = ["Another", " hearing."], "Another hearing."
    engine.gate.set()
    await tried_anew(gateway, job)
    rests = []
    for kept in (got, got[:-1]):
        async with followed(gateway, job, last_id=kept[-1].id) as again:
            rests.append(await again.end())
        assert text_of([*kept, *rests[-1]]) == "Another hearing."
    assert rows_of(rests[0]) == rows_of(rests[1])
    assert types_of(rests[0])[:3] == ["reset", "progress", "delta"]
    assert rests[0][0].data == {}
    assert rests[0][-1].type == "completed"
    async with followed(gateway, job) as fresh:
        whole = await fresh.end()
    assert rows_of(whole) == [got[0], *rows_of(rests[0])]
    assert text_of(whole) == "Another hearing."


async def test_a_final_event_that_a_retry_removed_is_not_sent_to_later_readers(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.late_error = EngineError(ErrorKind.MALFORMED, "x", billed=Billed.NO)
    async with sent(gateway, recording, mode="stream") as heard:
        failed = await heard.end()
    job = failed[0].data["id"]
    engine.late_error = None
    await tried_anew(gateway, job)
    async with followed(gateway, job, last_id=failed[-1].id) as again:
        rest = await again.end()
    await gateway.services.db.write(_make_gap)
    await tried_anew(gateway, job)
    async with followed(gateway, job, last_id=rest[-1].id) as again:
        last = await again.end()
    assert [one[-1].type for one in (failed, rest, last)] == ["failed", "completed", "completed"]
    assert [one[0].data for one in (rest, last)] == [{}, {"from": 0}]
    async with followed(gateway, job) as fresh:
        whole = await fresh.end()
    assert rows_of(whole) == rows_of([*failed[:-1], *rest[:-1], *last])
    everything = [SseEvent(one.id, one.type, one.data) for one in (*failed, *rest, *last)]
    assert ResumedStream(job, everything).standing == [(one.id, one.type) for one in rows_of(whole)]
    async with followed(gateway, job, last_id=last[-1].id) as again:
        await again.end()
    assert again.status == 204


def _make_gap(tx: sa.Connection) -> None:
    refused = {"result": None, "error_code": "engine_refused"}
    tx.execute(sa.update(part).values(state="gap", **refused))
    tx.execute(sa.update(upstream_call).values(state="failed"))


async def test_streams_end_at_once_when_the_gateway_does(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(lambda events: text_of(events) == TEXT)
        job = heard.events[0].data["id"]
        async with followed(gateway, job) as other:
            await other.until(lambda events: text_of(events) == TEXT)
            gateway.app.state.begin_shutdown()
            events, others = await heard.end(1), await other.end(1)
        assert events[-1].type == others[-1].type == "closing"
        assert events[-1].data == {"reason": "shutdown"}
        assert events[-1].id == events[-2].id  # it changes nothing of where to go on
        assert code_of(await gateway.get(f"/v1/transcriptions/{job}/events")) == (
            503,
            "shutting_down",
        )
        engine.gate.set()


# ── asking wrongly ──────────────────────────────────────────────────────────────────────────


async def test_event_ids_of_other_jobs_are_rejected(gateway: Gateway, recording: bytes) -> None:
    job, other = [(await gateway.send(recording, mode="async")).json()["id"] for _ in range(2)]
    await gateway.ended(job)
    path, mark = f"/v1/transcriptions/{job}/events", job[-6:]
    bad = ["x", "1", "1.2", f"99-{mark}", f"0-{mark}", f"7.1-{mark}", f"0.1-{mark}", f"1.0-{mark}"]
    for wrong in (*bad, f"-1-{mark}", f"1-{mark.upper()}g", "9" * 80):
        asked = await gateway.client.get(path, headers={"last-event-id": wrong})
        assert code_of(asked) == (422, "event_id_invalid"), wrong
    assert code_of(await gateway.get(path, last_event_id=f"1-{other[-6:]}")) == (
        422,
        "event_id_mismatch",
    )
    assert code_of(await gateway.get(path, last_event_id="1" * 101)) == (422, "invalid_parameter")
    assert (await gateway.get(path, last_event_id="")).status_code == 200


async def test_an_event_id_beyond_the_text_of_an_ended_job_is_rejected(
    gateway: Gateway, recording: bytes
) -> None:
    async with sent(gateway, recording, mode="stream") as heard:
        events = await heard.end()
    job, told = events[0].data["id"], len(TEXT)
    path, mark = f"/v1/transcriptions/{job}/events", job[-6:]
    for chars in (told + 1, 9999):
        wrong = await gateway.get(path, last_event_id=f"1.{chars}-{mark}")
        assert code_of(wrong) == (422, "event_id_invalid")
    async with followed(gateway, job, last_id=f"1.{told}-{mark}") as again:
        assert rows_of(await again.end()) == rows_of(events)[1:]


async def test_events_of_an_unknown_job_are_404(gateway: Gateway, recording: bytes) -> None:
    nobody = "tr_" + "0" * 32
    assert code_of(await gateway.get(f"/v1/transcriptions/{nobody}/events")) == (404, "not_found")
    job = (await gateway.send(recording)).json()["id"]
    foreign = await gateway.key(project="another")
    path = f"/v1/transcriptions/{job}"
    assert code_of(await gateway.get(f"{path}/events", key=foreign)) == (404, "not_found")
    assert code_of(await gateway.get(f"{path}/events")) == (401, "key_missing")
    scoped = await gateway.key(Scope.TRANSCRIBE)
    assert code_of(await gateway.get(f"{path}/events", key=scoped)) == (403, "scope_missing")


async def test_a_deleted_job_has_no_events(
    gateway: Gateway, engine: ScriptedEngine, recording: bytes
) -> None:
    engine.gate = asyncio.Event()
    async with sent(gateway, recording, mode="stream") as heard:
        await heard.until(lambda events: text_of(events) == TEXT)
        job = heard.events[0].data["id"]
        await gateway.client.delete(f"/v1/transcriptions/{job}")
        events = await heard.end()
    assert events[-1].type == "cancelled"
    assert events[-1].data == {"erased": True}
    assert code_of(await gateway.get(f"/v1/transcriptions/{job}/events")) == (410, "erased")
    assert await stored_text(gateway) == []
    engine.gate.set()


# ── tokens ──────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_token_gives_access_to_the_events_of_one_job_only(
    gateway: Gateway, recording: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    key = await gateway.key()
    job = (await gateway.send(recording, key=key)).json()["id"]
    other = (await gateway.send(recording, key=key)).json()["id"]
    path = f"/v1/transcriptions/{job}"
    made = await gateway.client.post(
        f"{path}/stream-token", headers={"authorization": f"Bearer {key}"}
    )
    body = made.json()
    assert body["url"] == f"{path}/events?token={body['token']}"
    async with followed(gateway, job, token=body["token"]) as heard:
        events = await heard.end()
    assert events[-1].type == "completed"
    refused = (401, "stream_token_invalid")
    assert code_of(await gateway.get(f"/v1/transcriptions/{other}/events", token=body["token"])) == refused  # fmt: skip  # noqa: E501
    for wrong in ("", "st_1_x", body["token"][:-1] + "!", body["token"].replace("st_", "st_9", 1)):
        assert code_of(await gateway.get(f"{path}/events", token=wrong)) == refused, wrong
    assert code_of(await gateway.get(path, token=body["token"])) == (401, "key_missing")
    assert code_of(await gateway.get(path, key=body["token"])) == (401, "key_invalid")
    told = capfd.readouterr()
    assert body["token"] not in told.out + told.err


async def test_a_stream_token_expires_by_the_gateways_clock(
    gateway: Gateway, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await gateway.send(recording)).json()["id"]
    path, services = f"/v1/transcriptions/{job}", gateway.services
    body = (await gateway.client.post(f"{path}/stream-token")).json()
    now = services.clock()
    object.__setattr__(services, "clock", lambda: now + timedelta(seconds=298))
    assert (await gateway.get(f"{path}/events", token=body["token"])).status_code == 200
    object.__setattr__(services, "clock", lambda: now + timedelta(seconds=301))
    assert code_of(await gateway.get(f"{path}/events", token=body["token"])) == (
        401,
        "stream_token_invalid",
    )


async def test_parts_of_long_audio_are_sent_in_order(
    gateway: Gateway, engine: ScriptedEngine
) -> None:
    """Deltas are in the order of time, with the transcript's spaces between parts."""
    engine.pieces, engine.text = [" One", " two. "], " One two. "
    async with sent(gateway, speech(8), mode="stream", model="scripted/short") as heard:
        events = await heard.end()
    shown = events[-1].data["transcription"]
    assert shown["plan"]["kind"] == "split"
    assert len(engine.calls) > 1
    assert text_of(events) == shown["text"] == " ".join(["One two."] * len(engine.calls))
