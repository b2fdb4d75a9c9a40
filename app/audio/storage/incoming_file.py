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
from app.server_errors import StorageNotWritable

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_MODE = 0o700
FILE_MODE = 0o600
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
TAIL_BYTES = 4  # the random end of a key, as eight hex digits
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextmanager
def mapping_disk_faults() -> "Iterator[None]":
    """Turn the system's errors into StorageFull (disk, quota) or StorageNotWritable."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFull(log=f"write failed: {os.strerror(error.errno)}") from error
        if error.errno in NOT_WRITABLE:
            raise StorageNotWritable(log=f"write failed: {os.strerror(error.errno)}") from error
        raise


class Folders:
    """Private folders whose names are known to be on the disk.

    A folder another thread has just made may not be: only those in `_made` were flushed. Paths are
    texts where each upload needs them, as Path objects take as long as the system calls.
    """

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self.fsync = fsync
        self._root = root
        self._made: set[str] = set()

    def make(self, folder: Path) -> None:
        """Make a folder of the store and those above it that are missing."""
        if str(folder) in self._made and folder.is_dir():
            return
        if folder == self._root:
            folder.parent.mkdir(parents=True, exist_ok=True)
        else:
            self.make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=FOLDER_MODE)
        self.sync(str(folder.parent))
        self._made.add(str(folder))

    def create(self, folder: str, name: str) -> int:
        """Create a file in a folder, which is made if it is missing; return its descriptor."""
        if folder not in self._made:
            self.make(Path(folder))
        try:
            return os.open(f"{folder}/{name}", NEW_FILE, FILE_MODE)
        except FileNotFoundError:  # the folder was removed since it was made
            self.make(Path(folder))
            return os.open(f"{folder}/{name}", NEW_FILE, FILE_MODE)

    def sync(self, folder: str) -> None:
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
        self._incoming = str(incoming)
        self._blobs = blobs
        self._path = ""  # of the file, once there is one
        self._folders = folders
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._descriptor = -1
        self._bytes = 0
        self._gone = False

    def append(self, data: bytes) -> None:
        with self._lock, mapping_disk_faults():
            if self._descriptor < 0:
                self._create(self._incoming, secrets.token_hex(16))
            self._digest.update(data)
            self._write(data)

    def keep(self, rest: bytes, project_id: str) -> StoredBlob:
        """Write the rest and move the file to its final name; durable when this returns.

        A file of which nothing was written yet is written under its final name at once: until a
        row names it, an incomplete file is an orphan that maintenance removes.
        """
        with self._lock, mapping_disk_faults():
            is_whole = self._descriptor < 0
            self._digest.update(rest)
            sha256 = self._digest.hexdigest()
            # The random end lets one copy be erased while another one is uploaded.
            folder, name = f"{project_id}/{sha256[:2]}", f"{sha256}-{os.urandom(TAIL_BYTES).hex()}"
            place = f"{self._blobs}/{folder}"
            if is_whole:
                self._create(place, name)
            self._write(rest)
            if self._folders.fsync:
                os.fsync(self._descriptor)
            self._close()
            if not is_whole:
                self._folders.make(Path(place))
                Path(self._path).replace(f"{place}/{name}")
                self._path = f"{place}/{name}"
            self._folders.sync(place)
            data = rest if is_whole else None
            return StoredBlob(key=f"{folder}/{name}", sha256=sha256, bytes=self._bytes, data=data)

    def abandon(self) -> None:
        """Remove the file under its current name, and refuse all further bytes."""
        with self._lock:
            self._gone = True
            self._close()
            if self._path:
                Path(self._path).unlink(missing_ok=True)

    def _create(self, folder: str, name: str) -> None:
        if self._gone:
            raise ValueError("the upload was discarded")
        self._descriptor = self._folders.create(folder, name)
        self._path = f"{folder}/{name}"

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._bytes += len(data)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
