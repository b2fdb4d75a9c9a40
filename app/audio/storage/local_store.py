"""Stores audio in a folder: in `incoming/` during the upload, in `blobs/` once it is complete.

All file work is done in threads; an upload holds at most one buffer in memory.
"""

import asyncio
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TypeVar

from app.audio.storage.blob_store import BlobUpload, StoredBlob
from app.audio.storage.incoming_file import FILE_MODE, Folders, IncomingFile, mapping_disk_faults
from app.audio.storage.threads import store_threads
from app.errors import AudioStorageError, AudioTooLarge, StorageFull
from app.kit.memory import is_out_of_resources
from app.kit.open_file import open_file
from app.kit.secrets import load_or_create_secret
from app.settings import AudioSettings

BUFFER_BYTES = 512 * 1024  # gathered before a thread is asked to write and hash
IDENTITY_FILE = "identity"
CHUNK_BYTES = 256 * 1024  # read at a time
READY_SECONDS = 1.0  # for which a check of the folders and the free space counts
RECHECK_BYTES = 64 * 1024 * 1024  # written by all uploads between two checks of the free space
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}/([0-9a-f]{2})/\1[0-9a-f]{62}-[0-9a-f]{8}")

T = TypeVar("T")
RoomFor = Callable[[int], AbstractAsyncContextManager[None]]


class LocalStore:
    """The folder store. `sweep` belongs to the start: it removes uploads under way too."""

    def __init__(self, root: Path, settings: AudioSettings) -> None:
        self._incoming = root / "incoming"
        self._blobs = root / "blobs"
        self._folders = Folders(root, fsync=settings.fsync)
        self._min_free_bytes = settings.min_free_bytes
        self._ready_until = 0.0
        self._granted_bytes = 0  # that all uploads may write before the next check
        self._pending_bytes = 0  # granted, and not written yet

    async def begin(self, max_bytes: int) -> BlobUpload:
        if time.monotonic() >= self._ready_until:
            await self._check_room()
        file = IncomingFile(self._incoming, self._blobs, self._folders)
        return _LocalUpload(file, max_bytes, self.room_for)

    @asynccontextmanager
    async def room_for(self, size: int) -> AsyncIterator[None]:
        """Reserve free space for bytes that the block writes. Raises StorageFull.

        The uploads of this process share the space above the reserve, so that together they do
        not fill it.
        """
        if self._granted_bytes < size:
            await self._check_room()
            if self._granted_bytes < size:
                raise StorageFull(log=f"{self._granted_bytes} bytes above the reserve")
        self._granted_bytes -= size
        self._pending_bytes += size
        try:
            yield
        finally:
            self._pending_bytes -= size

    async def _check_room(self) -> None:
        pending = self._pending_bytes
        free = await asyncio.to_thread(self.make_ready)
        room = free - self._min_free_bytes - max(pending, self._pending_bytes)
        self._granted_bytes = min(room, RECHECK_BYTES)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        async with self._opened(key) as file:
            while end is None or start < end:
                want = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - start)
                # pread: a read that goes on after its caller was cancelled moves no file position.
                chunk = await asyncio.to_thread(os.pread, file.fileno(), want, start)
                if not chunk:
                    return
                start += len(chunk)
                yield chunk

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        path = self._path(key)
        if not await asyncio.to_thread(os.access, path, os.R_OK):
            raise AudioStorageError
        yield path

    async def erase(self, key: str) -> None:
        await store_threads.run(partial(self._path(key).unlink, missing_ok=True))

    async def merge(self, key: str, kept_key: str) -> bool:
        new, kept = self._path(key), self._path(kept_key)

        def merge_files() -> bool:
            size = new.stat().st_size
            try:
                is_kept = kept.stat().st_size == size
            except FileNotFoundError:
                is_kept = False
            if is_kept:
                new.unlink()
                return False
            self._folders.make(kept.parent)
            new.replace(kept)
            self._folders.sync(str(kept.parent))
            return True

        return await store_threads.run(merge_files)

    async def check(self) -> None:
        def try_writing() -> None:
            self.make_ready()
            trial = self._incoming / f"check-{secrets.token_hex(8)}"
            try:
                with mapping_disk_faults():
                    trial.touch(FILE_MODE, exist_ok=False)
                    trial.write_bytes(b"ready")
            finally:
                trial.unlink(missing_ok=True)

        await store_threads.run(try_writing)

    async def older_than(self, seconds: float) -> AsyncIterator[list[str]]:
        folders = self._keys_by_folder(time.time() - seconds)
        while keys := await asyncio.to_thread(next, folders, None):
            yield keys

    async def sweep(self, *, older_than_seconds: float = 0.0) -> None:
        before = time.time() - older_than_seconds

        def remove_old() -> None:
            if self._incoming.is_dir():
                for leftover in self._incoming.iterdir():
                    if _changed_at(leftover) <= before:
                        leftover.unlink(missing_ok=True)

        await store_threads.run(remove_old)

    async def identity(self) -> str:
        return await store_threads.run(self._identity)

    def make_ready(self) -> int:
        """Create the folders and return the free space in bytes.

        Raises StorageFull and StorageNotWritable.
        """
        with mapping_disk_faults():
            self._folders.make(self._incoming)
        free = shutil.disk_usage(self._incoming).free
        if free < self._min_free_bytes:
            raise StorageFull(log=f"{free} bytes free, {self._min_free_bytes} asked for")
        self._ready_until = time.monotonic() + READY_SECONDS
        return free

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("not a key of this store")
        return self._blobs / key

    @asynccontextmanager
    async def _opened(self, key: str) -> AsyncIterator[FileIO]:
        try:
            async with open_file(self._path(key)) as file:
                yield file
        except OSError as error:
            if is_out_of_resources(error):
                raise
            raise AudioStorageError from None

    def _keys_by_folder(self, before: float) -> Iterator[list[str]]:
        """Yield the keys of the files in each folder that have not changed since."""
        for folder in sorted(folder for folder in self._blobs.glob("*/*") if folder.is_dir()):
            old = [path for path in folder.iterdir() if _changed_at(path) <= before]
            paths = [path.relative_to(self._blobs).as_posix() for path in old]
            if keys := [path for path in paths if _KEY.fullmatch(path)]:  # no other program's file
                yield keys

    def _identity(self) -> str:
        self._folders.make(self._blobs)
        return load_or_create_secret(self._blobs.with_name(IDENTITY_FILE))


def _changed_at(path: Path) -> float:
    """Return the time of a file's last change; the current time if it has just been removed."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


class _LocalUpload:
    def __init__(self, file: IncomingFile, max_bytes: int, room_for: RoomFor) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._room_for = room_for
        self._pieces: list[memoryview] = []  # that are not written yet
        self._room = BUFFER_BYTES  # for further pieces
        self._bytes = 0
        self._kept = False

    async def write(self, data: bytes | memoryview) -> None:
        self._bytes += len(data)
        if self._bytes > self._max_bytes:
            raise AudioTooLarge(
                f"The audio is larger than the limit of {self._max_bytes:,} bytes.",
                max_bytes=self._max_bytes,
            )
        # In slices, so that one huge write does not become one huge buffer.
        view = memoryview(data)
        while view:
            piece, view = view[: self._room], view[self._room :]
            self._pieces.append(piece)
            self._room -= len(piece)
            if not self._room:
                await self._flush()

    async def finish(self, project_id: str) -> StoredBlob:
        if not _PROJECT.fullmatch(project_id):
            raise ValueError("not a project's id")
        rest = b"".join(self._pieces)
        async with self._room_for(len(rest)):
            blob = await store_threads.run(self._file.keep, rest, project_id)
        self._kept = True
        self._pieces.clear()
        return blob

    async def discard(self) -> None:
        self._pieces.clear()
        if not self._kept:
            await store_threads.run(self._file.abandon)

    async def _flush(self) -> None:
        full = b"".join(self._pieces)
        self._pieces, self._room = [], BUFFER_BYTES
        async with self._room_for(len(full)):
            await store_threads.run(self._file.append, full)
