"""The address at which an upstream reads a job's recording, by the way that its plan says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from app.audio.convert import FORM, as_flac
from app.audio.ffmpeg import Decoders
from app.audio.links import SignedLinks
from app.audio.store import BlobStore
from app.db.database import Database
from app.errors import AudioTooLarge, AudioUnreachable
from app.jobs.filetrans import store as task_calls
from app.jobs.filetrans.store import StoredAudio
from app.jobs.store.job import Job
from app.kit.clock import Clock
from app.kit.ids import new_id
from app.speech.engine import EngineError, ErrorKind
from app.speech.task_engine import FileUpload, TaskEngine

LINK_MARGIN_SECONDS = 3600.0  # that a link of ours is good beyond the task's deadline
UPLOAD_LIFE_SECONDS = 40 * 3600.0  # of the 48 hours that an upload is kept
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Address:
    """What the upstream is given, and what stands for the recording in the part's row."""

    url: str
    source: str


class AudioAddresses:
    """Makes addresses with the parts it is given."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        links: SignedLinks,
        *,
        decoders: Decoders,
        task_seconds: float,
        max_seconds: float,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._links = links
        self._decoders = decoders
        self._task_seconds = task_seconds
        self._max_seconds = max_seconds
        self._now = clock
        # An upload outlives a wait for the account's pace; it is not worth a row.
        self._uploaded: dict[str, tuple[float, str]] = {}

    async def of(self, job: Job, engine: TaskEngine, model: str) -> Address:
        """Return the address. Raises EngineError, AudioError, RecordingMissing, StorageFull."""
        if job.source_url is not None:
            return Address(job.source_url, job.source_url)
        kept = await self._db.read(task_calls.recording, job.id)
        if job.plan.audio_source == "gateway_url":
            lives = timedelta(seconds=self._task_seconds + LINK_MARGIN_SECONDS)
            return Address(
                self._links.url(kept.audio_id, kept.format, self._now() + lives), kept.sha256
            )
        return Address(await self._upload(job, kept, engine, model), kept.sha256)

    def forget(self, job_id: str) -> None:
        """Let go of an upload: it was submitted, or the service could not read it."""
        self._uploaded.pop(job_id, None)

    async def _upload(self, job: Job, kept: StoredAudio, engine: TaskEngine, model: str) -> str:
        now = asyncio.get_running_loop().time()
        until, url = self._uploaded.get(job.id, (0.0, ""))
        if now < until:
            return url
        async with self._file(job, kept) as file:
            try:
                url = await engine.upload(model, file)
            except EngineError as error:
                if error.kind is ErrorKind.REJECTED:
                    raise _too_large(file.length) from error
                raise
        while len(self._uploaded) >= MOST_REMEMBERED:
            self._uploaded.pop(next(iter(self._uploaded)))
        self._uploaded[job.id] = now + UPLOAD_LIFE_SECONDS, url
        return url

    @asynccontextmanager
    async def _file(self, job: Job, kept: StoredAudio) -> AsyncIterator[FileUpload]:
        """Lend the file to send: as it was received, or a copy that is gone afterwards."""
        if job.plan.as_is:
            yield self._sending(kept.blob_key, kept.bytes, kept.format)
            return
        async with self._store.local_copy(kept.blob_key) as path:
            try:
                copy = await as_flac(
                    path,
                    self._store,
                    job.account.project_id,
                    decoders=self._decoders,
                    sample_rate=job.plan.sample_rate,
                    keep_channels="channel_id" in job.options.engine_options,
                    max_seconds=self._max_seconds,
                    max_bytes=job.plan.file_bytes,
                    raw_rate=job.options.raw_rate,
                )
            except AudioTooLarge as error:
                raise _too_large(job.plan.file_bytes) from error
        try:
            yield self._sending(copy.key, copy.bytes, FORM)
        finally:
            await self._store.erase(copy.key)

    def _sending(self, key: str, size: int, form: str) -> FileUpload:
        # The name is ours: a client's could say what is private, to whoever sees the store.
        return FileUpload(f"{new_id('file')}.{form}", size, lambda: self._store.read(key))


def _too_large(size: int) -> AudioUnreachable:
    return AudioUnreachable(
        f"The service's temporary upload does not take a file of {size:,} bytes. Give the "
        "recording as a public https:// `url`, or send it in a smaller form such as MP3."
    )
