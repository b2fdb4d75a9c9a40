"""The interface of the audio store, for a local folder as well as an object store.

The gateway makes the keys: no client data, such as a file name, becomes part of a key.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from pathlib import Path
from typing import Protocol, TypeAlias

from app.kit.log import log, safe_traceback
from app.kit.records import dataclass

Data: TypeAlias = bytes  # the field `bytes` hides the type inside StoredBlob


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One stored audio. `sha256` is that of the bytes as received, in hex.

    `data` are the bytes themselves where the upload was small enough to stay in memory.
    """

    key: str
    sha256: str
    bytes: int
    data: Data | None = field(default=None, repr=False, compare=False)


class BlobUpload(Protocol):
    """An upload in progress. It ends with `finish` or `discard`; `discard` may always be called."""

    async def write(self, data: bytes | memoryview) -> None:
        """Write more bytes. Raises AudioTooLarge above the limit, StorageFull without space.

        The upload may refer to the data until it ends, so the caller must not change them.
        """

    async def finish(self, project_id: str) -> StoredBlob:
        """Make the written bytes durable, under a key of that project."""

    async def discard(self) -> None:
        """Remove the bytes. Does nothing after a `finish` that returned."""


class BlobStore(Protocol):
    async def begin(self, max_bytes: int) -> BlobUpload:
        """Open an upload of at most `max_bytes`. Raises StorageFull."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to but not including `end`. Raises AudioStorageError."""

    def local_copy(self, key: str) -> AbstractAsyncContextManager[Path]:
        """Provide a file that a decoder may open inside the context. Raises AudioStorageError."""

    async def erase(self, key: str) -> None:
        """Remove the bytes; a key that is already gone is no error."""

    async def merge(self, key: str, kept_key: str) -> bool:
        """Remove the bytes under `key`, which are those under `kept_key` as well.

        Where the kept bytes are lost or cut short, these take their place; returns whether they
        did.
        """

    async def check(self) -> None:
        """Check that uploads can be stored now. Raises StorageFull or OSError."""

    def older_than(self, seconds: float) -> AsyncIterator[list[str]]:
        """Yield, in small lists, the keys of audio stored longer ago than that."""

    async def sweep(self, *, older_than_seconds: float = 0.0) -> None:
        """Remove incomplete uploads that are at least that old. For the start only."""

    async def identity(self) -> str:
        """Return the id of this store, which is created at its first use."""


async def merge_duplicate(store: BlobStore, key: str, kept_key: str) -> None:
    """Remove newly stored bytes that another key holds, or restore that key's lost bytes by them.

    Bytes that cannot be removed become an orphan, which maintenance removes.
    """
    try:
        if await store.merge(key, kept_key):
            log.warning("store.audio_restored")
    except OSError as error:
        log.warning("store.duplicate_not_removed", frames=safe_traceback(error))
