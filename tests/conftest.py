"""Fixtures every test may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Databases, running_postgres

MEDIA = Path(__file__).parent / "media"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """A PostgreSQL server that makes databases."""
    with running_postgres() as url:
        yield Databases(url)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database: every test that asks for it runs on both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'gateway.db'}"
        return
    databases: Databases = request.getfixturevalue("postgres")
    url = databases.migrated()
    yield url
    databases.drop(url)
