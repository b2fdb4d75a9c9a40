"""One arriving file: it is written and hashed, then moved to its final name or removed.

Everything here blocks and is meant for threads. A lock orders the calls, because a cancelled
caller leaves its thread running: closing the file while that thread writes could give
its descriptor's number, and so its bytes, to another file.
"""

import errno
import hashlib
import os
import secrets
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.audio.storage.blob_store import StoredBlob
from app.errors import StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_MODE = 0o700
FILE_MODE = 0o600
TAIL_BYTES = 4  # the random end of a key, as eight hex digits
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def mapping_disk_full() -> "Iterator[None]":
    """Turn the system's errors for a full disk or quota into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFull(log=f"write failed: {os.strerror(error.errno)}") from error
        raise


class Folders:
    """Private folders whose names are known to be on the disk.

    A folder another thread has just made may not be: only those in `_made` were flushed.
    """

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self.fsync = fsync
        self._root = root
        self._made: set[Path] = set()

    def make(self, folder: Path) -> None:
        """Make a folder of the store and those above it that are missing."""
        if folder in self._made and folder.is_dir():
            return
        if folder == self._root:
            folder.parent.mkdir(parents=True, exist_ok=True)
        else:
            self.make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=FOLDER_MODE)
        self.sync(folder.parent)
        self._made.add(folder)

    def sync(self, folder: Path) -> None:
        """Flush a folder, so that the names in it survive a crash."""
        if not self.fsync:
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class IncomingFile:
    def __init__(self, incoming: Path, blobs: Path, folders: Folders) -> None:
        self._path = incoming / secrets.token_hex(16)
        self._blobs = blobs
        self._folders = folders
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._descriptor = -1
        self._bytes = 0
        self._gone = False

    def append(self, data: bytes | bytearray) -> None:
        with self._lock, mapping_disk_full():
            self._digest.update(data)
            self._write(data)

    def keep(self, rest: bytes | bytearray, project_id: str) -> StoredBlob:
        """Write the rest and move the file to its final name; durable when this returns.

        A file of which nothing was written yet is written under its final name at once: until a
        row names it, an incomplete file is an orphan that maintenance removes.
        """
        with self._lock, mapping_disk_full():
            whole = bytes(rest) if self._descriptor < 0 else None
            self._digest.update(rest)
            sha256 = self._digest.hexdigest()
            # The random end lets one copy be erased while another one is uploaded.
            key = f"{project_id}/{sha256[:2]}/{sha256}-{secrets.token_hex(TAIL_BYTES)}"
            final = self._blobs / key
            self._folders.make(final.parent)
            if whole is not None:
                self._path = final
            self._write(rest)
            if self._folders.fsync:
                os.fsync(self._descriptor)
            self._close()
            if whole is None:
                self._path.replace(final)
                self._path = final
            self._folders.sync(final.parent)
            return StoredBlob(key=key, sha256=sha256, bytes=self._bytes, data=whole)

    def abandon(self) -> None:
        """Remove the file under its current name, and refuse all further bytes."""
        with self._lock:
            self._gone = True
            self._close()
            self._path.unlink(missing_ok=True)

    def _write(self, data: bytes | bytearray) -> None:
        if self._gone:
            raise ValueError("the upload was discarded")
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._descriptor = os.open(self._path, flags, FILE_MODE)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._bytes += len(data)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
