"""Where recordings are kept: the promise that a local folder and an object store both make.

Keys are ours: nothing a client sent, such as a file's name, ever becomes part of one.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

Data: TypeAlias = bytes  # the field `bytes` hides the type inside StoredBlob


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One stored recording. `sha256` is of the bytes as received, in hex.

    `data` are the bytes themselves where the upload was small enough to stay in memory.
    """

    key: str
    sha256: str
    bytes: int
    data: Data | None = field(default=None, repr=False, compare=False)


class Upload(Protocol):
    """Bytes on their way in. It ends with `finish` or `discard`; `discard` may always be called."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take more bytes. Raises AudioTooLarge past the cap, StorageFull when room runs out."""

    async def finish(self, project_id: str) -> StoredBlob:
        """Make what was written durable, under a key of that project."""

    async def discard(self) -> None:
        """Leave nothing behind. After a `finish` that returned, does nothing."""


class BlobStore(Protocol):
    async def begin(self, max_bytes: int) -> Upload:
        """Open an upload of at most `max_bytes`. Raises StorageFull."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to but not including `end`. Raises RecordingMissing."""

    def local_copy(self, key: str) -> AbstractAsyncContextManager[Path]:
        """Lend a file that a decoder may open, while the context lasts. Raises RecordingMissing."""

    async def erase(self, key: str) -> None:
        """Remove the bytes; a key that is already gone is no error."""

    async def check(self) -> None:
        """Tell whether uploads can be taken now. Raises StorageFull or OSError."""

    def older_than(self, seconds: float) -> AsyncIterator[list[str]]:
        """Yield, in handfuls, the keys of recordings stored longer ago than that."""

    async def sweep(self, *, older_than_seconds: float = 0.0) -> None:
        """Remove what uploads left half-written that long ago. For the start only."""

    async def identity(self) -> str:
        """Return what tells this store from others, made up at its first use."""


async def delete_duplicate(store: BlobStore, key: str, *, kept: str) -> None:
    """Remove bytes just stored, where the same ones are kept already under another key.

    What cannot be removed becomes an orphan, which upkeep removes.
    """
    if key != kept:
        with suppress(OSError):
            await store.erase(key)
