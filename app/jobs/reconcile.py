"""Reconciliation of calls and ledger entries with the upstream's bill, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

import sqlalchemy as sa

from app.billing import ledger
from app.billing.bill import BillLine, regions_of
from app.billing.ledger import LedgerAccount
from app.billing.reconcile import RecordedCall, Report, compare
from app.jobs.store.job_spec import JobPlan
from app.jobs.store.routes import routes_of
from app.jobs.tables import billing_tables, transcription, upstream_call

_call = upstream_call.c
_job = transcription.c
_line = billing_tables.ledger_line.c
_COUNTS = _line.kind.in_(("settle", "adjust"))
_SUMS = (
    sa.select(
        _line.call_id,
        sa.func.sum(_line.nano).label("nano"),
        sa.func.sum(_line.used_ms).label("used_ms"),
    )
    .where(_COUNTS)
    .group_by(_line.call_id)
    .subquery()
)
_CALLS = (
    sa.select(
        *(_call[name] for name in ("id", "transcription_id", "model", "state", "request_id")),
        _call.audio_ms,
        _call.opened_at,
        _job.project_id,
        _job.key_id,
        _call.engine.label("call_engine"),
        *(_job[name] for name in ("engine", "plan", "tariff", "fallbacks")),
        sa.func.coalesce(_SUMS.c.nano, 0).label("nano"),
        sa.func.coalesce(_SUMS.c.used_ms, 0).label("used_ms"),
    )
    .join(transcription, _job.id == _call.transcription_id)
    .outerjoin(_SUMS, _SUMS.c.call_id == _call.id)
    .where(_call.state != "open")
    .order_by(_call.id)
)
_MARGIN = timedelta(days=1)  # a call at midnight may be billed on the other day
_LOCK = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("asr-gateway reconcile")))


@dataclass(frozen=True, slots=True)
class BillScope:
    """The calls that a bill covers: those of an engine from `since` up to `until` (excluded).

    `also` names further engines whose account has the same bill.
    """

    engine: str
    since: datetime | None = None
    until: datetime | None = None
    also: tuple[str, ...] = ()

    def contains(self, moment: datetime) -> bool:
        """Tell whether a call of this time is covered."""
        is_after = self.since is None or moment >= self.since
        return is_after and (self.until is None or moment < self.until)


def days_of(bill: Sequence[BillLine]) -> tuple[datetime, datetime] | None:
    """Return the whole UTC days that the bill spans; None where a line has no time."""
    moments = [line.started_at for line in bill if line.started_at is not None]
    if len(moments) < len(bill):
        return None
    return _start_of_day(min(moments)), _start_of_day(max(moments)) + timedelta(days=1)


def look(tx: sa.Connection, bill: Sequence[BillLine], scope: BillScope) -> Report:
    """Compare and change nothing. Raises ValueError where the calls cannot be on one bill."""
    return compare(_calls(tx, bill, scope), bill)


def apply(
    tx: sa.Connection, bill: Sequence[BillLine], scope: BillScope, *, now: datetime
) -> Report:
    """Adjust the ledger to the total of the bill; return the comparison made before.

    A call that was matched by its length keeps the request id, so that no later bill matches it
    again.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(_LOCK)  # of two concurrent reconciliations the second finds no difference
    report = look(tx, bill, scope)
    for found in report.differences:
        if found.call is not None and found.nano:
            call = found.call
            used_ms = max(0, found.millis)
            ledger.adjust(tx, call.account, call.call_id, found.nano, used_ms=used_ms, now=now)
    for call, line in report.matched:
        if not call.request_id and line.request_id:
            named = sa.update(upstream_call).where(_call.id == call.call_id)
            tx.execute(named.values(request_id=line.request_id))
    return report


def _calls(tx: sa.Connection, bill: Sequence[BillLine], scope: BillScope) -> list[RecordedCall]:
    """Return the calls in scope, in the bill's regions, and those near it that the bill names."""
    wanted = _CALLS.where(_call.engine.in_((scope.engine, *scope.also)))
    if scope.since is not None:
        wanted = wanted.where(_call.opened_at >= scope.since - _MARGIN)
    if scope.until is not None:
        wanted = wanted.where(_call.opened_at < scope.until + _MARGIN)
    ids = {line.request_id for line in bill}
    regions = regions_of(bill)
    calls = []
    for row in tx.execute(wanted):
        routes = routes_of(row, JobPlan.from_json(row.plan).upstream_model)
        route = next(route for route in routes if route.engine == row.call_engine)
        tariff = route.tariff
        is_in_region = not regions or tariff.region in regions
        if row.request_id not in ids and not (scope.contains(row.opened_at) and is_in_region):
            continue
        job = (row.project_id, row.key_id, row.transcription_id)
        call = RecordedCall(
            call_id=row.id,
            state=row.state,
            request_id=row.request_id,
            upstream_model=route.upstream_model,
            audio_ms=row.audio_ms,
            opened_at=row.opened_at,
            account=LedgerAccount(*job, row.model, tariff.currency),
            tariff=tariff,
            nano=int(row.nano),
            used_ms=int(row.used_ms),
        )
        calls.append(call)
    return calls


def _start_of_day(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), time(), moment.tzinfo)
