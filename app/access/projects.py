"""Projects, the units of billing and isolation."""

from datetime import datetime

import sqlalchemy as sa

from app.access.tables import project
from app.kit.ids import new_id

DEFAULT_PROJECT = "default"


def ensure_project(tx: sa.Connection, name: str, *, now: datetime) -> str:
    """Return the id of the project of this name, and create the project if there is none."""
    found = tx.scalar(sa.select(project.c.id).where(project.c.name == name))
    if found is not None:
        return str(found)
    project_id = new_id("prj")
    tx.execute(sa.insert(project).values(id=project_id, name=name, created_at=now))
    return project_id
