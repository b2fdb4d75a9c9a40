"""The first commit of a job: audio, job, hold, event and, where it is admitted, its first call."""

from dataclasses import field
from datetime import datetime

import sqlalchemy as sa

from app.access.keys import check_key
from app.access.principal import Principal
from app.billing.ledger import JobTotals, LedgerAccount, hold
from app.db.prepared import Prepared
from app.db.schema import database_now
from app.jobs.store.calls import open_first_call
from app.jobs.store.events import add_events, created
from app.jobs.store.job import Audio, Job, JobView, Run
from app.jobs.store.job_spec import JobSpec
from app.jobs.store.parts import PartSpan
from app.jobs.store.recordings import NewAudio, find_or_add_audio
from app.jobs.store.routes import quote
from app.jobs.store.spending_limit import SpendingLimit
from app.jobs.tables import transcription
from app.kit.ids import new_id
from app.kit.records import dataclass

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
    """The URL of audio that the job's run is to fetch. A signed URL is a secret."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """A committed job.

    `blob_key` is the blob that holds its audio: another blob than the one that was stored for the
    request where the project has the same bytes already, and empty where the audio is yet to be
    fetched. `claimed` is the job where its run may begin at once. `first_call` is the id of its
    recorded call and the amount the job holds with it. `view` is the job as the API shows it, where
    that is known without reading it.
    """

    job_id: str
    blob_key: str
    claimed: Job | None
    first_call: tuple[str, int] | None = None
    view: JobView | None = None


def create_job(
    tx: sa.Connection,
    principal: Principal,
    recording: NewAudio | Source,
    spec: JobSpec,
    *,
    now: datetime,
    lease_seconds: float | None = None,
    first_span: PartSpan | None = None,
) -> CreatedJob:
    """Create a job, its audio, its hold and its first event; the commit makes the job durable.

    With `lease_seconds` the caller claims the job in the same commit. `first_span` is the whole
    audio of a job whose first call is admitted already: the call is recorded as well. Raises
    KeyInvalid and PriceUnknown, and with a spending limit the errors of `SpendingLimit.check`.
    """
    check_key(tx, principal, now=now)
    price = quote(tx, spec, now=now)
    tariff, limit = price.tariff, spec.options.spending_limit or SpendingLimit()
    limit.check(tariff, spec.expected)
    audio, blob_key = None, ""
    if isinstance(recording, NewAudio):
        audio_id, blob_key, was_added = find_or_add_audio(tx, principal.project_id, recording, now)
        audio = Audio(
            audio_id,
            blob_key,
            recording.bytes,
            recording.format,
            recording.channels,
            recording.sample_rate,
            recording.duration_ms,
        )
    source_url = recording.url if isinstance(recording, Source) else None
    is_claimed = lease_seconds is not None
    view = JobView(
        id=new_id("tr"),
        status="processing" if is_claimed else "queued",
        mode=spec.mode,
        model=spec.model,
        engine=spec.engine,
        plan=spec.plan,
        currency=tariff.currency,
        options=spec.options,
        warnings=spec.warnings,
        error=None,
        reference=spec.reference,
        metadata=spec.metadata,
        done_ms=0,
        created_at=now,
        started_at=now if is_claimed else None,
        completed_at=None,
        erased_at=None,
        audio=audio,
        totals=JobTotals(),
        transcript=None,
    )
    row = {
        "id": view.id,
        "project_id": principal.project_id,
        "key_id": principal.key_id,
        "audio_id": audio and audio.id,
        "source_url": source_url,
        "mode": spec.mode,
        "priority": spec.priority,
        "model": spec.model,
        "engine": spec.engine,
        "options": spec.options.as_json(),
        "plan": spec.plan.as_json(),
        "tariff": tariff.as_json(),
        "fallbacks": [route.as_json() for route in price.routes[1:]],
        "warnings": spec.warnings,
        "reference": spec.reference,
        "client_metadata": spec.metadata,
        "event_count": 1,
        "created_at": now,
    }
    if is_claimed:
        _ADD_CLAIMED.add(tx, {**row, "started_at": now, "lease": lease_seconds})
    else:
        _ADD_QUEUED.add(tx, row)
    account = LedgerAccount(
        principal.project_id, principal.key_id, view.id, spec.model, tariff.currency
    )
    held_nano = limit.held(price.max_cost_nano)
    hold(tx, account, held_nano, now=now)
    add_events(tx, view.id, [created(spec.model)], first=1, now=now)
    if lease_seconds is None:
        return CreatedJob(view.id, blob_key, None)
    claimed = Job(
        run=Run(view.id, 1, lease_seconds),
        account=account,
        routes=price.routes,
        deferred_since=None,
        blob_key=blob_key,
        source_url=source_url,
        audio_format="" if audio is None else audio.format,
        audio_sha256=recording.sha256 if isinstance(recording, NewAudio) else None,
        duration_ms=None if audio is None else audio.duration_ms,
        options=spec.options,
        plan=spec.plan,
        warnings=spec.warnings,
        parts=(),
        runs_without_progress=1,
        priority=spec.priority,
        mode=spec.mode,
    )
    first_call = None
    if first_span is not None:
        first_call = open_first_call(tx, claimed, first_span, held_nano=held_nano, now=now)
    # Of known audio the stored figures may differ; raw answers are not part of a view in memory.
    is_whole = audio is not None and was_added and not spec.options.keeps_raw
    return CreatedJob(view.id, blob_key, claimed, first_call, view if is_whole else None)
