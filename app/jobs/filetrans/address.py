"""The address from which a provider reads a job's audio, by the audio source of its plan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from app.audio.decoding.convert import FORM, as_flac
from app.audio.ffmpeg import Decoders
from app.audio.storage.blob_store import BlobStore
from app.audio.storage.links import SignedLinks
from app.db.database import Database
from app.errors import AudioTooLarge, AudioUnreachable
from app.jobs.filetrans.store import StoredAudio, find_task_audio
from app.jobs.store.job import Job
from app.kit.clock import Clock
from app.kit.ids import new_id
from app.speech.engine import EngineError, ErrorKind
from app.speech.task_engine import FileUpload, TaskEngine

LINK_MARGIN_SECONDS = 3600.0  # for which a signed link is valid beyond the task's timeout
UPLOAD_LIFE_SECONDS = 40 * 3600.0  # of the 48 hours for which the provider stores an upload
MAX_REMEMBERED_UPLOADS = 10_000


@dataclass(frozen=True, slots=True)
class Address:
    """The URL that the provider reads, and the hash or URL from which the part's hash is made."""

    url: str
    source: str


class AudioAddresses:
    """Makes addresses; audio is uploaded to the provider where the plan says so."""

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
        # An upload is reused when the submit is deferred; after a restart it is made again.
        self._uploaded: dict[str, tuple[float, str]] = {}

    async def of(self, job: Job, engine: TaskEngine, model: str) -> Address:
        """Return the address. Raises EngineError, AudioError, AudioStorageError, StorageFull."""
        if job.source_url is not None:
            return Address(job.source_url, job.source_url)
        audio = await self._db.read(find_task_audio, job.id)
        if job.plan.audio_source == "gateway_url":
            until = self._now() + timedelta(seconds=self._task_seconds + LINK_MARGIN_SECONDS)
            return Address(self._links.url(audio.audio_id, audio.format, until), audio.sha256)
        return Address(await self._upload(job, audio, engine, model), audio.sha256)

    def forget(self, job_id: str) -> None:
        """Do not use a job's upload again: it was submitted, or the provider could not read it."""
        self._uploaded.pop(job_id, None)

    async def _upload(self, job: Job, audio: StoredAudio, engine: TaskEngine, model: str) -> str:
        now = asyncio.get_running_loop().time()
        until, url = self._uploaded.get(job.id, (0.0, ""))
        if now < until:
            return url
        async with self._file(job, audio) as file:
            try:
                url = await engine.upload(model, file)
            except EngineError as error:
                if error.kind is ErrorKind.REJECTED:
                    raise _too_large(file.length) from error
                raise
        while len(self._uploaded) >= MAX_REMEMBERED_UPLOADS:
            self._uploaded.pop(next(iter(self._uploaded)))
        self._uploaded[job.id] = now + UPLOAD_LIFE_SECONDS, url
        return url

    @asynccontextmanager
    async def _file(self, job: Job, audio: StoredAudio) -> AsyncIterator[FileUpload]:
        """Provide the file to upload: as received, or a FLAC copy that is deleted afterwards."""
        if job.plan.as_is:
            yield self._upload_of(audio.blob_key, audio.bytes, audio.format)
            return
        async with self._store.local_copy(audio.blob_key) as path:
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
            yield self._upload_of(copy.key, copy.bytes, FORM)
        finally:
            await self._store.erase(copy.key)

    def _upload_of(self, key: str, size: int, form: str) -> FileUpload:
        # The name is random: a client's file name could be private.
        return FileUpload(f"{new_id('file')}.{form}", size, lambda: self._store.read(key))


def _too_large(size: int) -> AudioUnreachable:
    return AudioUnreachable(
        f"The provider's temporary upload does not accept a file of {size:,} bytes. Give the "
        "audio as a public https:// `url`, or send it in a smaller format such as MP3."
    )
