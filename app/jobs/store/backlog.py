"""The jobs that come before a new one, as the table of jobs tells: whoever works on them."""

from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

import sqlalchemy as sa

from app.jobs.tables import OPEN, audio_tables, transcription, upstream_call
from app.speech.planning.expected_usage import USUAL_FILL

MOST_JOBS = 2_000  # looked at; those after them would have to wait for hours anyhow

_row = transcription.c
_RUNS = _row.status == "processing"
_AHEAD = (
    sa.select(
        *(_row[name] for name in ("id", "engine", "status", "plan", "done_ms")),
        audio_tables.audio.c.duration_ms,
    )
    .outerjoin(audio_tables.audio, audio_tables.audio.c.id == _row.audio_id)
    .where(
        _row.status.in_(OPEN),
        sa.or_(_RUNS, _row.priority >= sa.bindparam("priority")),
        _row.plan["kind"].as_string() != "filetrans",
    )
    .order_by(sa.case((_RUNS, 0), else_=1), _row.priority.desc(), _row.id)
    .limit(MOST_JOBS)
)
_UNDER_WAY = sa.select(upstream_call.c.transcription_id, upstream_call.c.opened_at).where(
    upstream_call.c.state == "open",
    upstream_call.c.transcription_id.in_(sa.bindparam("jobs", expanding=True)),
)


@dataclass(frozen=True, slots=True)
class JobAhead:
    """An open job: where its calls go, how many are left, and whether somebody works on it.

    `ages` are the seconds since each of its calls under way was begun.
    """

    engine: str
    upstream_model: str
    calls: int
    is_running: bool
    ages: tuple[float, ...] = ()


def jobs_ahead(tx: sa.Connection, *, now: datetime, priority: int = 0) -> list[JobAhead]:
    """Return the open jobs that come before a new one, those that run first.

    One that runs does so whatever its priority. Tasks that are done elsewhere take nobody's turn
    here and are left out.
    """
    rows = list(tx.execute(_AHEAD, {"priority": priority}))
    running = [row.id for row in rows if row.status == "processing"]
    ages: dict[str, list[float]] = {}
    for call in tx.execute(_UNDER_WAY, {"jobs": running}):
        age = (now - call.opened_at).total_seconds()
        ages.setdefault(call.transcription_id, []).append(age)
    return [_earlier(row, tuple(ages.get(row.id, ()))) for row in rows]


def _earlier(row: Any, ages: tuple[float, ...]) -> JobAhead:
    left_ms = max(0, (row.duration_ms or 0) - row.done_ms)
    is_split = row.plan["kind"] == "split"
    calls = ceil(left_ms / (row.plan["part_seconds"] * 1000 * USUAL_FILL)) if is_split else 1
    is_running = row.status == "processing"
    model = row.plan["upstream_model"]
    return JobAhead(row.engine, model, max(1, calls, len(ages)), is_running, ages)
