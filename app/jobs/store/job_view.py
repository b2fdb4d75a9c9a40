"""A job as the API shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.billing.ledger import JobTotals
from app.jobs.store.job_spec import JobOptions, JobPlan


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
