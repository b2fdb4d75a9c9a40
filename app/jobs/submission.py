"""The use-case: a received request becomes a durable job, or leaves nothing behind."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.access.principal import Principal
from app.audio.fetch import Fetcher
from app.audio.inspect import Inspector
from app.audio.intake import Received
from app.audio.store import BlobStore, delete_duplicate
from app.db.database import Database
from app.errors import DatabaseUnavailable, MissingAudio
from app.jobs.planning import Planner, ProbedAudio
from app.jobs.store.create import CreatedJob, JobSpec, Source, create_job
from app.jobs.store.recordings import NewAudio, new_audio_of
from app.jobs.worker.worker import Worker
from app.kit.clock import Clock
from app.settings import Settings
from app.speech.options import STREAM, Options


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that will end, and how long the caller wants to wait for that."""

    job_id: str
    options: Options


class Submission:
    """Turns requests into jobs with the parts it is given."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        runner: Worker,
        *,
        planner: Planner,
        inspector: Inspector,
        fetcher: Fetcher,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._runner = runner
        self._planner = planner
        self._inspector = inspector
        self._fetcher = fetcher
        self._settings = settings
        self._now = clock
        self._admitting: set[asyncio.Task[SubmittedJob]] = set()

    async def accept(
        self,
        principal: Principal,
        received: Received,
        preferred: Mapping[str, Any] = MappingProxyType({}),
    ) -> SubmittedJob:
        """Judge, store, probe, commit, begin; whatever fails on the way is undone.

        Options that are `preferred` count where the request says nothing of the kind.
        A caller who hangs up meanwhile changes nothing: it ends as if they had stayed.
        Raises AudioError, InvalidParameter, UnknownModel, PriceUnknown and their like.
        """
        admitting = asyncio.create_task(self._admit(principal, received, preferred))
        self._admitting.add(admitting)
        admitting.add_done_callback(self._admitting.discard)
        return await asyncio.shield(admitting)

    async def _admit(
        self, principal: Principal, received: Received, preferred: Mapping[str, Any]
    ) -> SubmittedJob:
        async with AsyncExitStack() as undo:
            if received.upload is not None:
                undo.push_async_callback(received.upload.discard)
            judged = self._planner.judge(received, preferred)
            if received.url is not None:
                self._fetcher.check(received.url)
                wish = self._planner.wish(judged, None)
                submitted = await self._submit(principal, Source(received.url), wish)
                return SubmittedJob(submitted.job_id, judged.options)
            if received.upload is None:
                raise MissingAudio
            blob = await received.upload.finish(principal.project_id)
            undo.push_async_callback(self._store.erase, blob.key)
            found = await self._inspector.inspect(blob.key, judged.raw)
            wish = self._planner.wish(judged, ProbedAudio(found, blob.bytes))
            try:
                submitted = await self._submit(principal, new_audio_of(blob, found), wish)
            except DatabaseUnavailable:
                undo.pop_all()  # the job may be committed all the same: it needs its recording
                raise
            undo.pop_all()
        await delete_duplicate(self._store, blob.key, kept=submitted.blob_key)
        return SubmittedJob(submitted.job_id, judged.options)

    async def _submit(
        self, principal: Principal, recording: NewAudio | Source, wish: JobSpec
    ) -> CreatedJob:
        """Commit the job and begin it, at once where a caller waits and this process has a slot.

        Else it is in the queue with the same commit.
        """
        waits = wish.mode != "async"
        kind = wish.plan["kind"]
        has_slot = self._runner.reserve_slot(kind, waits=waits)

        async def follow(made: CreatedJob, connection: Any) -> None:
            if made.claimed is None:
                await self._runner.put(made.job_id, kind, wish.priority, connection=connection)

        try:
            submitted = await self._db.write_then(
                follow,
                create_job,
                principal,
                recording,
                wish,
                now=self._now(),
                lease_seconds=self._settings.jobs.lease_seconds if has_slot else None,
            )
        except BaseException:
            if has_slot:
                self._runner.free_slot()
            raise
        # One who listens takes room for as long as their stream is open (see Runner.listening).
        takes_room = waits and wish.mode != STREAM
        self._runner.begin(submitted.job_id, submitted.claimed, waits=takes_room)
        return submitted
