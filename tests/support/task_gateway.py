"""A gateway that runs filetrans jobs against a simulator: quick polls, submitted tasks recorded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.billing.tables import ledger_line
from app.jobs.tables import event, part, transcription, upstream_call
from tests.simulator import Delays, ProviderSimulator
from tests.simulator.counting import encode
from tests.simulator.speech import SpeechSource
from tests.support.gateway import Gateway
from tests.support.simulated_gateway import simulated_gateway

FILETRANS = "qwen3-asr-flash-filetrans"
QUICK = {"poll_interval_seconds": 0.02, "max_poll_interval_seconds": 0.1}
SOON = Delays(pending=0.05, running=0.05)
THREE_SECONDS = encode([1, 2, 3])
SUBMIT = "/api/v1/services/audio/asr/transcription"


@dataclass
class TaskGateway:
    """A gateway, its simulator, and the rows of a filetrans job."""

    gateway: Gateway
    simulator: ProviderSimulator

    async def send(self, recording: bytes = THREE_SECONDS, **options: Any) -> httpx.Response:
        return await self.gateway.send(recording, **{"model": FILETRANS, **options})

    async def link(self, url: str, **options: Any) -> httpx.Response:
        body = {"model": FILETRANS, "url": url, **options}
        return await self.gateway.client.post("/v1/transcriptions", json=body)

    @property
    def submits(self) -> list[dict[str, Any]]:
        return [dict(call.body) for call in self.simulator.calls if call.path == SUBMIT]

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
        """Check that the settled amount equals the simulator's charge, to the nano-unit."""
        await self.simulator.tasks_ended()
        lines = await self.gateway.rows(ledger_line, kind="settle")
        charged = sum(line.charge.seconds for line in self.simulator.bill)
        assert sum(line["used_ms"] for line in lines) == charged * 1000
        rows = await self.gateway.rows(upstream_call, state="answered")
        assert {row["request_id"] for row in rows} == {
            line.request_id for line in self.simulator.bill
        }


@asynccontextmanager
async def task_gateway(
    folder: Path,
    *,
    database: str = "",
    words: SpeechSource | None = None,
    delays: Delays = SOON,
    remote: dict[str, bytes] | None = None,
    jobs: dict[str, Any] | None = None,
    simulator: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[TaskGateway]:
    async with (
        ProviderSimulator(
            words=words, delays=delays, remote=remote or {}, **simulator or {}
        ) as there,
        simulated_gateway(
            there, folder, database=database, jobs={**QUICK, **(jobs or {})}, **settings
        ) as here,
    ):
        yield TaskGateway(here, there)
