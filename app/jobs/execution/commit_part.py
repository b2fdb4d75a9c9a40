"""The commits of a run: the outcome of a part with its events, and the end of the job."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing.ledger import BilledUsage
from app.jobs.store import calls, outcome, runs
from app.jobs.store.calls import AlreadyCommittedError, Answered
from app.jobs.store.events import Event, delta
from app.jobs.store.job import Job
from app.jobs.store.outcome import Completion
from app.jobs.store.parts import (
    PartSpan,
    finish_part,
    give_up_part,
    is_finished,
    store_partial,
    store_parts,
)
from app.jobs.store.runs import StaleRun
from app.kit.records import dataclass


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """The outcome of a part: a result, an error, or a partial result that is not its last."""

    index: int
    result: Mapping[str, Any] | None = None
    error_code: str | None = None
    partial_result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """The events that a commit appends.

    `spans` are the parts up to the last one that is published here whose rows may be missing.
    `texts` are the texts of the segments, each with the index of its part.
    """

    segments: Sequence[Event]
    progress: Event
    done_ms: int
    spans: Sequence[PartSpan]
    texts: Sequence[tuple[int, str]]

    @property
    def events(self) -> list[Event]:
        return [*self.segments, self.progress]

    def with_live_text(self, rests: Sequence[str]) -> "ProgressUpdate":
        """Return the update with live text as a `delta` in front of each segment.

        `rests` has for each segment the text that was not published yet.
        """
        if not any(rests):
            return self
        pairs = zip(rests, self.segments, strict=True)
        segments = [[delta(rest), segment] if rest else [segment] for rest, segment in pairs]
        return replace(self, segments=[event for events in segments for event in events])


def commit_part(
    tx: sa.Connection,
    /,
    job: Job,
    part_outcome: PartOutcome,
    answered: Answered | None,
    update: ProgressUpdate,
    completion: Completion | None,
    *,
    now: datetime,
) -> BilledUsage | None:
    """Store the outcome of a part and settle its call; with a `completion`, end the job.

    Returns the usage that was settled. Raises AlreadyCommittedError and StaleRun.
    """
    index, used = part_outcome.index, None
    if answered is None and is_finished(tx, job, index):
        raise AlreadyCommittedError
    progress: dict[str, Any] = {"runs_without_progress": 0, "deferred_since": None}
    try:  # first of all, under the run's fence: the job's row is locked before any other row
        if completion is None:
            progress["done_ms"] = update.done_ms
            runs.fenced_update(tx, job.run, now=now, events=update.events, **progress)
        else:
            outcome.mark_completed(tx, job, completion, events=update.events, now=now, **progress)
    except StaleRun:
        if answered is not None and calls.is_answered(tx, answered.call_id):
            raise AlreadyCommittedError from None
        raise
    if answered is not None:
        keep_raw = job.options.keeps_raw
        used = calls.settle_answered(tx, job, answered, keep_raw=keep_raw, now=now)
    # The row of an answered part was stored with its call.
    store_parts(tx, job, [one for one in update.spans if answered is None or one.index != index])
    if part_outcome.result is not None:
        finish_part(tx, job, index, part_outcome.result)
    elif part_outcome.error_code is not None:
        give_up_part(tx, job, index, part_outcome.error_code)
    elif part_outcome.partial_result is not None:
        store_partial(tx, job, index, part_outcome.partial_result)
    if completion is not None:
        outcome.store_transcript(tx, job, completion, now=now)
    return used


def commit_completion(
    tx: sa.Connection, /, job: Job, update: ProgressUpdate, completion: Completion, *, now: datetime
) -> None:
    """Complete a job whose end was not known when its last part was committed."""
    outcome.mark_completed(tx, job, completion, events=update.events, now=now)
    store_parts(tx, job, update.spans)
    outcome.store_transcript(tx, job, completion, now=now)
