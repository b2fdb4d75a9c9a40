"""The append-only ledger of holds, settlements, releases and adjustments.

For each retry epoch of a job that has ended:  holds = settles + release,  unless a provider
reported more usage than was held for; then the release is zero and the settles stay as reported.
Adjustments follow the provider's bill, mostly long afterwards, and are not part of this sum.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from app.billing.tables import ledger_line
from app.db.prepared import Prepared
from app.kit.ids import new_id
from app.kit.records import dataclass

_line = ledger_line.c


def _sum_of_kinds(*kinds: str) -> sa.Function[int]:
    return sa.func.sum(sa.case((_line.kind.in_(kinds), _line.nano), else_=0))


_ADD_LINE = Prepared(sa.insert(ledger_line))
_TOTALS = Prepared(
    sa.select(
        _line.transcription_id,
        _sum_of_kinds("hold").label("held"),
        _sum_of_kinds("settle", "adjust").label("settled"),
        _sum_of_kinds("release").label("released"),
        sa.func.sum(_line.used_ms).label("used_ms"),
        sa.func.sum(_line.used_tokens).label("used_tokens"),
        sa.func.sum(sa.case((_line.estimated, 1), else_=0)).label("estimates"),
    )
    .where(_line.transcription_id.in_(sa.bindparam("jobs", expanding=True)))
    .group_by(_line.transcription_id)
)


_UNUSED = _sum_of_kinds("hold") - _sum_of_kinds("settle", "release")
_REMAINING = Prepared(
    sa.select(_UNUSED).where(
        _line.transcription_id == sa.bindparam("job"),
        _line.retry_epoch == sa.bindparam("its_retry_epoch"),
    )
)
_RELEASED = ("id", "project_id", "key_id", "transcription_id", "retry_epoch", "model", "currency")
_ADD_RELEASE = Prepared(
    sa.insert(ledger_line).from_select(
        [*_RELEASED, "created_at", "kind", "nano"],
        sa.select(
            *(sa.bindparam(f"its_{name}", type_=_line[name].type) for name in _RELEASED),
            sa.bindparam("now", type_=_line.created_at.type),
            sa.literal("release", _line.kind.type),
            sa.case((_UNUSED > 0, _UNUSED), else_=0),
        ).where(
            _line.transcription_id == sa.bindparam("its_transcription_id"),
            _line.retry_epoch == sa.bindparam("its_retry_epoch"),
        ),
    )
)

_BEGAN = Prepared(
    sa.select(_line.created_at).where(
        _line.transcription_id == sa.bindparam("job"),
        _line.retry_epoch == sa.bindparam("its_retry_epoch"),
        _line.kind == "hold",
        _line.call_id.is_(None),
    )
)


@dataclass(frozen=True, slots=True)
class LedgerAccount:
    """The owner of ledger entries: the same for all entries of a job's retry epoch."""

    project_id: str
    key_id: str | None
    transcription_id: str
    model: str
    currency: str
    retry_epoch: int = 0


@dataclass(frozen=True, slots=True)
class BilledUsage:
    """The usage and cost of one call. `estimated` where the provider reported no usage."""

    millis: int
    tokens: int
    nano: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class JobTotals:
    """Sums over a job's entries. `estimates` is the number of estimated settlements."""

    held: int = 0
    settled: int = 0
    released: int = 0
    used_ms: int = 0
    used_tokens: int = 0
    estimates: int = 0


def hold(
    tx: sa.Connection,
    account: LedgerAccount,
    nano: int,
    *,
    now: datetime,
    call_id: str | None = None,
) -> None:
    """Hold the maximum cost of a job; with `call_id`, the part of a call's that is not held yet."""
    _add_line(tx, account, "hold", nano, now, call_id=call_id)


def settle(
    tx: sa.Connection, account: LedgerAccount, call_id: str, used: BilledUsage, *, now: datetime
) -> None:
    """Record the usage and cost of a call that the provider bills. Refused a second time."""
    _add_line(
        tx,
        account,
        "settle",
        used.nano,
        now,
        call_id=call_id,
        used_ms=used.millis,
        used_tokens=used.tokens,
        estimated=used.estimated,
    )


def adjust(
    tx: sa.Connection,
    account: LedgerAccount,
    call_id: str,
    nano: int,
    *,
    used_ms: int,
    now: datetime,
) -> None:
    """Correct the cost of a call by the provider's bill. `nano` may be negative."""
    _add_line(tx, account, "adjust", nano, now, call_id=call_id, used_ms=used_ms)


def release_hold(tx: sa.Connection, account: LedgerAccount, *, now: datetime) -> None:
    """Release, at the end of a job, the part of its hold that was not settled."""
    _ADD_RELEASE.run(
        tx,
        {
            "its_id": new_id("ldg"),
            "its_project_id": account.project_id,
            "its_key_id": account.key_id,
            "its_transcription_id": account.transcription_id,
            "its_retry_epoch": account.retry_epoch,
            "its_model": account.model,
            "its_currency": account.currency,
            "now": now,
        },
    )


def remaining(tx: sa.Connection, account: LedgerAccount) -> int:
    """Return the part of a retry epoch's hold that is neither settled nor released."""
    terms = {"job": account.transcription_id, "its_retry_epoch": account.retry_epoch}
    return max(0, _REMAINING.scalar(tx, terms) or 0)


def began_at(tx: sa.Connection, account: LedgerAccount) -> datetime:
    """Return the time of a retry epoch's first hold, which is when the epoch began."""
    terms = {"job": account.transcription_id, "its_retry_epoch": account.retry_epoch}
    began: datetime = _BEGAN.scalar(tx, terms)
    return began


def totals(tx: sa.Connection, transcription_id: str) -> JobTotals:
    """Return the sums over a job's entries."""
    return totals_by_job(tx, [transcription_id]).get(transcription_id, JobTotals())


def totals_by_job(tx: sa.Connection, transcription_ids: Sequence[str]) -> dict[str, JobTotals]:
    """Return the sums over the entries of several jobs, by the job's id."""
    rows = _TOTALS.all(tx, {"jobs": transcription_ids})
    return {row[0]: JobTotals(*map(int, row[1:])) for row in rows}


def _add_line(
    tx: sa.Connection, account: LedgerAccount, kind: str, nano: int, now: datetime, **fields: object
) -> None:
    row = {
        "project_id": account.project_id,
        "key_id": account.key_id,
        "transcription_id": account.transcription_id,
        "model": account.model,
        "currency": account.currency,
        "retry_epoch": account.retry_epoch,
        "id": new_id("ldg"),
        "kind": kind,
        "nano": nano,
        "created_at": now,
        **fields,
    }
    _ADD_LINE.add(tx, row)
