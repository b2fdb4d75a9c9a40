"""Lookup of a transcription by its id, for the routes that concern one transcription."""

from typing import Annotated

from fastapi import Path

from app import errors
from app.api.services import Services
from app.jobs.queries import find_job
from app.jobs.store.job import JobView
from app.kit.ids import id_pattern

Id = Annotated[
    str,
    Path(
        pattern=id_pattern("tr"),
        description="The id of a transcription.",
        examples=["tr_0190f5c2a7b07c3e8d2f4a6b8c0d1e2f"],
    ),
]


async def get_any(services: Services, project_id: str, job_id: str) -> JobView:
    """Return a transcription of this project, erased ones included. Raises NotFound."""
    found = await services.db.read(find_job, project_id, job_id)
    if found is None:
        raise errors.NotFound
    return found


async def get_live(services: Services, project_id: str, job_id: str) -> JobView:
    """Return a transcription that was not erased. Raises NotFound and Erased."""
    found = await get_any(services, project_id, job_id)
    if found.erased_at is not None:
        raise errors.Erased
    return found
