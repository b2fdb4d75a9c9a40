"""Tests of app.audio.storage.incoming_file.

Covers: app.audio.storage.blob_store, app.audio.storage.incoming_file, app.audio.storage.local_store
"""

import asyncio
import errno
import hashlib
import os
import shutil
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.audio.storage.local_store import BUFFER_BYTES, CHUNK_BYTES, LocalStore
from app.errors import AudioStorageError, AudioTooLarge, GatewayError, StorageFull
from app.server_errors import StorageNotWritable
from app.settings import AudioSettings
from tests.unit.audio.audio_samples import files_in

pytestmark = pytest.mark.anyio
PROJECT = "pr_1"
DATA = os.urandom(3 * BUFFER_BYTES + 17)


async def put(store: LocalStore, data: bytes = DATA, project: str = PROJECT) -> str:
    upload = await store.begin(len(data))
    for at in range(0, len(data), 70_000):
        await upload.write(memoryview(data)[at : at + 70_000])
    return (await upload.finish(project)).key


async def read(store: LocalStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, start, end)])


async def test_a_finished_upload_has_a_key_of_its_project_and_hash(store: LocalStore) -> None:
    upload = await store.begin(len(DATA))
    await upload.write(DATA)
    blob = await upload.finish(PROJECT)
    assert blob.sha256 == hashlib.sha256(DATA).hexdigest()
    assert blob.bytes == len(DATA)
    assert blob.key.startswith(f"{PROJECT}/{blob.sha256[:2]}/{blob.sha256}-")
    assert await read(store, blob.key) == DATA


async def test_the_same_bytes_twice_are_two_blobs(store: LocalStore) -> None:
    first, second = await put(store), await put(store)
    assert first != second
    await store.erase(first)
    assert await read(store, second) == DATA


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (5, 5), (10, 5), (1, CHUNK_BYTES + 1), (len(DATA) - 3, None), (len(DATA), None)],
)
async def test_ranges_are_half_open(store: LocalStore, start: int, end: int | None) -> None:
    key = await put(store)
    assert await read(store, key, start, end) == DATA[start:end]


async def test_an_empty_upload_is_stored(store: LocalStore) -> None:
    key = await put(store, b"")
    assert await read(store, key) == b""


async def test_nothing_is_left_of_a_discarded_upload(store: LocalStore, root: Path) -> None:
    upload = await store.begin(len(DATA))
    await upload.write(DATA)
    assert files_in(root)
    await upload.discard()
    await upload.discard()
    assert not files_in(root)


async def test_a_finished_upload_is_not_discarded(store: LocalStore) -> None:
    upload = await store.begin(4)
    await upload.write(b"abcd")
    blob = await upload.finish(PROJECT)
    await upload.discard()
    assert await read(store, blob.key) == b"abcd"


async def test_a_cancelled_finish_can_be_discarded_without_trace(
    store: LocalStore, root: Path
) -> None:
    upload = await store.begin(len(DATA))
    await upload.write(DATA)
    finishing = asyncio.create_task(upload.finish(PROJECT))
    await asyncio.sleep(0)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    await upload.discard()
    assert not files_in(root)


async def test_the_error_names_the_size_limit(store: LocalStore, root: Path) -> None:
    upload = await store.begin(1_000_000)
    await upload.write(bytes(1_000_000))
    with pytest.raises(AudioTooLarge, match="1,000,000 bytes"):
        await upload.write(b"x")
    await upload.discard()
    assert not files_in(root)


async def test_little_free_space_is_refused(root: Path) -> None:
    full = LocalStore(root, AudioSettings(min_free_bytes=1 << 62))
    with pytest.raises(StorageFull):
        await full.begin(1)
    with pytest.raises(StorageFull):
        await full.check()


async def test_disk_space_is_checked_during_an_upload(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await store.begin(1 << 30)
    monkeypatch.setattr(store, "_granted_bytes", 1)
    monkeypatch.setattr(store, "_min_free_bytes", 1 << 62)
    with pytest.raises(StorageFull):
        await upload.write(bytes(BUFFER_BYTES))
    await upload.discard()


async def test_parallel_uploads_do_not_fill_the_reserve(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATTACKS M5: 16 uploads of 4 MB on a disk with 20 MB free, of which 8 MB are the reserve."""
    disk, reserve, size, lowest = 20 << 20, 8 << 20, 4 << 20, []

    def usage(_path: object) -> SimpleNamespace:
        free = disk - sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    store = LocalStore(root, AudioSettings(min_free_bytes=reserve, fsync=False))

    async def send(number: int) -> bool:
        try:
            upload = await store.begin(size)
            for _ in range(size // BUFFER_BYTES):
                await upload.write(bytes([number]) * BUFFER_BYTES)
                lowest.append(usage(root).free)
            await upload.finish(PROJECT)
        except StorageFull:
            return False
        return True

    stored = await asyncio.gather(*(send(number) for number in range(16)))
    assert min(lowest) >= reserve
    assert usage(root).free >= reserve
    assert not all(stored)
    assert len(lowest) * BUFFER_BYTES >= disk - reserve - BUFFER_BYTES


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EROFS, StorageNotWritable),
        (errno.EACCES, StorageNotWritable),
        (errno.EIO, StorageNotWritable),
    ],
)
async def test_a_full_or_read_only_disk_has_an_error_of_its_own(
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[GatewayError],
    root: Path,
) -> None:
    """ATTACKS L2: EROFS, EACCES and EIO were `internal_error`."""

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    upload = await store.begin(len(DATA))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(kind):
            await upload.write(DATA)
    await upload.discard()
    assert not files_in(root)


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "pr_1/../x",
        f"pr_1/ab/{'a' * 64}-{'0' * 8}",  # the folder does not fit the hash
        f"pr_1/aa/{'a' * 64}",
        f"pr_1/aa/{'a' * 64}-{'0' * 8}\n",
        f"../aa/{'a' * 64}-{'0' * 8}",
        "",
    ],
)
async def test_invalid_blob_keys_are_rejected(store: LocalStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await read(store, key)
    with pytest.raises(ValueError, match="not a key"):
        await store.erase(key)


async def test_a_projects_id_is_no_path(store: LocalStore) -> None:
    upload = await store.begin(1)
    with pytest.raises(ValueError, match="project"):
        await upload.finish("../x")
    await upload.discard()


async def test_a_missing_blob_is_an_error(store: LocalStore) -> None:
    key = await put(store)
    await store.erase(key)
    await store.erase(key)
    with pytest.raises(AudioStorageError):
        await read(store, key)
    with pytest.raises(AudioStorageError):
        async with store.local_copy(key):
            pass


async def test_files_and_folders_are_private(root: Path) -> None:
    store = LocalStore(root, AudioSettings(min_free_bytes=0, fsync=True))
    key = await put(store)
    async with store.local_copy(key) as path:
        assert path.read_bytes() == DATA
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for folder in (path.parent, path.parent.parent, root, root / "incoming"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_leftovers_are_swept_and_blobs_stay(store: LocalStore, root: Path) -> None:
    key = await put(store)
    unfinished = await store.begin(len(DATA))
    await unfinished.write(DATA)
    await store.sweep()
    assert len(files_in(root)) == 1
    assert await read(store, key) == DATA
    await unfinished.discard()


async def test_a_sweep_beside_other_processes_leaves_young_uploads_alone(
    store: LocalStore, root: Path
) -> None:
    young, old = await store.begin(len(DATA)), await store.begin(len(DATA))
    await old.write(DATA)
    (old_file,) = files_in(root / "incoming")
    await young.write(DATA)
    then = time.time() - 3600
    os.utime(old_file, (then, then))
    await store.sweep(older_than_seconds=3700)
    assert len(files_in(root / "incoming")) == 2
    await store.sweep(older_than_seconds=3500)
    assert not old_file.exists()
    blob = await young.finish(PROJECT)
    assert await read(store, blob.key) == DATA
    await old.discard()


async def test_a_sweep_of_a_store_that_was_never_used(store: LocalStore) -> None:
    await store.sweep()
    assert [keys async for keys in store.older_than(0)] == []


async def test_keys_are_listed_by_age(store: LocalStore, root: Path) -> None:
    old, young = await put(store), await put(store)
    then = time.time() - 3600
    os.utime(root / "blobs" / old, (then, then))
    (root / "blobs" / old).with_name("note.txt").write_text("not ours")
    assert [keys async for keys in store.older_than(3500)] == [[old]]
    ((*both,),) = [keys async for keys in store.older_than(-1)]
    assert sorted(both) == sorted([old, young])


async def test_a_store_keeps_its_identity(store: LocalStore, root: Path) -> None:
    first = await store.identity()
    assert await LocalStore(root, AudioSettings()).identity() == first
    assert await LocalStore(root.with_name("other"), AudioSettings()).identity() != first
    await store.sweep()
    assert [keys async for keys in store.older_than(-1)] == []
    assert await store.identity() == first


async def test_the_check_leaves_nothing(store: LocalStore, root: Path) -> None:
    await store.check()
    assert not files_in(root)


async def test_eight_uploads_hold_a_buffer_each(store: LocalStore) -> None:
    uploads = [await store.begin(1 << 30) for _ in range(8)]
    block = bytes(4 * BUFFER_BYTES)
    for upload in uploads:
        await upload.write(block)
        await upload.write(bytes(1000))
        assert sum(map(len, upload._pieces)) <= BUFFER_BYTES
        await upload.discard()
