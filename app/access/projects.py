"""Projects: the unit of billing and isolation. A project never sees another one's data."""

from datetime import datetime

import sqlalchemy as sa

from app.access.tables import project
from app.kit.ids import new_id

DEFAULT_PROJECT = "default"


def ensure_project(tx: sa.Connection, name: str, *, now: datetime) -> str:
    """Return the id of the project of this name. It is created if it does not exist yet."""
    found = tx.scalar(sa.select(project.c.id).where(project.c.name == name))
    if found is not None:
        return str(found)
    made = new_id("prj")
    tx.execute(sa.insert(project).values(id=made, name=name, created_at=now))
    return made
