"""The first commit: a recording and a wish become a durable job. From here on a 2xx is true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from app.access.keys import check_key
from app.access.principal import Principal
from app.billing.ledger import Account, hold
from app.billing.prices import tariff_of
from app.db.prepared import Prepared
from app.db.schema import database_now
from app.jobs.store.events import Event, add_events
from app.jobs.store.job import Job, Run
from app.jobs.store.recordings import NewAudio, find_or_add_audio
from app.jobs.store.routes import EnginePlace, Route, fallbacks
from app.jobs.store.spending_limit import SpendingLimit
from app.jobs.tables import transcription
from app.kit.ids import new_id
from app.speech.planning.expected_usage import Expected

_ADD_QUEUED = Prepared(sa.insert(transcription).values(status="queued"))
_ADD_CLAIMED = Prepared(
    sa.insert(transcription).values(
        status="processing",
        run_epoch=1,
        runs_without_progress=1,
        lease_until=database_now(sa.bindparam("lease", type_=sa.Float)),
    )
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a recording is that the job's run has yet to fetch. A signed URL is a secret."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the caller asked for, already judged: all of it can be honoured or is warned of.

    The bounds are what its calls can use at most; tokens in and out, zero where nothing bounds
    them. `others` are where it may run when its engine cannot be asked. `ceiling` is what the
    caller lets it cost, `expected` what its calls are taken to use (None: the length is unknown).
    """

    model: str
    engine: str
    region: str
    mode: str
    options: Mapping[str, Any]
    plan: Mapping[str, Any]
    max_ms: int
    max_tokens: tuple[int, int] = (0, 0)
    others: Sequence[EnginePlace] = ()
    ceiling: SpendingLimit | None = None
    expected: Expected | None = None
    warnings: Sequence[Mapping[str, Any]] = ()
    priority: int = 0
    reference: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """The job, and the blob that holds its audio: another one if these bytes were known already.

    `blob_key` is empty where the recording is yet to be fetched.
    """

    job_id: str
    blob_key: str
    claimed: Job | None


def create_job(
    tx: sa.Connection,
    principal: Principal,
    recording: NewAudio | Source,
    wish: JobSpec,
    *,
    now: datetime,
    lease_seconds: float | None = None,
) -> CreatedJob:
    """Make the job durable, its upper bound held.

    Raises KeyInvalid and PriceUnknown, and with a ceiling what `Ceiling.check` raises.
    With `lease_seconds` the caller takes the job up in the same commit.
    """
    check_key(tx, principal, now=now)
    bounded = any(wish.max_tokens)
    tariff = tariff_of(tx, model=wish.model, region=wish.region, now=now, tokens_bounded=bounded)
    ceiling = wish.ceiling or SpendingLimit()
    ceiling.check(tariff, wish.expected)
    others = fallbacks(tx, wish.model, wish.others, tariff, now=now, tokens_bounded=bounded)
    here = recording if isinstance(recording, NewAudio) else None
    source_url = recording.url if isinstance(recording, Source) else None
    audio_id, blob_key = (
        find_or_add_audio(tx, principal.project_id, here, now) if here is not None else (None, "")
    )
    job_id = new_id("tr")
    row = {
        "id": job_id,
        "project_id": principal.project_id,
        "key_id": principal.key_id,
        "audio_id": audio_id,
        "source_url": source_url,
        "mode": wish.mode,
        "priority": wish.priority,
        "model": wish.model,
        "engine": wish.engine,
        "options": dict(wish.options),
        "plan": dict(wish.plan),
        "tariff": tariff.as_json(),
        "fallbacks": [route.as_json() for route in others],
        "warnings": list(wish.warnings),
        "reference": wish.reference,
        "client_metadata": wish.metadata,
        "event_count": 1,
        "created_at": now,
    }
    if lease_seconds is None:
        _ADD_QUEUED.run(tx, row)
    else:
        _ADD_CLAIMED.run(tx, {**row, "started_at": now, "lease": lease_seconds})
    account = Account(principal.project_id, principal.key_id, job_id, wish.model, tariff.currency)
    bound = (wish.max_ms, *wish.max_tokens)
    dearest = max(one.cost(*bound) for one in (tariff, *(route.tariff for route in others)))
    hold(tx, account, ceiling.held(dearest), now=now)
    add_events(tx, job_id, [Event("created", {"model": wish.model})], first=1, now=now)
    if lease_seconds is None:
        return CreatedJob(job_id, blob_key, None)
    claimed = Job(
        run=Run(job_id, 1, lease_seconds),
        account=account,
        routes=(Route(wish.engine, wish.plan["upstream_model"], tariff), *others),
        deferred_since=None,
        blob_key=blob_key,
        source_url=source_url,
        audio_format="" if here is None else here.format,
        duration_ms=None if here is None else here.duration_ms,
        options=wish.options,
        plan=wish.plan,
        warnings=wish.warnings,
        parts=(),
        runs_without_progress=1,
        priority=wish.priority,
        mode=wish.mode,
    )
    return CreatedJob(job_id, blob_key, claimed)
