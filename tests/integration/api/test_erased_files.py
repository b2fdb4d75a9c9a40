"""After a deletion and a round of maintenance no file of the database holds the client's words."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.gateway import running, settings_for, speech
from tests.support.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio


async def test_no_database_file_holds_what_was_erased(tmp_path: Path) -> None:
    """ATTACKS M9 and L8: while the process runs, in the database file and in its journal."""
    settings = settings_for(
        f"sqlite:///{tmp_path / 'gateway.db'}",
        tmp_path / "data",
        jobs={"maintenance_interval_seconds": 0.2},
    )
    engine = ScriptedEngine(text="canary-words")
    async with running(settings, engine) as gateway:
        sent = await gateway.send(
            speech(2),
            context="canary-context",
            reference="canary-reference",
            metadata=json.dumps({"a": "canary-metadata"}),
            **{"canary-option": "1"},
        )
        assert sent.json()["text"] == "canary-words", sent.text
        assert b"canary" in await asyncio.to_thread(content_of, tmp_path)
        path = f"/v1/transcriptions/{sent.json()['id']}"
        assert (await gateway.client.delete(path)).status_code == 204
        async with asyncio.timeout(10):
            while b"canary" in await asyncio.to_thread(content_of, tmp_path):
                await asyncio.sleep(0.05)


def content_of(folder: Path) -> bytes:
    """Return the bytes of the database file and its journal."""
    return b"".join(path.read_bytes() for path in folder.glob("gateway.db*"))
