"""The event log of a job in the database: numbered without gaps, by the run that holds the job.

Covers: app.jobs.store.events, app.jobs.streaming.delta_text, app.jobs.store.runs,
app.jobs.streaming.hub, app.jobs.streaming.cursor
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from app.db.database import Database
from app.errors import EventIdInvalid, EventIdMismatch
from app.jobs.store.durable_write import write_of_run
from app.jobs.store.events import Event, has_unconfirmed_text
from app.jobs.store.job import Job
from app.jobs.store.live_text import UnstoredText
from app.jobs.store.runs import StaleRun, fenced_update
from app.jobs.streaming.cursor import Position, event_id, position_of
from app.jobs.streaming.delta_text import store_texts
from app.jobs.streaming.hub import StreamHub
from app.jobs.tables import event
from app.kit.clock import utc_now
from tests.support.scenario import NOW, Scenario, job_spec, recording

pytestmark = pytest.mark.anyio
ROW = Event("progress", {})


async def streamed(db: Database, name: str = "a") -> tuple[Scenario, Job]:
    audio = recording(name, sha256=name * 64)
    scenario = await Scenario.create(db, audio=audio, wanted=job_spec(mode="stream"))
    return scenario, await scenario.claim()


async def log_of(scenario: Scenario) -> list[tuple[int, str, Any]]:
    assert (await scenario.row())["event_count"] == len(await scenario.events())
    return [(row["seq"], row["type"], row["data"].get("text")) for row in await scenario.events()]


def add(tx: sa.Connection, job: Job, *events: Event) -> None:
    fenced_update(tx, job.run, now=NOW, events=events)


async def test_text_of_many_runs_is_stored_at_once_and_only_once(db: Database) -> None:
    (one, first), (two, second), (three, third) = [await streamed(db, name) for name in "abc"]
    await two.cancel()
    await three.crash()
    await three.claim()
    texts = [
        (job.run, UnstoredText(1, text))
        for job, text in ((third, "z"), (second, "y"), (first, "x"))
    ]
    for _ in range(2):  # an earlier attempt may have been committed after all
        assert await db.write(store_texts, texts, now=NOW) == {one.id}
    assert await log_of(one) == [(1, "created", None), (2, "delta", "x")]
    assert await log_of(two) == [(1, "created", None), (2, "cancelled", None)]
    assert await log_of(three) == [(1, "created", None)]


async def test_text_is_stored_in_front_of_the_events_of_its_run(db: Database) -> None:
    scenario, job = await streamed(db)
    async with StreamHub(db, utc_now).publishing(job) as live:
        sink = live.run.live_text.part(0)
        assert sink is not None
        sink("before")

        def add_two(tx: sa.Connection, /, job: Job) -> None:
            add(tx, job, ROW)
            add(tx, job, ROW)

        await write_of_run(db, add_two, live)
        await write_of_run(db, add, live, ROW)
        sink(" and behind")
        await write_of_run(db, add, live)  # without events no text has to be stored
        await write_of_run(db, add, live, ROW)
    assert await log_of(scenario) == [
        (1, "created", None),
        (2, "delta", "before"),
        *((seq, "progress", None) for seq in (3, 4, 5)),
        (6, "delta", " and behind"),
        (7, "progress", None),
    ]


async def test_text_of_a_write_that_is_repeated_is_stored_once(db: Database) -> None:
    scenario, job = await streamed(db)
    async with StreamHub(db, utc_now).publishing(job) as live:
        sink = live.run.live_text.part(0)
        assert sink is not None
        sink("text")
        async with live.run.live_text.holding_back():
            for _ in range(2):  # the first one was committed, but its answer was lost
                await db.write(add, live, ROW)
    assert [kind for _, kind, _ in await log_of(scenario)] == [
        "created",
        "delta",
        *["progress"] * 2,
    ]


async def test_a_stale_run_adds_nothing_and_its_readers_leave_its_log(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.streaming.hub.SAVE_SECONDS", 0.01)
    scenario, job = await streamed(db)
    hub = StreamHub(db, utc_now)
    async with hub.publishing(job) as live:
        sink = live.run.live_text.part(0)
        assert sink is not None
        assert hub.live_log(scenario.id) is not None
        await scenario.cancel()
        sink("lost")
        with hub.subscribe(scenario.id) as subscription:
            async with asyncio.timeout(10):
                while hub.live_log(scenario.id) is not None:
                    subscription.clear()
                    await subscription.wait(10)
        with pytest.raises(StaleRun):
            await write_of_run(db, add, live, ROW)
    assert [kind for _, kind, _ in await log_of(scenario)] == ["created", "cancelled"]


async def test_a_silent_stale_run_is_found_on_a_shared_database(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process may cancel a job, its readers here must not wait for the run."""
    monkeypatch.setattr("app.jobs.streaming.hub.SAVE_SECONDS", 0.01)
    monkeypatch.setattr("app.jobs.streaming.hub.STALE_CHECK_SECONDS", 0.01)
    scenario, job = await streamed(db)
    hub = StreamHub(db, utc_now)
    async with hub.publishing(job):
        await scenario.cancel()
        async with asyncio.timeout(10):
            while db.is_shared and hub.live_log(scenario.id) is not None:
                await asyncio.sleep(0.01)


async def test_text_is_unconfirmed_until_a_segment_or_a_reset(db: Database) -> None:
    scenario, job = await streamed(db)
    steps = [
        ("progress", False),
        ("delta", True),
        ("progress", True),
        ("segment", False),
        ("delta", True),
        ("reset", False),
    ]
    for kind, is_unconfirmed in steps:
        await db.write(add, job, Event(kind, {}))
        assert await db.read(has_unconfirmed_text, scenario.id) is is_unconfirmed, kind


# ── ids ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_id_may_be_behind_text_that_is_stored_or_lost(db: Database) -> None:
    scenario, job = await streamed(db)

    async def accepts(seq: int, offset: int = 0) -> bool:
        try:
            found = await db.read(position_of, scenario.id, event_id(scenario.id, seq, offset))
        except EventIdInvalid:
            return False
        assert found == Position(seq, offset)
        return True

    assert await accepts(1)
    assert not await accepts(2)
    assert await accepts(1, 99)  # of a run that is under way in another process
    for text in ("four", "five5"):
        await db.write(add, job, Event("delta", {"text": text}))
    assert await accepts(1, 9)
    assert await accepts(1, 10)
    assert await accepts(3, 1)
    await db.write(add, job, Event("segment", {}))
    assert await accepts(1, 9)
    assert not await accepts(1, 10)
    assert await accepts(2, 5)
    assert not await accepts(2, 6)
    assert not await accepts(3, 1)
    assert await accepts(4, 7)
    await scenario.cancel()
    assert await accepts(4, 7)  # what the cancelled run had not stored is lost
    with pytest.raises(EventIdMismatch):
        await db.read(position_of, scenario.id, "1-000000")


async def test_events_are_never_changed(db: Database) -> None:
    scenario, job = await streamed(db)
    await db.write(add, job, ROW)
    changed = sa.update(event).where(event.c.transcription_id == scenario.id).values(type="x")
    with pytest.raises(sa.exc.DBAPIError):
        await db.write(lambda tx: tx.execute(changed))
    assert replace(job, event_count=2).event_count == (await scenario.row())["event_count"]
