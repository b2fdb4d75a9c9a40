"""Bringing a job's recording here, where the request gave only its URL.

It is done by the job's run under its lease; nothing is paid for, so whatever is cut short by a
crash is simply fetched again by the next run.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from app.audio.fetch import Fetcher, refused
from app.audio.ffmpeg import Decoders
from app.audio.inspect import inspect
from app.audio.probe import Probe, read_head
from app.audio.store import BlobStore, StoredBlob, delete_duplicate
from app.db.database import Database
from app.errors import AudioError
from app.jobs.planning import Planner, ProbedAudio
from app.jobs.store.job import Job
from app.jobs.store.recordings import NewAudio, find_or_add_audio, new_audio_of
from app.jobs.store.runs import Deferred, StaleRun, fenced_update
from app.jobs.tables import transcription
from app.kit.clock import Clock
from app.kit.log import log
from app.settings import AudioSettings

BUSY_SECONDS = 5.0  # until a job asks again whether it may fetch


_BRING = (
    sa.update(transcription)
    .where(transcription.c.id == sa.bindparam("job"))
    # The address is forgotten: one that is signed opens the recording for whoever reads it.
    .values(
        audio_id=sa.bindparam("audio"),
        source_url=None,
        plan=sa.bindparam("known_plan"),
        warnings=sa.bindparam("known_warnings"),
    )
)


class SourceFetcher:
    """Fetches recordings with the parts it is given."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        fetcher: Fetcher,
        *,
        planner: Planner,
        decoders: Decoders,
        settings: AudioSettings,
        at_once: int,
        clock: Clock,
    ) -> None:
        """Fetch at most so many recordings `at_once`: a slow server costs no other job its slot."""
        self._db = db
        self._store = store
        self._fetcher = fetcher
        self._planner = planner
        self._decoders = decoders
        self._settings = settings
        self._slots = asyncio.Semaphore(at_once)
        self._now = clock

    async def fetch(self, job: Job, url: str) -> Job:
        """Fetch, probe and keep the recording; return the job as it goes on from there.

        Raises UrlNotAllowed, UrlUnreachable, SourceTooLarge and other AudioErrors, StorageFull,
        CostAboveLimit and SecondsAboveLimit, Queued, StaleRun and DatabaseAway; of the recording
        nothing is left then.
        """
        if self._slots.locked():
            raise Deferred(BUSY_SECONDS, "paused")
        async with self._slots:
            return await self._fetch(job, url)

    async def _fetch(self, job: Job, url: str) -> Job:
        async with AsyncExitStack() as undo:
            blob = await self._fetcher.fetch(url, self._store, job.account.project_id)
            undo.push_async_callback(self._store.erase, blob.key)
            found = await self._look(job, blob)
            recording = new_audio_of(blob, found)
            known = self._planner.replan(job, ProbedAudio(found, blob.bytes))
            try:
                blob_key = await self._db.write(_keep, known, recording, now=self._now())
            except StaleRun:
                raise
            except BaseException:
                undo.pop_all()  # it may be committed all the same: the job needs its recording
                raise
            undo.pop_all()
        await delete_duplicate(self._store, blob.key, kept=blob_key)
        log.info("audio.fetched", bytes=blob.bytes)
        return replace(
            known,
            blob_key=blob_key,
            source_url=None,
            audio_format=recording.format,
            audio_sha256=recording.sha256,
            duration_ms=recording.duration_ms,
        )

    async def _look(self, job: Job, blob: StoredBlob) -> Probe:
        async with self._store.local_copy(blob.key) as path:
            try:
                return await inspect(
                    path,
                    decoders=self._decoders,
                    settings=self._settings,
                    raw_rate=job.options.raw_rate,
                )
            except AudioError as error:
                raise refused(error, read_head(path)) from None


def _keep(tx: sa.Connection, job: Job, recording: NewAudio, *, now: datetime) -> str:
    """Give the job its recording; return the key under which its bytes are kept."""
    # The job's row is locked before the audio's, as an erasure does it.
    fenced_update(tx, job.run, now=now)
    audio_id, blob_key, _ = find_or_add_audio(tx, job.account.project_id, recording, now)
    known = {"known_plan": job.plan.as_json(), "known_warnings": list(job.warnings)}
    tx.execute(_BRING, {"job": job.id, "audio": audio_id, **known})
    return blob_key
