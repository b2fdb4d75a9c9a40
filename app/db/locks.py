"""An operating-system lock on a file, released when its process ends."""

import fcntl
import os
from pathlib import Path

from app.db.database import DatabaseLockedError


class FileLock:
    """An advisory lock next to a SQLite file. It does nothing if it is not `needed`."""

    def __init__(self, path: Path, *, needed: bool) -> None:
        self._path = path
        self._needed = needed
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock or raise DatabaseLockedError, which names the file."""
        if not self._needed:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise DatabaseLockedError(
                f"Another gateway already serves {self._path.with_suffix('').name} in this folder, "
                "and SQLite is for one process: talk to that one (ASR_GATEWAY_URL), stop it, "
                "or use PostgreSQL."
            ) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock. Does nothing if it was never taken."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
