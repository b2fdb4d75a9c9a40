"""Cancelling a job at its client's request. A run of the job learns of it at its next write."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import BilledUsage
from app.errors import AlreadyEnded, Erased
from app.jobs.store.calls import close_orphaned
from app.jobs.store.events import Event, add_events, has_unconfirmed_text
from app.jobs.store.job import account_of
from app.jobs.store.job_spec import JobPlan
from app.jobs.tables import OPEN, part, transcription, upstream_call
from app.kit.money import Money
from app.speech.engine import Billed
from app.speech.options import STREAM
from app.speech.usage_bounds import max_usage_of_call

_row = transcription.c
_call = upstream_call.c
_JOB = sa.bindparam("job", type_=sa.String)
_DOUBT = sa.select(sa.func.sum(_call.max_cost_nano)).where(
    _call.transcription_id == sa.bindparam("job"), _call.state == "in_doubt"
)

_TOLD_CALL = (
    sa.select(_call.id, _call.audio_ms, _call.max_cost_nano, part.c.partial_result)
    .join(part, sa.and_(part.c.transcription_id == _JOB, part.c.idx == _call.part_idx))
    .where(_call.transcription_id == _JOB, _call.state == "open", part.c.state == "pending")
    .order_by(_call.part_idx)
    .limit(1)
)

HasLiveText = Callable[[str], bool]


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
    has_live_text: HasLiveText,
    now: datetime,
) -> CancellationCost | None:
    """Cancel an open job and return its cost; None if there is no such job.

    Cancelling it again changes nothing. Calls of `local_engines` cost nothing when their answer is
    lost. A remote call whose text was published is charged at its largest cost: its words were
    delivered. `has_live_text` tells whether there is published text that is not stored. Raises
    Erased and AlreadyEnded.
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
    remote = row.engine not in local_engines
    return end_cancelled(tx, row, remote=remote, has_live_text=has_live_text, now=now)


def end_cancelled(
    tx: sa.Connection, row: Any, *, remote: bool, has_live_text: HasLiveText, now: datetime
) -> CancellationCost:
    """End the open job of a locked row without a result; see `cancel`."""
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
    is_told = row.mode == STREAM and (has_live_text(row.id) or has_unconfirmed_text(tx, row.id))
    if remote and is_told:
        _settle_told_call(tx, row, now=now)
    # These calls may be in flight. Their run can no longer store their answers.
    close_orphaned(tx, row.id, remote=remote, now=now)
    ledger.release_hold(tx, account_of(row), now=now)
    cost = cancellation_cost(tx, row)
    said = {"charged": _as_json(cost.charged), "in_doubt": _as_json(cost.in_doubt)}
    add_events(tx, row.id, [Event("cancelled", said)], first=count, now=now)
    return cost


def _settle_told_call(tx: sa.Connection, row: Any, *, now: datetime) -> None:
    """Settle the open call whose text was published, at its largest cost.

    Only the earliest part without a result publishes text, and only of a call for the whole part.
    """
    call = tx.execute(_TOLD_CALL, {"job": row.id}).one_or_none()
    if call is None or call.partial_result is not None:
        return
    account, plan = account_of(row), JobPlan.from_json(row.plan)
    closed = {"state": "failed", "billed": Billed.YES, "error_kind": "cancelled", "closed_at": now}
    tx.execute(sa.update(upstream_call).where(_call.id == call.id).values(**closed))
    most = max_usage_of_call(call.audio_ms, plan.tokens).times(plan.billed_channels)
    tokens = most.input_tokens + most.output_tokens
    used = BilledUsage(call.audio_ms, tokens, call.max_cost_nano, estimated=True)
    ledger.settle(tx, account, call.id, used, now=now)


def cancellation_cost(tx: sa.Connection, row: Any) -> CancellationCost:
    """Return the cost of a job up to now."""
    currency = row.tariff["currency"]
    doubt = int(tx.scalar(_DOUBT, {"job": row.id}) or 0)
    settled = ledger.totals(tx, row.id).settled
    return CancellationCost(Money(settled, currency), Money(doubt, currency), row.run_epoch)


def _as_json(money: Money) -> dict[str, Any]:
    return {"amount": money.amount, "currency": money.currency, "nano": money.nano}
