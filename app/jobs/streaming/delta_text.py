"""Stores the live text of many runs in one transaction."""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter

import sqlalchemy as sa

from app.db.prepared import Prepared
from app.db.schema import Utc
from app.jobs.store.events import delta
from app.jobs.store.job import Run
from app.jobs.store.live_text import UnstoredText
from app.jobs.tables import event, transcription

_row = transcription.c
_JOB = sa.bindparam("job", type_=sa.String)
_AFTER, _EPOCH = (sa.bindparam(name, type_=sa.Integer) for name in ("after", "epoch"))
_OWN_RUN = (_row.id == _JOB, _row.run_epoch == _EPOCH, _row.status == "processing")
_COUNT = Prepared(
    sa.update(transcription)
    .where(*_OWN_RUN, _row.event_count == _AFTER)
    .values(event_count=_row.event_count + 1)
)
_ADD = Prepared(
    sa.insert(event).from_select(
        ["transcription_id", "seq", "type", "data", "created_at"],
        sa.select(
            _row.id,
            _row.event_count,
            sa.bindparam("type", type_=sa.String),
            sa.bindparam("data", type_=event.c.data.type),
            sa.bindparam("now", type_=Utc()),
        ).where(
            *_OWN_RUN,
            _row.event_count == _AFTER + 1,
            ~sa.exists().where(event.c.transcription_id == _JOB, event.c.seq == _AFTER + 1),
        ),
    )
)
_STATES = sa.select(_row.id, _row.run_epoch).where(
    _row.id.in_(sa.bindparam("jobs", expanding=True)), _row.status == "processing"
)


def store_texts(
    tx: sa.Connection, texts: Sequence[tuple[Run, UnstoredText]], *, now: datetime
) -> set[str]:
    """Append one `delta` event for each run that still holds its job; return the ids of these jobs.

    A second time changes nothing: an earlier attempt may have been committed although it failed.
    """
    rows = [
        {"job": run.job_id, "epoch": run.epoch, "after": unstored.after, "now": now}
        | delta(unstored.text)._asdict()
        for run, unstored in texts
    ]
    rows.sort(key=itemgetter("job"))  # other processes lock the same rows in the same order
    _COUNT.run_many(tx, [{name: row[name] for name in ("job", "epoch", "after")} for row in rows])
    _ADD.run_many(tx, rows)
    return current_runs(tx, [run for run, _ in texts])


def current_runs(tx: sa.Connection, runs: Sequence[Run]) -> set[str]:
    """Return the ids of the jobs that these runs still hold."""
    found = tx.execute(_STATES, {"jobs": [run.job_id for run in runs]})
    epochs = {row.id: row.run_epoch for row in found}
    return {run.job_id for run in runs if epochs.get(run.job_id) == run.epoch}
