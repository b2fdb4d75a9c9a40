"""Fixtures for all tests."""

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.db.database import Database
from app.db.migrate import open_database
from app.kit.log import log
from app.settings import provider_key
from tests.support.gateway import Gateway, running, settings_for, speech
from tests.support.postgres import Databases, migrated, running_postgres
from tests.support.scripted_engine import ScriptedEngine

POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "settings(**domains): settings of the gateway, e.g. audio={'max_seconds': 1}"
    )
    config.addinivalue_line("markers", "alone: it measures time, so nothing else runs beside it")
    config.addinivalue_line("markers", "postgres: it needs a PostgreSQL server (set by itself)")
    for name in [name for name in os.environ if name.startswith(("GATEWAY_", "DASHSCOPE_"))]:
        del os.environ[name]  # tests do not depend on the developer's environment
    log.threshold = logging.DEBUG  # so that tests for secrets in the log see all of it
    os.environ[provider_key.PROVIDER_VARIABLE] = ""
    provider_key.PROVIDER_FILE = Path(os.devnull)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """A PostgreSQL server that creates databases."""
    with running_postgres() as url:
        yield Databases(url)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema, as a template for copies."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    asyncio.run(migrated(f"sqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", POSTGRES])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables. A test with it runs on both kinds of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    databases: Databases = request.getfixturevalue("postgres")
    url = databases.empty()
    yield url
    databases.drop(url)


@pytest.fixture(params=["sqlite", POSTGRES])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated, empty database. A test with it runs on both kinds of database."""
    if request.param == "sqlite":
        path = tmp_path / "gateway.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    databases: Databases = request.getfixturevalue("postgres")
    url = databases.migrated()
    yield url
    databases.drop(url)


@pytest.fixture
def shared_url(postgres: Databases) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database, for features of shared databases."""
    url = postgres.migrated()
    yield url
    postgres.drop(url)


@pytest.fixture
async def shared(shared_url: str) -> AsyncIterator[Database]:
    """An open PostgreSQL database with the newest schema."""
    async with open_database(shared_url) as database:
        yield database


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """An open database of either kind, with the newest schema."""
    async with open_database(database_url) as database:
        yield database


@pytest.fixture(scope="session")
def recording() -> bytes:
    """Two seconds of speech."""
    return speech(2)


@pytest.fixture
def engine(tmp_path: Path) -> ScriptedEngine:
    """The engine of `gateway`. It answers from a script and keeps its own bill."""
    return ScriptedEngine(bill=tmp_path / "bill.jsonl")


@pytest.fixture
async def gateway(
    database_url: str, engine: ScriptedEngine, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Gateway]:
    """A running gateway on either database; `pytest.mark.settings` changes its settings."""
    marker = request.node.get_closest_marker("settings")
    domains: dict[str, Any] = dict(marker.kwargs) if marker else {}
    async with running(settings_for(database_url, tmp_path / "data", **domains), engine) as gateway:
        yield gateway
