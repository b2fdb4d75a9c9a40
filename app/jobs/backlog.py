"""The jobs that come before a new one, as the table of jobs tells: whoever works on them."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import sqlalchemy as sa

from app.jobs.tables import OPEN, audio_tables, transcription
from app.speech.estimate import USUAL_FILL

MOST_JOBS = 2_000  # looked at; those after them would have to wait for hours anyhow

_row = transcription.c
_AHEAD = (
    sa.select(_row.engine, _row.status, _row.plan, _row.done_ms, audio_tables.audio.c.duration_ms)
    .outerjoin(audio_tables.audio, audio_tables.audio.c.id == _row.audio_id)
    .where(_row.status.in_(OPEN), _row.priority >= sa.bindparam("priority"))
    .order_by(sa.case((_row.status == "processing", 0), else_=1), _row.priority.desc(), _row.id)
    .limit(MOST_JOBS)
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """An open job: where its calls go, how many are left, and whether somebody works on it."""

    engine: str
    upstream_model: str
    calls: int
    is_running: bool


def jobs_ahead(tx: sa.Connection, *, priority: int = 0) -> list[Earlier]:
    """Return the open jobs that come before a new one, those that run first.

    Tasks that are done elsewhere take nobody's turn here and are left out.
    """
    rows = tx.execute(_AHEAD, {"priority": priority})
    return [_earlier(row) for row in rows if row.plan.get("kind") != "filetrans"]


def _earlier(row: Any) -> Earlier:
    left_ms = max(0, (row.duration_ms or 0) - row.done_ms)
    is_split = row.plan["kind"] == "split"
    calls = ceil(left_ms / (row.plan["part_seconds"] * 1000 * USUAL_FILL)) if is_split else 1
    is_running = row.status == "processing"
    return Earlier(row.engine, row.plan["upstream_model"], max(1, calls), is_running)
