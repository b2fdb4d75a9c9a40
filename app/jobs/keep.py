"""The commits of a run: a part that was heard, and with the last one the end of the job."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.jobs import calls, outcome, runs
from app.jobs.progress import Progress
from app.jobs.runs import Job


def keep(
    tx: sa.Connection,
    /,
    job: Job,
    answered: calls.Answered,
    progress: Progress,
    words: Mapping[str, Any] | None,
    *,
    now: datetime,
) -> None:
    """Store an answered part; with the last one come all `words`, and the job ends too."""
    if calls.is_answered(tx, answered.call_id):
        return  # an earlier try was committed after all
    done_ms = answered.stretch.end_ms
    total_ms = max(job.duration_ms or 0, done_ms)
    said = {"done_seconds": done_ms / 1000, "total_seconds": total_ms / 1000}
    runs.write_as(
        tx,
        job.run,
        now=now,
        events=[("progress", said)],
        done_ms=done_ms,
        idle_runs=0,
        waiting_since=None,
    )
    keep_raw = "raw" in job.options["include"]
    calls.close_answered(tx, job, answered, keep_raw=keep_raw, now=now)
    if words is not None:
        end(tx, job, progress, words, now=now)


def end(
    tx: sa.Connection,
    /,
    job: Job,
    progress: Progress,
    words: Mapping[str, Any],
    *,
    now: datetime,
) -> None:
    outcome.complete(tx, job, words, warnings=progress.said(job), done_ms=progress.done_ms, now=now)
    calls.store_parts(tx, job, progress.silent)
