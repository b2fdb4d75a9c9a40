"""Cancelling a job at its client's request. A run of the job learns of it at its next write."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing import ledger
from app.errors import AlreadyEnded, Erased
from app.jobs.store.calls import close_orphaned
from app.jobs.store.events import Event, add_events
from app.jobs.store.job import account_of
from app.jobs.tables import OPEN, transcription, upstream_call
from app.kit.money import Money

_row = transcription.c
_call = upstream_call.c
_DOUBT = sa.select(sa.func.sum(_call.max_cost_nano)).where(
    _call.transcription_id == sa.bindparam("job"), _call.state == "in_doubt"
)


@dataclass(frozen=True, slots=True)
class CancellationCost:
    """The settled cost of a cancelled job, and the possible cost of its calls in doubt.

    `epoch` is the epoch of the job's last run. A later run belongs to another retry epoch.
    """

    charged: Money
    in_doubt: Money
    epoch: int


def own_row(tx: sa.Connection, project_id: str, job_id: str) -> Any:
    """Return a job's row of this project, locked; None if it has none of this id."""
    return tx.execute(
        sa.select(transcription)
        .where(_row.id == job_id, _row.project_id == project_id)
        .with_for_update()
    ).one_or_none()


def cancel(
    tx: sa.Connection,
    project_id: str,
    job_id: str,
    *,
    local_engines: Collection[str],
    now: datetime,
) -> CancellationCost | None:
    """Cancel an open job and return its cost; None if there is no such job.

    Cancelling it again changes nothing. Calls of `local_engines` cost nothing when their answer is
    lost. Raises Erased and AlreadyEnded.
    """
    row = own_row(tx, project_id, job_id)
    if row is None:
        return None
    if row.erased_at is not None:
        raise Erased
    if row.status == "cancelled":
        return cancellation_cost(tx, row)
    if row.status not in OPEN:
        raise AlreadyEnded(
            f"The transcription has ended already: it is `{row.status}`, so there is nothing left "
            "to cancel.",
            transcription_status=row.status,
        )
    return end_cancelled(tx, row, remote=row.engine not in local_engines, now=now)


def end_cancelled(tx: sa.Connection, row: Any, *, remote: bool, now: datetime) -> CancellationCost:
    """End the open job of a locked row without a result."""
    count = row.event_count + 1
    tx.execute(
        sa.update(transcription)
        .where(_row.id == row.id)
        .values(
            status="cancelled",
            completed_at=now,
            lease_until=None,
            event_count=count,
            source_url=None,  # a signed URL gives access to the audio to anyone who can read it
        )
    )
    # These calls may be in flight. Their run can no longer store their answers.
    close_orphaned(tx, row.id, remote=remote, now=now)
    ledger.release_hold(tx, account_of(row), now=now)
    cost = cancellation_cost(tx, row)
    said = {"charged": _as_json(cost.charged), "in_doubt": _as_json(cost.in_doubt)}
    add_events(tx, row.id, [Event("cancelled", said)], first=count, now=now)
    return cost


def cancellation_cost(tx: sa.Connection, row: Any) -> CancellationCost:
    """Return the cost of a job up to now."""
    currency = row.tariff["currency"]
    doubt = int(tx.scalar(_DOUBT, {"job": row.id}) or 0)
    settled = ledger.totals(tx, row.id).settled
    return CancellationCost(Money(settled, currency), Money(doubt, currency), row.run_epoch)


def _as_json(money: Money) -> dict[str, Any]:
    return {"amount": money.amount, "currency": money.currency, "nano": money.nano}
