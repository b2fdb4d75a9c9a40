"""The states of one job on a real database, step by step, without an engine and audio.

Each step calls the use-case's own function. A test lists the steps and checks the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.access.principal import ALL_SCOPES, Principal
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.billing.ledger import BilledUsage
from app.billing.prices import PriceRow, load_prices
from app.db.database import Database
from app.errors import GatewayError, InternalError
from app.jobs.cancel import CancellationCost, cancel
from app.jobs.erase import erase
from app.jobs.filetrans import store
from app.jobs.retry import reopen
from app.jobs.store import calls, outcome, runs
from app.jobs.store.attempts import AttemptCounts
from app.jobs.store.calls import Answered
from app.jobs.store.create import CreatedJob, create_job
from app.jobs.store.events import Event
from app.jobs.store.job import Job
from app.jobs.store.job_spec import JobOptions, JobPlan, JobSpec
from app.jobs.store.outcome import Completion
from app.jobs.store.parts import PartSpan
from app.jobs.store.recordings import NewAudio
from app.jobs.store.runs import QueuedJob
from app.jobs.tables import billing_tables, event, part, transcription, upstream_call
from app.speech.engine import Billed, EngineAnswer, EngineError, EngineUsage, ErrorKind
from app.speech.transcript import Transcript

NANO_PER_SECOND = 220_000
MODEL = "scripted/echo"
REGION = "test"
NOW = datetime(2026, 11, 21, 5, 28, tzinfo=UTC)
PRICE = PriceRow(
    model=MODEL,
    region=REGION,
    unit="second",
    nano=NANO_PER_SECOND,
    currency="CNY",
    valid_from=datetime(2026, 1, 1, tzinfo=UTC),
    valid_until=None,
    source="made up",
)
PLAN = JobPlan("direct", 120, "", upstream_model="echo", min_speech_ms=250)


def no_live_text(_job_id: str) -> bool:
    """Tell that no text of a job is published and not stored."""
    return False


def recording(name: str = "a", *, sha256: str = "0" * 64, seconds: float | None = 2.0) -> NewAudio:
    """Return audio as intake stores it. `name` distinguishes stored copies."""
    return NewAudio(
        sha256=sha256,
        bytes=100,
        blob_key=name,
        format="wav",
        codec="pcm_s16le",
        channels=1,
        sample_rate=16_000,
        duration_ms=None if seconds is None else round(seconds * 1000),
    )


def job_spec(max_ms: int = 3_000, **fields: Any) -> JobSpec:
    return JobSpec(
        **{
            "model": MODEL,
            "engine": "scripted",
            "region": REGION,
            "mode": "auto",
            "options": JobOptions(),
            "plan": PLAN,
            "max_ms": max_ms,
            **fields,
        }
    )


def part_span(index: int = 0, *, seconds: float = 2.0) -> PartSpan:
    """Return the span of this part, if all parts have this length."""
    length = round(seconds * 1000)
    return PartSpan(index, index * length, (index + 1) * length, length, f"{index:064x}")


def answer(seconds: float | None = 2.0, text: str = "heard") -> EngineAnswer:
    usage = EngineUsage() if seconds is None else EngineUsage(seconds, raw={"seconds": seconds})
    return EngineAnswer(text, language="en", usage=usage, request_id="req-1", raw={"text": text})


def failure(billed: Billed = Billed.NO) -> EngineError:
    return EngineError(ErrorKind.NETWORK, "the line went dead", retryable=True, billed=billed)


async def principal_of(db: Database, project: str = DEFAULT_PROJECT) -> Principal:
    """Return a caller of the project. Create the project and the price if they do not exist."""

    def make(tx: sa.Connection) -> str:
        load_prices(tx, [PRICE])
        return ensure_project(tx, project, now=NOW)

    return Principal(await db.write(make), None, ALL_SCOPES)


@dataclass
class Scenario:
    """One job and its clock, which each step advances."""

    db: Database
    principal: Principal
    submitted: CreatedJob
    now: datetime = NOW
    claimed: list[Job] = field(default_factory=list)

    @classmethod
    async def create(
        cls,
        db: Database,
        *,
        project: str = DEFAULT_PROJECT,
        audio: NewAudio | None = None,
        wanted: JobSpec | None = None,
        lease_seconds: float | None = None,
    ) -> "Scenario":
        principal = await principal_of(db, project)
        audio = audio or recording()
        submitted = await db.write(
            create_job,
            principal,
            replace(audio, blob_key=f"{principal.project_id}/{audio.blob_key}"),
            wanted or job_spec(),
            now=NOW,
            lease_seconds=lease_seconds,
        )
        return cls(db, principal, submitted)

    @property
    def id(self) -> str:
        return self.submitted.job_id

    def later(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    async def claim(self, *, remote: bool = True, lease_seconds: float = 60) -> Job:
        """Claim the job as a worker does. It must be free."""
        job = await self.try_claim(remote=remote, lease_seconds=lease_seconds)
        assert isinstance(job, Job), job
        return job

    async def try_claim(self, *, remote: bool = True, lease_seconds: float = 60) -> Job | None:
        def claim(tx: sa.Connection) -> Job | None:
            job = runs.claim(tx, self.id, lease_seconds=lease_seconds, now=self.later())
            if job is not None:
                calls.close_orphaned(tx, job.id, remote=remote, now=self.now)
            return job

        return await self.db.write(claim)

    async def crash(self) -> None:
        """Expire the lease, as if its worker had died."""
        long_ago = sa.update(transcription).where(transcription.c.id == self.id)
        await self.db.write(
            lambda tx: tx.execute(long_ago.values(lease_until=datetime(2020, 1, 1, tzinfo=UTC)))
        )

    async def call(
        self,
        job: Job,
        part: PartSpan | None = None,
        *,
        silent: Sequence[PartSpan] = (),
        retry_in_doubt: bool = True,
        route: int = 0,
    ) -> str:
        return await self.db.write(
            calls.open_call,
            job,
            job.routes[route],
            part or part_span(),
            silent,
            retry_in_doubt=retry_in_doubt,
            now=self.later(),
        )

    async def answered(
        self,
        job: Job,
        call_id: str,
        part: PartSpan | None = None,
        *,
        heard: EngineAnswer | None = None,
        keep_raw: bool = False,
        route: int = 0,
    ) -> None:
        """Settle an answered call and store its progress, in one write."""
        got = Answered(job.routes[route], call_id, part or part_span(), heard or answer())

        def keep(tx: sa.Connection) -> None:
            said = {"done_seconds": got.span.end_ms / 1000}
            runs.fenced_update(
                tx,
                job.run,
                now=self.later(),
                events=[Event("progress", said)],
                runs_without_progress=0,
            )
            calls.close_answered(tx, job, got, keep_raw=keep_raw, now=self.now)

        await self.db.write(keep)

    async def call_failed(
        self, job: Job, call_id: str, error: EngineError, *, route: int = 0
    ) -> AttemptCounts:
        part = next((row["part_idx"] for row in await self.calls() if row["id"] == call_id), 0)
        return await self.db.write(
            calls.close_failed,
            job,
            job.routes[route],
            part_span(part),
            call_id,
            error,
            now=self.later(),
        )

    async def charged(self, job: Job, call_id: str) -> None:
        """Settle a task that the provider bills although it returned no text."""
        used = BilledUsage(millis=2_000, tokens=0, nano=2 * NANO_PER_SECOND, estimated=False)
        await self.db.write(
            store.settle_without_result, job, call_id, used, {"seconds": 2}, now=self.later()
        )

    async def complete(self, job: Job, text: str = "heard") -> None:
        words = {**Transcript(text=text, language="en").model_dump(), "segments": []}
        completion = Completion(words, [], 2_000)
        await self.db.write(outcome.complete, job, completion, now=self.later())

    async def fail(self, job: Job, error: GatewayError | None = None) -> None:
        await self.db.write(
            outcome.fail, job, error or InternalError(), remote=True, now=self.later()
        )

    async def cancel(self) -> CancellationCost | None:
        return await self.db.write(
            cancel,
            self.principal.project_id,
            self.id,
            local_engines=(),
            has_live_text=no_live_text,
            now=self.later(),
        )

    async def retry(self) -> QueuedJob | None:
        return await self.db.write(reopen, self.principal.project_id, self.id, now=self.later())

    async def erase(self) -> bool:
        leftovers = await self.db.write(
            erase,
            self.principal.project_id,
            self.id,
            local_engines=(),
            has_live_text=no_live_text,
            now=self.later(),
        )
        return leftovers is not None

    async def row(self) -> dict[str, Any]:
        (found,) = await self._rows(transcription, transcription.c.id)
        return found

    async def lines(self) -> list[dict[str, Any]]:
        return await self._rows(billing_tables.ledger_line)

    async def events(self) -> list[dict[str, Any]]:
        return await self._rows(event)

    async def calls(self) -> list[dict[str, Any]]:
        return await self._rows(upstream_call)

    async def parts(self) -> list[dict[str, Any]]:
        return await self._rows(part)

    async def _rows(
        self, table: sa.Table, by: "sa.Column[Any] | None" = None
    ) -> list[dict[str, Any]]:
        mine = (table.c.transcription_id if by is None else by) == self.id
        query = sa.select(table).where(mine).order_by(*table.primary_key)
        return await self.db.read(lambda tx: [dict(row._mapping) for row in tx.execute(query)])
