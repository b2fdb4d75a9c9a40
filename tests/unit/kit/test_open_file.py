"""A file that is opened in a thread is closed, also if its caller is cancelled.

Covers: app.kit.open_file
"""

import asyncio
import threading
from io import FileIO
from pathlib import Path

import pytest

from app.kit.open_file import open_file

pytestmark = pytest.mark.anyio
TIMEOUT_SECONDS = 20


async def test_a_file_is_opened_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"sound")
    async with open_file(path) as file:
        assert file.read() == b"sound"
    assert file.closed


async def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with open_file(tmp_path / "a"):
            pass


async def test_a_file_of_a_cancelled_caller_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, files = threading.Event(), threading.Event(), []

    def slow(path: Path) -> FileIO:
        begun.set()
        go_on.wait(TIMEOUT_SECONDS)
        files.append(FileIO(path))
        return files[0]

    async def wants() -> None:
        async with open_file(tmp_path / "a"):
            pass

    (tmp_path / "a").touch()
    monkeypatch.setattr("app.kit.open_file.FileIO", slow)
    wanting = asyncio.create_task(wants())
    await asyncio.to_thread(begun.wait, TIMEOUT_SECONDS)
    wanting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wanting
    go_on.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not (files and files[0].closed):
            await asyncio.sleep(0.01)
