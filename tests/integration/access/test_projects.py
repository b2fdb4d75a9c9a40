"""Tests of app.access.projects.

Covers: app.access.projects
"""

import asyncio

import pytest
import sqlalchemy as sa

from app.access.projects import ensure_project
from app.access.tables import project
from app.db.database import Database
from tests.support.scenario import NOW

pytestmark = pytest.mark.anyio


async def test_a_project_is_made_once(db: Database) -> None:
    first = await db.write(ensure_project, "p", now=NOW)
    assert await db.write(ensure_project, "p", now=NOW) == first
    assert await db.write(ensure_project, "q", now=NOW) != first


async def test_concurrent_creations_return_the_same_project(db: Database) -> None:
    for name in (f"p{n}" for n in range(8)):
        made = await asyncio.gather(*(db.write(ensure_project, name, now=NOW) for _ in range(8)))
        assert len(set(made)) == 1
    rows = await db.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(project)))
    assert rows == 8
