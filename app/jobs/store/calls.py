"""Upstream calls: recorded before each call, closed after it, and in doubt if the end was lost."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.billing import ledger
from app.billing.ledger import BilledUsage
from app.billing.tables import ledger_line
from app.db.prepared import Prepared
from app.errors import UpstreamInDoubt
from app.jobs.store.attempts import AttemptCounts, count_attempts
from app.jobs.store.events import Event
from app.jobs.store.job import Job
from app.jobs.store.parts import (
    PartSpan,
    add_part,
    finish_part,
    store_parts,
    stored_result,
)
from app.jobs.store.routes import Route
from app.jobs.store.runs import fenced_update
from app.jobs.tables import upstream_call
from app.kit.ids import new_id
from app.kit.records import dataclass
from app.speech.engine import Billed, EngineAnswer, EngineError, ErrorKind
from app.speech.planning.fit_options import estimate_tokens
from app.speech.usage_bounds import MILLIS, Units, max_usage_of_call

RETRIES_IN_DOUBT = 1
RETRIED_IN_DOUBT_MS = 300_000  # a longer call costs too much to be repeated on a guess
_call = upstream_call.c
_JOB = sa.bindparam("job", type_=sa.String)
_ADD_CALL = Prepared(sa.insert(upstream_call))
_CLOSE = Prepared(
    sa.update(upstream_call).where(_call.id == sa.bindparam("call"), _call.state == "open")
)
_STATE = Prepared(sa.select(_call.state).where(_call.id == sa.bindparam("call")))
_CALLS_OF_PART = Prepared(
    sa.select(_call.state, _call.run_epoch).where(
        _call.transcription_id == _JOB, _call.part_idx == sa.bindparam("index")
    )
)
_REFUSED = Prepared(
    sa.select(_call.id).where(
        _call.transcription_id == _JOB,
        _call.part_idx == 0,
        _call.error_kind == ErrorKind.REJECTED,
        _call.billed == Billed.NO,
    )
)
_SECONDS = Prepared(
    sa.select(sa.func.sum((_call.audio_ms + (MILLIS - 1)) // MILLIS)).where(
        _call.transcription_id == _JOB, _call.state.in_(("open", "in_doubt"))
    )
)
# Largest cost of calls in this retry epoch that may still be billed: it stays reserved.
_BOUNDS = Prepared(
    sa.select(sa.func.sum(_call.max_cost_nano)).where(
        _call.transcription_id == _JOB,
        _call.state.in_(("open", "in_doubt")),
        _call.run_epoch > sa.bindparam("retry_epoch"),
    )
)

# The same of earlier retry epochs: it is released, but not known to be free. A bill settles it.
_EARLIER_DOUBT = Prepared(
    sa.select(sa.func.sum(_call.max_cost_nano)).where(
        _call.transcription_id == _JOB,
        _call.state == "in_doubt",
        _call.run_epoch <= sa.bindparam("retry_epoch"),
        ~sa.exists().where(ledger_line.c.call_id == _call.id, ledger_line.c.kind == "adjust"),
    )
)


@dataclass(frozen=True, slots=True)
class Answered:
    """A call on a route that brought an answer for its span."""

    route: Route
    call_id: str
    span: PartSpan
    answer: EngineAnswer


def open_call(
    tx: sa.Connection,
    job: Job,
    route: Route,
    span: PartSpan,
    silent: Sequence[PartSpan],
    *,
    retry_in_doubt: bool,
    now: datetime,
) -> str:
    """Record a call before it is made, reserve its largest cost, and return its id.

    `silent` are the spans before it that will not be sent. Raises StaleRun, UpstreamInDoubt where
    an earlier call for this part may have been billed and must not be repeated, and the errors of
    `SpendingLimit.check_call` where the client's limit does not allow it.
    """
    fenced_update(tx, job.run, now=now)
    store_parts(tx, job, [*silent, span])
    made = _CALLS_OF_PART.all(tx, {"job": job.id, "index": span.index})
    # The client accepts with a retry that calls from before it may have been billed.
    in_doubt = sum(state == "in_doubt" for state, epoch in made if epoch > job.account.retry_epoch)
    is_affordable = span.length_ms <= RETRIED_IN_DOUBT_MS and in_doubt <= RETRIES_IN_DOUBT
    if in_doubt and not (retry_in_doubt and is_affordable):
        raise UpstreamInDoubt
    max_cost_nano = route.tariff.cost(*_max_usage_of(job, span))
    shortfall = 0
    if max_cost_nano:
        bounds = _BOUNDS.scalar(tx, {"job": job.id, "retry_epoch": job.account.retry_epoch})
        shortfall = max_cost_nano + int(bounds or 0) - ledger.remaining(tx, job.account)
    _check_spending_limit(tx, job, span, max(0, shortfall))
    call_id = _add_call(
        tx, job, route, span, attempt=len(made) + 1, max_cost_nano=max_cost_nano, now=now
    )
    if shortfall > 0:
        ledger.hold(tx, job.account, shortfall, now=now, call_id=call_id)
    return call_id


class AlreadyCommittedError(Exception):
    """An earlier attempt to commit this outcome succeeded, although its caller did not learn it."""


def open_first_call(
    tx: sa.Connection, job: Job, span: PartSpan, *, held_nano: int, now: datetime
) -> tuple[str, int]:
    """Record the first call of a job in the transaction that creates the job.

    `span` is the whole audio. Returns the call's id and the amount the job holds with it. Nothing
    is read: no other part or call of the job exists.
    """
    add_part(tx, job, span)
    route = job.routes[0]
    max_cost_nano = route.tariff.cost(*_max_usage_of(job, span))
    call_id = _add_call(tx, job, route, span, attempt=1, max_cost_nano=max_cost_nano, now=now)
    shortfall = max_cost_nano - held_nano
    if shortfall > 0:
        ledger.hold(tx, job.account, shortfall, now=now, call_id=call_id)
    return call_id, max(held_nano, max_cost_nano)


def _add_call(
    tx: sa.Connection,
    job: Job,
    route: Route,
    span: PartSpan,
    *,
    attempt: int,
    max_cost_nano: int,
    now: datetime,
) -> str:
    call_id = new_id("call")
    row = {
        "id": call_id,
        "transcription_id": job.id,
        "part_idx": span.index,
        "attempt": attempt,
        "run_epoch": job.run.epoch,
        "engine": route.engine,
        "model": job.account.model,
        "state": "open",
        "audio_ms": span.length_ms,
        "max_cost_nano": max_cost_nano,
        "opened_at": now,
    }
    _ADD_CALL.add(tx, row)
    return call_id


def close_unmade(tx: sa.Connection, /, call_id: str, *, now: datetime) -> None:
    """Close a recorded call that was never made: it cannot have been billed."""
    _close_call(tx, call_id, now, state="failed", error_kind="unmade", billed=Billed.NO)


def close_answered(
    tx: sa.Connection, job: Job, answered: Answered, *, keep_raw: bool, now: datetime
) -> None:
    """Settle an answered call and store its result with the part, after the run's fence."""
    settle_answered(tx, job, answered, keep_raw=keep_raw, now=now)
    result = stored_result(answered.answer, answered.route.engine)
    finish_part(tx, job, answered.span.index, result)


def settle_answered(
    tx: sa.Connection, job: Job, answered: Answered, *, keep_raw: bool, now: datetime
) -> BilledUsage:
    """Close and settle an answered call, after the run's fence; return its usage.

    Raises AlreadyCommittedError where the call is not open.
    """
    call_id, answer = answered.call_id, answered.answer
    was_open = _close_call(
        tx,
        call_id,
        now,
        state="answered",
        request_id=answer.request_id,
        usage=answer.usage.raw,
        answer=answer.raw if keep_raw else None,
        billed=Billed.YES,
    )
    if not was_open:
        raise AlreadyCommittedError
    used = usage_of(job, answered)
    ledger.settle(tx, job.account, call_id, used, now=now)
    return used


def close_failed(
    tx: sa.Connection,
    job: Job,
    route: Route,
    span: PartSpan,
    call_id: str,
    error: EngineError,
    *,
    voids: bool = False,
    now: datetime,
) -> AttemptCounts:
    """Close a call that brought no text and settle its certain cost. Raises StaleRun.

    `voids`: the call had published text, which a `reset` event revokes. Returns the number of
    attempts of this part on this route, this one included.
    """
    fenced_update(tx, job.run, now=now, events=[Event("reset", {})] if voids else ())
    state = "in_doubt" if error.billed is Billed.MAYBE else "failed"
    fields = {"state": state, "error_kind": error.kind, "billed": error.billed}
    is_first_try = _close_call(
        tx, call_id, now, **fields
    )  # else an earlier one was committed after all
    if is_first_try and error.billed is Billed.YES:
        most = _max_usage_of(job, span)
        tokens = most.input_tokens + most.output_tokens
        used = BilledUsage(span.length_ms, tokens, route.tariff.cost(*most), estimated=True)
        ledger.settle(tx, job.account, call_id, used, now=now)
    return count_attempts(tx, job.id, span.index, route.engine)


def close_orphaned(
    tx: sa.Connection, job_id: str, *, remote: bool, now: datetime, but_tasks: bool = False
) -> bool:
    """Close the open calls of a job whose answers are lost.

    A remote engine may have billed them, so they are in doubt; calls of the local engine ended with
    its process. `but_tasks`: calls with a known task id stay open, as their task can still be
    polled. Returns whether there were any others.
    """
    unseen = [_call.transcription_id == job_id, _call.state == "open"]
    if but_tasks:
        unseen.append(_call.task_id.is_(None))
    fate = (
        {"state": "in_doubt", "billed": Billed.MAYBE}
        if remote
        else {"state": "failed", "error_kind": "lost", "billed": Billed.NO}
    )
    unseen_calls = sa.update(upstream_call).where(*unseen).values(closed_at=now, **fate)
    return tx.execute(unseen_calls).rowcount > 0


def was_rejected(tx: sa.Connection, job_id: str) -> bool:
    """Whether an engine rejected the job's first part, without a charge."""
    return _REFUSED.scalar(tx, {"job": job_id}) is not None


def is_answered(tx: sa.Connection, call_id: str) -> bool:
    """Whether a call's answer was stored, by a commit whose result may be unknown here."""
    return bool(_STATE.scalar(tx, {"call": call_id}) == "answered")


def usage_of(job: Job, answered: Answered) -> BilledUsage:
    """Return the usage of a call: as the upstream reports it, else the milliseconds sent.

    Where it is paid by the token, missing token counts are estimated from audio and text.
    """
    tariff, usage = answered.route.tariff, answered.answer.usage
    length_ms = answered.span.length_ms * job.plan.billed_channels
    used_ms = length_ms if usage.seconds is None else round(usage.seconds * MILLIS)
    tokens, text_tokens = (usage.input_tokens, usage.output_tokens), usage.text_tokens
    is_guess = usage.seconds is None
    if tariff.counts_tokens:
        is_guess = not any(tokens) and usage.seconds != 0  # which is how silence is reported
        if is_guess:
            bounds = job.plan.tokens
            audio_tokens = bounds.audio_tokens(length_ms) if bounds else 0
            context_tokens = estimate_tokens(job.options.context or "")
            tokens = audio_tokens + context_tokens, estimate_tokens(answered.answer.text)
    cost = tariff.cost(used_ms, *tokens, text_tokens)
    return BilledUsage(used_ms, sum(tokens), cost, estimated=is_guess)


def _check_spending_limit(tx: sa.Connection, job: Job, span: PartSpan, more_nano: int) -> None:
    """Raise where a call could take the job's cost above the client's spending limit."""
    limit = job.options.spending_limit
    if limit is None:
        return
    totals = ledger.totals(tx, job.id)
    unsettled = _SECONDS.scalar(tx, {"job": job.id}) or 0
    terms = {"job": job.id, "retry_epoch": job.account.retry_epoch}
    doubt = int(_EARLIER_DOUBT.scalar(tx, terms) or 0) if job.account.retry_epoch else 0
    limit.check_call(
        held=max(totals.held - totals.released, totals.settled) + doubt + more_nano,
        millis=totals.used_ms
        + int(unsettled) * MILLIS
        + max_usage_of_call(span.length_ms, None)[0],
        currency=job.account.currency,
    )


def _max_usage_of(job: Job, span: PartSpan) -> Units:
    """Return the most that a call can use. Each requested channel of the audio is billed."""
    return max_usage_of_call(span.length_ms, job.plan.tokens).times(job.plan.billed_channels)


def _close_call(tx: sa.Connection, call_id: str, now: datetime, **fields: Any) -> bool:
    """Close a call that is open; return whether it was."""
    return _CLOSE.run(tx, {"call": call_id, "closed_at": now, **fields}) == 1
