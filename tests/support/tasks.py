"""A gateway that asks by tasks, before a twin: quick polls, and a look at what was submitted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.billing.tables import ledger_line
from app.jobs.tables import event, part, transcription, upstream_call
from tests.support.gateway import Gateway
from tests.support.twin import before
from tests.twin import Delays, Twin
from tests.twin.counting import encode
from tests.twin.words import Words

FILETRANS = "qwen3-asr-flash-filetrans"
QUICK = {"poll_interval_seconds": 0.02, "max_poll_interval_seconds": 0.1}
SOON = Delays(pending=0.05, running=0.05)
THREE_SECONDS = encode([1, 2, 3])
SUBMIT = "/api/v1/services/audio/asr/transcription"


@dataclass
class Bench:
    """A gateway, the twin behind it, and what a task job leaves."""

    gateway: Gateway
    twin: Twin

    async def send(self, recording: bytes = THREE_SECONDS, **options: Any) -> httpx.Response:
        return await self.gateway.send(recording, **{"model": FILETRANS, **options})

    async def link(self, url: str, **options: Any) -> httpx.Response:
        body = {"model": FILETRANS, "url": url, **options}
        return await self.gateway.client.post("/v1/transcriptions", json=body)

    @property
    def submits(self) -> list[dict[str, Any]]:
        return [dict(call.body) for call in self.twin.calls if call.path == SUBMIT]

    async def job(self) -> dict[str, Any]:
        (row,) = await self.gateway.rows(transcription)
        return row

    async def calls(self) -> list[tuple[Any, ...]]:
        """Return how each call of the job ended."""
        rows = await self.gateway.rows(upstream_call)
        return [(row["state"], row["billed"]) for row in rows]

    async def lines(self) -> list[str]:
        return [row["kind"] for row in await self.gateway.rows(ledger_line)]

    async def parts(self) -> list[dict[str, Any]]:
        return await self.gateway.rows(part)

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(row["type"], row["data"]) for row in await self.gateway.rows(event)]

    async def assert_settled(self) -> None:
        """Check that we settled what the twin charges, to the nano-unit."""
        await self.twin.tasks_ended()
        lines = await self.gateway.rows(ledger_line, kind="settle")
        charged = sum(line.charge.seconds for line in self.twin.bill)
        assert sum(line["used_ms"] for line in lines) == charged * 1000
        rows = await self.gateway.rows(upstream_call, state="answered")
        assert {row["request_id"] for row in rows} == {line.request_id for line in self.twin.bill}


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    database: str = "",
    words: Words | None = None,
    delays: Delays = SOON,
    remote: dict[str, bytes] | None = None,
    jobs: dict[str, Any] | None = None,
    twin: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Bench]:
    async with (
        Twin(words=words, delays=delays, remote=remote or {}, **twin or {}) as there,
        before(
            there, folder, database=database, jobs={**QUICK, **(jobs or {})}, **settings
        ) as here,
    ):
        yield Bench(here, there)
