"""A job as a run reads it from the database, and as the API shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa

from app.billing.ledger import JobTotals, LedgerAccount
from app.db.prepared import Prepared
from app.jobs.store.job_spec import JobOptions, JobPlan
from app.jobs.store.live_text import NO_LIVE_TEXT, NoLiveText
from app.jobs.store.routes import Route, routes_of
from app.jobs.tables import audio_tables, part, transcription
from app.kit.records import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One worker's hold on a job. `live_text` takes its text as it arrives."""

    job_id: str
    epoch: int
    lease_seconds: float
    live_text: NoLiveText = field(default=NO_LIVE_TEXT, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class KnownPart:
    """A part as it was stored by this run or an earlier one."""

    COLUMNS: ClassVar = (
        *("idx", "start_ms", "end_ms", "speech_ms", "state", "result"),
        *("partial_result", "error_code"),
    )

    index: int
    start_ms: int
    end_ms: int
    speech_ms: int
    state: str
    result: Mapping[str, Any] | None
    partial_result: Mapping[str, Any] | None
    error_code: str | None

    @property
    def is_finished(self) -> bool:
        """Whether the part is done: it has a result, was given up, or holds no speech."""
        return self.state != "pending"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a run reads it when it begins.

    `source_url`: the audio is not fetched yet, and `blob_key` and `audio_format` are empty.
    """

    run: Run
    account: LedgerAccount
    routes: Sequence[Route]
    deferred_since: datetime | None
    blob_key: str
    source_url: str | None = field(repr=False)
    audio_format: str
    audio_sha256: str | None
    duration_ms: int | None
    options: JobOptions
    plan: JobPlan
    warnings: Sequence[Mapping[str, Any]]
    parts: Sequence[KnownPart]
    runs_without_progress: int
    priority: int = 0
    mode: str = "auto"
    event_count: int = 1

    @property
    def id(self) -> str:
        return self.run.job_id

    @property
    def engine(self) -> str:
        """The engine of the first route; `routes` has the other engines."""
        return self.routes[0].engine


@dataclass(frozen=True, slots=True)
class Audio:
    """The audio of a job."""

    id: str
    blob_key: str
    bytes: int
    format: str
    channels: int
    sample_rate: int
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with all that the API shows of it.

    `transcript` has the members of `Transcript`, ready for JSON. It is None before the job has
    completed; during a retry neither the transcript nor the gaps of the time before are shown.
    `audio` is None where the audio of a URL has not been fetched yet.
    """

    id: str
    status: str
    mode: str
    model: str
    engine: str
    plan: JobPlan
    currency: str
    options: JobOptions
    warnings: Sequence[Mapping[str, Any]]
    error: Mapping[str, Any] | None
    reference: str | None
    metadata: Mapping[str, str] | None
    done_ms: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    erased_at: datetime | None
    audio: Audio | None
    totals: JobTotals
    transcript: Mapping[str, Any] | None
    raw: Sequence[Any] | None = None
    task_id: str | None = None


_row = transcription.c
_audio = audio_tables.audio.c
_LOAD = Prepared(
    sa.select(transcription, _audio.blob_key, _audio.format, _audio.sha256, _audio.duration_ms)
    .outerjoin(audio_tables.audio, _audio.id == _row.audio_id)
    .where(_row.id == sa.bindparam("job"))
)
_LOAD_PARTS = Prepared(
    sa.select(*(part.c[name] for name in KnownPart.COLUMNS))
    .where(part.c.transcription_id == sa.bindparam("job"))
    .order_by(part.c.idx)
)


def account_of(row: Any) -> LedgerAccount:
    """Return the account of a job's ledger entries, from its row."""
    currency = row.tariff["currency"]
    return LedgerAccount(row.project_id, row.key_id, row.id, row.model, currency, row.retry_epoch)


def load_job(tx: sa.Connection, run: Run) -> Job:
    """Return the job as this run finds it."""
    row = _LOAD.first(tx, {"job": run.job_id})
    plan = JobPlan.from_json(row.plan)
    return Job(
        run=run,
        account=account_of(row),
        routes=routes_of(row, plan.upstream_model),
        deferred_since=row.deferred_since,
        blob_key=row.blob_key or "",
        source_url=row.source_url,
        audio_format=row.format or "",
        audio_sha256=row.sha256,
        duration_ms=row.duration_ms,
        options=JobOptions.from_json(row.options),
        plan=plan,
        warnings=row.warnings,
        parts=[KnownPart(*found) for found in _LOAD_PARTS.all(tx, {"job": run.job_id})],
        runs_without_progress=row.runs_without_progress,
        priority=row.priority,
        mode=row.mode,
        event_count=row.event_count,
    )
