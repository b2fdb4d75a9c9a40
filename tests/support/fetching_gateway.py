"""A gateway that may fetch from one web server on loopback, and that server."""

import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg

from app.audio.tables import audio
from app.jobs.tables import transcription
from tests.support.gateway import SPEECH, Gateway, running, settings_for
from tests.support.scripted_engine import ScriptedEngine
from tests.support.web_server import Page, WebServer, serving

QUERY = "?X-Signature=canary-7"  # must not be stored anywhere


@cache
def mp3() -> bytes:
    """Return ten seconds of speech as an mp3."""
    made = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", SPEECH, "-f", "mp3", "-"],
        capture_output=True,
        check=True,
    )
    return made.stdout


@dataclass
class FetchingGateway:
    gateway: Gateway
    source: WebServer

    async def post(self, path: str = "/a.mp3", **options: Any) -> httpx.Response:
        """Request the transcription of a path of the server, with a secret in the query."""
        return await self.gateway.client.post(
            "/v1/transcriptions", json={"url": self.source.url(path) + QUERY, **options}
        )

    async def of(self, page: Page, **options: Any) -> httpx.Response:
        self.source.pages["/a.mp3"] = page
        return await self.post(**options)

    async def job(self) -> dict[str, Any]:
        (row,) = await self.gateway.rows(transcription)
        return row

    async def assert_one_recording(self, body: bytes) -> None:
        """Check that the gateway stores one audio with these bytes, and nothing else."""
        (row,) = await self.gateway.rows(audio)
        assert row["sha256"] == hashlib.sha256(body).hexdigest()
        (file,) = self.blobs()
        assert file.read_bytes() == body

    def blobs(self) -> list[Path]:
        return [file for file in self.gateway.blobs() if file.name != "identity"]


def fetching_from(source: WebServer, **fetch: Any) -> dict[str, Any]:
    """Return the settings that allow a gateway to fetch from a server on loopback."""
    ours = {"allow_http": True, "ports": (source.port,), "allow_addresses": ("127.0.0.1/32",)}
    return ours | fetch


@asynccontextmanager
async def fetching_gateway(
    database_url: str, folder: Path, engine: ScriptedEngine, **domains: Any
) -> AsyncIterator[FetchingGateway]:
    async with serving() as source:
        domains = domains | {"fetch": fetching_from(source, **domains.get("fetch", {}))}
        settings = settings_for(database_url, folder / "data", **domains)
        async with running(settings, engine) as gateway:
            yield FetchingGateway(gateway, source)
