"""The use-case: a received request becomes a durable job, or leaves nothing behind."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.access.principal import Principal
from app.audio.inspection.inspect import Inspector
from app.audio.intake.download import Fetcher
from app.audio.intake.receive import Received
from app.audio.storage.blob_store import BlobStore, merge_duplicate
from app.db.database import Database
from app.errors import DatabaseUnavailable
from app.jobs.execution.claimed import ClaimedJob
from app.jobs.planning import Planner, ProbedAudio
from app.jobs.store.create import CreatedJob, Source, create_job
from app.jobs.store.job_spec import JobSpec
from app.jobs.store.parts import PartSpan
from app.jobs.store.recordings import NewAudio, new_audio_of
from app.jobs.store.runs import QueuedJob
from app.jobs.upstream.caller import FirstCall
from app.jobs.worker.worker import Worker
from app.kit.clock import Clock
from app.kit.records import dataclass
from app.settings import Settings
from app.speech.engine import CallSlot
from app.speech.members import missing_audio
from app.speech.options import STREAM, Options


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that will reach an end state, its model, and the options of its request."""

    job_id: str
    options: Options
    model: str


class Submission:
    """Turns requests into jobs."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        worker: Worker,
        *,
        planner: Planner,
        inspector: Inspector,
        fetcher: Fetcher,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._worker = worker
        self._planner = planner
        self._inspector = inspector
        self._fetcher = fetcher
        self._settings = settings
        self._now = clock
        self._in_progress: set[asyncio.Task[SubmittedJob]] = set()

    async def submit(
        self,
        principal: Principal,
        received: Received,
        preferred: Mapping[str, Any] = MappingProxyType({}),
    ) -> SubmittedJob:
        """Resolve, store, inspect, commit and start a request; a failure undoes all of it.

        Options in `preferred` apply where the request itself does not set them. A caller who
        disconnects meanwhile changes nothing. Raises AudioError, InvalidParameter, UnknownModel,
        PriceUnknown and other errors of the request.
        """
        submitting = asyncio.create_task(self._submit(principal, received, preferred))
        self._in_progress.add(submitting)
        submitting.add_done_callback(self._in_progress.discard)
        return await asyncio.shield(submitting)

    async def _submit(
        self, principal: Principal, received: Received, preferred: Mapping[str, Any]
    ) -> SubmittedJob:
        upload = received.upload
        try:
            request = self._planner.resolve(received, preferred)
            blob = await upload.finish(principal.project_id) if upload is not None else None
        except BaseException:
            if upload is not None:
                await upload.discard()
            raise
        if received.url is not None:
            self._fetcher.check(received.url)
            spec = self._planner.spec(request, None)
            created = await self._create(principal, Source(received.url), spec)
            return SubmittedJob(created.job_id, request.options, spec.model)
        if blob is None:
            raise missing_audio(received.options)
        try:
            found = await self._inspector.inspect(blob, request.raw)
            spec = self._planner.spec(request, ProbedAudio(found, blob.bytes))
            created = await self._create(principal, new_audio_of(blob, found), spec, blob.data)
        except DatabaseUnavailable:
            raise  # the job may be committed all the same: it needs its audio
        except BaseException:
            await self._store.erase(blob.key)
            raise
        return SubmittedJob(created.job_id, request.options, spec.model)

    async def _create(
        self,
        principal: Principal,
        recording: NewAudio | Source,
        spec: JobSpec,
        received: bytes | None = None,
    ) -> CreatedJob:
        """Commit the job and start it at once where its caller waits and a job slot is free.

        Otherwise the job is put into the queue with the same commit. The first call of a direct
        job is recorded in the same commit where the engine admits it without waiting.
        """
        waits = spec.mode != "async"
        kind = spec.plan.kind
        has_slot = self._worker.reserve_slot(kind, waits=waits)
        slot = await self._admit(spec) if has_slot and isinstance(recording, NewAudio) else None
        span = None
        if slot is not None and isinstance(recording, NewAudio):
            length_ms = recording.duration_ms or 0
            span = PartSpan(0, 0, length_ms, length_ms, recording.sha256)

        async def enqueue(created: CreatedJob, connection: Any) -> None:
            if created.claimed is None:
                queued = QueuedJob(created.job_id, 0, spec.priority, kind)
                await self._worker.put([queued], connection)

        try:
            created = await self._db.write_then(
                enqueue,
                create_job,
                principal,
                recording,
                spec,
                now=self._now(),
                lease_seconds=self._settings.jobs.lease_seconds if has_slot else None,
                first_span=span,
            )
        except BaseException:
            if slot is not None:
                slot.release()
            if has_slot:
                self._worker.free_slot()
            raise
        if isinstance(recording, NewAudio) and created.blob_key != recording.blob_key:
            await merge_duplicate(self._store, recording.blob_key, created.blob_key)
        claimed = None
        if created.claimed is not None:
            claimed = ClaimedJob(created.claimed, received, created=created.view)
            if slot is not None and created.first_call is not None:
                call_id, held_nano = created.first_call
                claimed.first_call = FirstCall(call_id, spec.engine, slot, held_nano)
        # A listener takes capacity for as long as its stream is open (see Worker.listening).
        self._worker.begin(created.job_id, claimed, waits=waits and spec.mode != STREAM)
        return created

    async def _admit(self, spec: JobSpec) -> CallSlot | None:
        """Admit the only call of a job that is sent as received, if that needs no waiting.

        A job with a spending limit is admitted later: the limit is checked with each call.
        """
        if (
            not spec.plan.as_is
            or spec.plan.kind != "direct"
            or spec.options.spending_limit is not None
        ):
            return None
        return await self._planner.try_admit(spec.engine, spec.plan.upstream_model)
