"""The open jobs ahead of a new one, counted per engine and model."""

from dataclasses import dataclass

import sqlalchemy as sa

from app.jobs.tables import IS_OPEN, PLAN_KIND, audio_tables, transcription, upstream_call
from app.speech.planning.expected_usage import USUAL_FILL

_row = transcription.c
_RUNS = _row.status == "processing"
_MODEL = _row.plan["upstream_model"].as_string()
_DURATION_MS = sa.func.coalesce(audio_tables.audio.c.duration_ms, 0)
_LEFT_MS = sa.case((_row.done_ms < _DURATION_MS, _DURATION_MS - _row.done_ms), else_=1)
_PART_MS = sa.cast(_row.plan["part_seconds"].as_integer() * int(1000 * USUAL_FILL), sa.BigInteger())
_CALLS = sa.case((PLAN_KIND == "split", (_LEFT_MS + _PART_MS - 1) // _PART_MS), else_=1)
_OPEN_CALLS = (
    sa.select(sa.func.count())
    .select_from(upstream_call)
    .where(upstream_call.c.transcription_id == _row.id, upstream_call.c.state == "open")
    .scalar_subquery()
)
_AHEAD = (
    sa.select(
        _row.engine,
        _MODEL.label("model"),
        sa.func.count().label("jobs"),
        sa.func.sum(sa.case((_RUNS, 1), else_=0)).label("running"),
        sa.func.sum(_CALLS).label("calls"),
        sa.func.sum(sa.case((_RUNS, _OPEN_CALLS), else_=0)).label("open_calls"),
    )
    .outerjoin(audio_tables.audio, audio_tables.audio.c.id == _row.audio_id)
    .where(
        IS_OPEN,
        sa.or_(_RUNS, _row.priority >= sa.bindparam("priority")),
        PLAN_KIND != "filetrans",
    )
    .group_by(_row.engine, _MODEL)
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs ahead that use one engine and model. `calls` have not ended; `open_calls` of them run.

    The number of calls of a job that will be split is an estimate from its length.
    """

    engine: str
    upstream_model: str
    jobs: int = 0
    running: int = 0
    calls: int = 0
    open_calls: int = 0

    @property
    def calls_left(self) -> float:
        """How many whole calls the rest is; one that runs is taken to be half done."""
        return self.calls - self.open_calls / 2


def backlogs_ahead(tx: sa.Connection, *, priority: int = 0) -> list[Backlog]:
    """Return the jobs ahead of a new job: all that run, and those of at least its priority.

    Jobs that are one task at the provider take no slot here and are left out.
    """
    rows = tx.execute(_AHEAD, {"priority": priority})
    return [Backlog(engine, model, *map(int, counts)) for engine, model, *counts in rows]
