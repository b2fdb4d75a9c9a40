"""The real gateway with the scripted engine, called over ASGI, for tests of the API."""

import io
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from fastapi import FastAPI

from app.access.keys import create_key, revoke_key
from app.access.principal import ALL_SCOPES, Scope
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.api.services import Services
from app.kit.clock import utc_now
from app.main import create_app
from app.settings import Settings
from tests.support.scripted_engine import CATALOGUE, ScriptedEngine, only

SPEECH = Path(__file__).parents[1] / "media" / "en_clean_10s.wav"
NANO_PER_SECOND = 220_000  # of every priced model in scripted.toml
ADDRESS = "http://127.0.0.1"


def speech(seconds: float, *, start: float = 1.0) -> bytes:
    """Return a part of the speech sample as a WAV."""
    with wave.open(str(SPEECH)) as whole:
        rate, form = whole.getframerate(), whole.getparams()
        whole.setpos(int(start * rate))
        frames = whole.readframes(int(seconds * rate))
    cut = io.BytesIO()
    with wave.open(cut, "wb") as file:
        file.setparams(form)
        file.writeframes(frames)
    return cut.getvalue()


@dataclass
class Gateway:
    """A running gateway, a client of it, and access to its database and files."""

    app: FastAPI
    client: httpx.AsyncClient
    engine: ScriptedEngine
    settings: Settings

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def send(
        self, recording: bytes, *, name: str = "speech.wav", key: str | None = None, **options: Any
    ) -> httpx.Response:
        """Post audio as a form, with options as fields."""
        return await self.client.post(
            "/v1/transcriptions",
            files={"file": (name, recording)},
            data=options,
            headers=bearing(key),
        )

    async def get(self, path: str, *, key: str | None = None, **query: Any) -> httpx.Response:
        return await self.client.get(path, params=query, headers=bearing(key))

    async def ended(self, job_id: str) -> dict[str, Any]:
        """Wait until a transcription has ended and return it."""
        await self.services.worker.wait(job_id, 30)
        return (await self.client.get(f"/v1/transcriptions/{job_id}")).json()

    async def rows(self, table: sa.Table, **where: Any) -> list[dict[str, Any]]:
        """Return a table's rows in the order of their keys."""
        query = sa.select(table).filter_by(**where).order_by(*table.primary_key)
        return await self.services.db.read(
            lambda tx: [dict(row._mapping) for row in tx.execute(query)]
        )

    async def key(
        self,
        *scopes: Scope,
        project: str = DEFAULT_PROJECT,
        lives: timedelta | None = None,
        revoked: bool = False,
    ) -> str:
        """Create a key and return its secret. Without `scopes` it has all scopes."""
        now = utc_now()

        def make(tx: sa.Connection) -> str:
            made = create_key(
                tx,
                project_id=ensure_project(tx, project, now=now),
                name="a test's",
                scopes=scopes or ALL_SCOPES,
                pepper=self.services.peppers[0],
                now=now,
                expires_at=None if lives is None else now + lives,
            )
            if revoked:
                revoke_key(tx, made.id, now=now)
            return made.secret

        return await self.services.db.write(make)

    def blobs(self) -> list[Path]:
        """Return all files of the store, including incomplete ones."""
        return [path for path in (self.settings.data_dir / "audio").rglob("*") if path.is_file()]


def bearing(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def settings_for(database_url: str, data_dir: Path, **domains: dict[str, Any]) -> Settings:
    """Return settings with the scripted engine's catalogue, independent of the environment."""
    domains = {
        **domains,
        "database": {"url": database_url},
        "audio": {"min_free_bytes": 0, "fsync": False} | domains.get("audio", {}),
        "speech": {"default_model": "scripted/echo", "catalogue": str(CATALOGUE)}
        | domains.get("speech", {}),
        "local": {"enabled": False},
    }
    return Settings(_env_file=None, data_dir=data_dir, **domains)  # type: ignore[call-arg]


@asynccontextmanager
async def running(settings: Settings, engine: ScriptedEngine | None) -> AsyncIterator[Gateway]:
    """Run a gateway inside the block, with `engine` or with its own engines."""
    app = create_app(settings, only(engine)) if engine else create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=ADDRESS, timeout=60) as client,
    ):
        yield Gateway(app, client, engine or ScriptedEngine(), settings)


def code_of(response: httpx.Response) -> tuple[int, str]:
    """Check the format of a problem and return its status and code."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json", body
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["status"] == response.status_code
    return response.status_code, body["code"]


def moments(start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> Iterator[datetime]:
    """Yield moments a second apart."""
    while True:
        yield start
        start += timedelta(seconds=1)
