"""The commits of a run: what became of a part, what that lets tell, and the end of the job."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.jobs.store import calls, outcome, runs
from app.jobs.store.calls import Answered
from app.jobs.store.events import Event
from app.jobs.store.job import Job
from app.jobs.store.parts import (
    PartSpan,
    finish_part,
    give_up_part,
    is_finished,
    store_partial,
    store_parts,
)


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """What a part has become: heard, or given up for a reason; or it has a draft, and goes on."""

    index: int
    result: Mapping[str, Any] | None = None
    error_code: str | None = None
    partial_result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """What a commit tells: `passed` are stretches whose turn has come and which may be unknown.

    `texts` are what its segments say, each with the index of its part.
    """

    segments: Sequence[Event]
    progress: Event
    done_ms: int
    passed: Sequence[PartSpan]
    texts: Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Completion:
    """All words of a job, with what is to be said of them."""

    words: Mapping[str, Any]
    warnings: Sequence[Mapping[str, Any]]
    done_ms: int


@asynccontextmanager
async def publishing(job: Job, told: ProgressUpdate) -> AsyncIterator[ProgressUpdate]:
    """Tell what is missing of the parts whose turn has come; in the block it is written.

    Returned is what to write: each segment stands behind its own text.
    """
    async with job.run.live_text.closing_parts(told.texts) as ends:
        segments = [one._replace(told=end) for one, end in zip(told.segments, ends, strict=True)]
        yield replace(told, segments=segments)


def commit_part(
    tx: sa.Connection,
    /,
    job: Job,
    became: PartOutcome,
    answered: Answered | None,
    told: ProgressUpdate,
    ending: Completion | None,
    *,
    now: datetime,
) -> None:
    """Store what a part has become, and settle the call that said it; with the last, end the job.

    A second time changes nothing: an earlier try may have been committed after all.
    """
    if answered is not None and calls.is_answered(tx, answered.call_id):
        return
    if answered is None and is_finished(tx, job, became.index):
        return
    _append_events(tx, job, told, now=now, runs_without_progress=0, deferred_since=None)
    if answered is not None:
        keep_raw = "raw" in job.options["include"]
        calls.settle_answered(tx, job, answered, keep_raw=keep_raw, now=now)
    _store_outcome(tx, job, became)
    if ending is not None:
        complete_job(tx, job, ending, now=now)


def complete_job(tx: sa.Connection, /, job: Job, ending: Completion, *, now: datetime) -> None:
    """Complete a job."""
    outcome.complete(
        tx, job, ending.words, warnings=ending.warnings, done_ms=ending.done_ms, now=now
    )


def commit_completion(
    tx: sa.Connection, /, job: Job, told: ProgressUpdate, ending: Completion, *, now: datetime
) -> None:
    """Complete a job whose end was not known when its last part was kept."""
    _append_events(tx, job, told, now=now)
    complete_job(tx, job, ending, now=now)


def _append_events(
    tx: sa.Connection, job: Job, told: ProgressUpdate, *, now: datetime, **changes: Any
) -> None:
    events = [*told.segments, told.progress]
    runs.fenced_update(tx, job.run, now=now, events=events, done_ms=told.done_ms, **changes)
    store_parts(tx, job, told.passed)


def _store_outcome(tx: sa.Connection, job: Job, became: PartOutcome) -> None:
    if became.result is not None:
        finish_part(tx, job, became.index, became.result)
    elif became.error_code is not None:
        give_up_part(tx, job, became.index, became.error_code)
    elif became.partial_result is not None:
        store_partial(tx, job, became.index, became.partial_result)
