"""The cost of a stream does not depend on the number of pieces of its text.

Covers: app.jobs.streaming.hub, app.jobs.streaming.reader, app.jobs.streaming.subscription,
app.api.v1.response.event_stream, app.api.http.sse
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.jobs.tables import event
from tests.support.gateway import Gateway, running, settings_for
from tests.support.scripted_engine import ScriptedEngine
from tests.support.sse_client import followed, sent, text_of

pytestmark = pytest.mark.anyio
FEW, MANY = 10, 400
STATEMENTS_PER_STORE = 3  # for all runs together: numbers, events, which runs are stale
FRAMING = ("PRAGMA", "BEGIN", "SAVEPOINT", "RELEASE", "COMMIT", "ROLLBACK")
MOST_TASKS = 16  # of one stream, with its request, its job and its upload


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """All statements of all connections to SQLite, without BEGIN, SAVEPOINT and COMMIT."""
    executed: list[str] = []

    def note(statement: str) -> None:
        if not statement.startswith(FRAMING):
            executed.append(statement)

    def trace(connection: Any, _record: object) -> None:
        connection.set_trace_callback(note)

    sa.event.listen(sa.pool.Pool, "connect", trace)
    yield executed
    sa.event.remove(sa.pool.Pool, "connect", trace)


@pytest.fixture
async def here(
    tmp_path: Path,
    engine: ScriptedEngine,
    statements: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Gateway]:
    """A gateway on SQLite without periodic work."""
    monkeypatch.setattr("app.jobs.streaming.hub.SAVE_SECONDS", 600)
    settings = settings_for(
        f"sqlite:///{tmp_path / 'g.db'}",
        tmp_path / "data",
        jobs={"lease_seconds": 600, "maintenance_interval_seconds": 600},
    )
    async with running(settings, engine) as gateway:
        yield gateway


@contextmanager
def counting_tasks() -> Iterator[list[str]]:
    """Record the name of each coroutine that becomes a task, except the queue's timer."""
    loop, made = asyncio.get_running_loop(), list[str]()

    def make(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        if work.__qualname__ != "Event.wait":
            made.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **options)

    loop.set_task_factory(make)
    try:
        yield made
    finally:
        loop.set_task_factory(None)


def pieces(count: int) -> list[str]:
    """Return this number of short words without repetitions."""
    return [f"{number} " for number in range(count)]


async def cost_of(
    gateway: Gateway, statements: list[str], recording: bytes, words: list[str], readers: int = 0
) -> tuple[list[str], list[str]]:
    """Return the statements and tasks of one stream whose text arrives in these pieces."""
    engine = gateway.engine
    engine.pieces, engine.text = words, "".join(words)
    engine.gate = asyncio.Event()
    statements.clear()
    with counting_tasks() as tasks:
        async with sent(gateway, recording, mode="stream") as heard:
            await heard.until(lambda events: text_of(events) == engine.text.strip())
            job = heard.events[0].data["id"]
            for _ in range(readers):
                async with followed(gateway, job) as other:
                    await other.until(lambda events: text_of(events) == engine.text.strip())
            engine.gate.set()
            events = await heard.end()
    assert events[-1].type == "completed"
    return list(statements), tasks


async def test_statements_and_tasks_do_not_grow_with_the_pieces(
    here: Gateway, statements: list[str], recording: bytes
) -> None:
    await cost_of(here, statements, recording, ["warm"])
    few = await cost_of(here, statements, recording, pieces(FEW))
    many = await cost_of(here, statements, recording, pieces(MANY))
    assert len(many[0]) == len(few[0])
    assert sorted(many[1]) == sorted(few[1])
    assert len(many[1]) <= MOST_TASKS, many[1]


async def test_text_is_stored_by_its_size_and_not_by_its_pieces(
    here: Gateway, statements: list[str], recording: bytes
) -> None:
    """Each two kilobytes are one event, stored by three statements."""
    here.engine.pace_seconds = 0.001
    await cost_of(here, statements, recording, ["warm"])
    short, _ = await cost_of(here, statements, recording, pieces(FEW))
    large_pieces = [sha512(piece.encode()).hexdigest()[:100] for piece in pieces(MANY)]
    large, _ = await cost_of(here, statements, recording, large_pieces)
    rows = [row["data"]["text"] for row in await here.rows(event) if row["type"] == "delta"]
    stores = len(rows) - 3  # besides the last one of each stream
    assert stores <= MANY * 100 / 2048 + 1
    assert len(large) - len(short) == stores * STATEMENTS_PER_STORE


async def test_more_readers_cost_no_statement_per_event(
    here: Gateway, statements: list[str], recording: bytes
) -> None:
    await cost_of(here, statements, recording, ["warm"])
    alone, _ = await cost_of(here, statements, recording, pieces(FEW), readers=2)
    again, _ = await cost_of(here, statements, recording, pieces(MANY), readers=2)
    assert len(again) == len(alone)
