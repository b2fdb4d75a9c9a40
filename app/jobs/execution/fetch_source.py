"""Fetches a job's audio where the request gave only its URL.

The job's run fetches it under its lease. A fetch costs nothing, so a fetch that a crash interrupts
is repeated by the next run.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from app.audio.ffmpeg import Decoders
from app.audio.inspection.ffmpeg_probe import read_head
from app.audio.inspection.inspect import inspect
from app.audio.intake.download import Fetcher, explain_refusal
from app.audio.storage.blob_store import BlobStore, merge_duplicate
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

BUSY_SECONDS = 5.0  # before a job tries again to get a place to fetch


_SET_AUDIO = (
    sa.update(transcription)
    .where(transcription.c.id == sa.bindparam("job"))
    # The URL is deleted: a signed URL gives access to the audio to anyone who can read it.
    .values(
        audio_id=sa.bindparam("audio"),
        source_url=None,
        plan=sa.bindparam("known_plan"),
        warnings=sa.bindparam("known_warnings"),
    )
)


class SourceFetcher:
    """Fetches audio with the components it is given."""

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
        """Fetch at most `at_once` files concurrently: a slow server takes no slot of other jobs."""
        self._db = db
        self._store = store
        self._fetcher = fetcher
        self._planner = planner
        self._decoders = decoders
        self._settings = settings
        self._slots = asyncio.Semaphore(at_once)
        self._now = clock

    async def fetch(self, job: Job, url: str) -> Job:
        """Fetch, probe and store the audio; return the job with its audio.

        Raises UrlNotAllowed, UrlUnreachable, SourceTooLarge and other AudioErrors, StorageFull,
        CostAboveLimit, SecondsAboveLimit, Deferred, StaleRun and DatabaseUnavailable; then nothing
        of the audio is kept.
        """
        if self._slots.locked():
            raise Deferred(BUSY_SECONDS, "fetch_slot", "paused")
        async with self._slots:
            return await self._fetch(job, url)

    async def _fetch(self, job: Job, url: str) -> Job:
        async with AsyncExitStack() as undo:
            blob = await self._fetcher.fetch(url, self._store, job.account.project_id)
            undo.push_async_callback(self._store.erase, blob.key)
            async with self._store.local_copy(blob.key) as path:
                try:
                    found = await inspect(
                        path,
                        decoders=self._decoders,
                        settings=self._settings,
                        raw_rate=job.options.raw_rate,
                    )
                except AudioError as error:
                    raise explain_refusal(error, read_head(path)) from None
            recording = new_audio_of(blob, found)
            known = self._planner.replan(job, ProbedAudio(found, blob.bytes))
            try:
                blob_key = await self._db.write(_set_audio, known, recording, now=self._now())
            except StaleRun:
                raise
            except BaseException:
                undo.pop_all()  # the commit may have succeeded: the job needs its audio
                raise
            undo.pop_all()
        if blob_key != blob.key:
            await merge_duplicate(self._store, blob.key, blob_key)
        log.info("audio.fetched", bytes=blob.bytes)
        return replace(
            known,
            blob_key=blob_key,
            source_url=None,
            audio_format=recording.format,
            audio_sha256=recording.sha256,
            duration_ms=recording.duration_ms,
        )


def _set_audio(tx: sa.Connection, job: Job, recording: NewAudio, *, now: datetime) -> str:
    """Set the job's audio; return the key of the blob that holds its bytes."""
    # The job's row is locked before the audio's row, in the same order as in an erasure.
    fenced_update(tx, job.run, now=now)
    audio_id, blob_key, _ = find_or_add_audio(tx, job.account.project_id, recording, now)
    known = {"known_plan": job.plan.as_json(), "known_warnings": list(job.warnings)}
    tx.execute(_SET_AUDIO, {"job": job.id, "audio": audio_id, **known})
    return blob_key
