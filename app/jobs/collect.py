"""Bringing a job's recording here, where the request gave only its URL.

It is done by the job's run under its lease; nothing is paid for, so whatever is cut short by a
crash is simply fetched again by the next run.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from app.audio.children import Decoders
from app.audio.fetch import Fetcher, refused
from app.audio.probe import Probe, probe, read_head
from app.audio.store import BlobStore, StoredBlob
from app.db.engine import Database
from app.errors import AudioError
from app.jobs.runs import Job, StaleRun, write_as
from app.jobs.submit import Recording, keep_audio, recording_of
from app.jobs.tables import transcription
from app.kit.clock import Clock
from app.settings import AudioSettings
from app.speech.catalogue import Catalogue
from app.speech.plan import PlanInput, plan

log = structlog.get_logger()

_BRING = (
    sa.update(transcription)
    .where(transcription.c.id == sa.bindparam("job"))
    # The address is forgotten: one that is signed opens the recording for whoever reads it.
    .values(audio_id=sa.bindparam("audio"), plan=sa.bindparam("known_plan"), source_url=None)
)


class Collector:
    """Fetches recordings with the parts it is given."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        fetcher: Fetcher,
        *,
        catalogue: Catalogue,
        decoders: Decoders,
        settings: AudioSettings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._fetcher = fetcher
        self._catalogue = catalogue
        self._decoders = decoders
        self._settings = settings
        self._now = clock

    async def collect(self, job: Job, url: str) -> Job:
        """Fetch, probe and keep the recording; return the job as it goes on from there.

        Raises UrlNotAllowed, UrlUnreachable, SourceTooLarge and other AudioErrors, StorageFull,
        StaleRun and DatabaseAway; of the recording nothing is left then.
        """
        async with AsyncExitStack() as undo:
            blob = await self._fetcher.fetch(url, self._store, job.account.project_id)
            undo.push_async_callback(self._store.erase, blob.key)
            found = await self._probe(blob)
            recording, known = recording_of(blob, found), self._plan(job, found)
            try:
                blob_key = await self._db.write(_keep, job, recording, known, now=self._now())
            except StaleRun:
                raise
            except BaseException:
                undo.pop_all()  # it may be committed all the same: the job needs its recording
                raise
            undo.pop_all()
        if blob_key != blob.key:  # these bytes were kept already
            with suppress(OSError):  # then it becomes an orphan, which upkeep removes
                await self._store.erase(blob.key)
        log.info("job.fetched", bytes=blob.bytes)
        return replace(
            job,
            blob_key=blob_key,
            source_url=None,
            audio_format=recording.format,
            duration_ms=recording.duration_ms,
            plan=known,
        )

    async def _probe(self, blob: StoredBlob) -> Probe:
        async with self._store.local_copy(blob.key) as path:
            try:
                return await probe(
                    path,
                    decoders=self._decoders,
                    max_seconds=self._settings.max_seconds,
                    deadline_seconds=self._settings.probe_seconds,
                )
            except AudioError as error:
                raise refused(error, read_head(path)) from None

    def _plan(self, job: Job, found: Probe) -> Mapping[str, Any]:
        """Return the job's plan, made anew now that the length is known."""
        model = self._catalogue.find(job.account.model)
        asked = PlanInput(found.seconds, model, self._settings.max_seconds)
        return {**job.plan, **asdict(plan(asked))}


def _keep(
    tx: sa.Connection, job: Job, recording: Recording, known: Mapping[str, Any], *, now: datetime
) -> str:
    """Give the job its recording; return the key under which its bytes are kept."""
    # The job's row is locked before the audio's, as an erasure does it.
    write_as(tx, job.run, now=now, events=[("fetched", {"bytes": recording.bytes})])
    audio_id, blob_key = keep_audio(tx, job.account.project_id, recording, now)
    tx.execute(_BRING, {"job": job.id, "audio": audio_id, "known_plan": dict(known)})
    return blob_key
