"""/healthz, /readyz and /version: for load balancers and operators. /readyz lists unmet checks."""

import platform
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from pydantic import Field

from app import __version__
from app.api.services import Services, services_of
from app.api.v1.response.examples import json_answer
from app.api.v1.schemas import Schema
from app.db.migrate import is_current
from app.errors import DatabaseUnavailable, GatewayError

router = APIRouter(tags=["health"])


class Health(Schema):
    status: str = Field(examples=["ok"])


class Check(Schema):
    """One requirement of the gateway; `unmet` is the reason if it is not ready."""

    name: str
    ready: bool
    unmet: str = ""


class Readiness(Schema):
    ready: bool
    checks: Sequence[Check]


class Version(Schema):
    version: str
    python: str


@router.get(
    "/healthz",
    operation_id="getHealth",
    summary="Tell whether the process lives",
    responses={200: json_answer("It lives.", "health.json")},
)
async def healthz() -> Health:
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Tell whether recordings can be transcribed now, and what is missing",
    response_model=Readiness,
    responses={
        200: json_answer("Ready.", "ready.json"),
        503: {
            "model": Readiness,
            **json_answer("Not ready; `missing` says why.", "not_ready.json"),
        },
    },
)
async def readyz(request: Request) -> Response:
    services = services_of(request)
    checks = [
        await _database(services),
        await _store(services),
        _engine(services),
        _accepting(services),
    ]
    readiness = Readiness(ready=all(check.ready for check in checks), checks=checks)
    return Response(
        readiness.model_dump_json(),
        status_code=200 if readiness.ready else 503,
        media_type="application/json",
    )


@router.get(
    "/version",
    operation_id="getVersion",
    summary="Tell which version runs",
    responses={200: json_answer("The version.", "version.json")},
)
async def version() -> Version:
    return Version(version=__version__, python=platform.python_version())


async def _database(services: Services) -> Check:
    try:
        is_new_enough = await is_current(services.db)
    except DatabaseUnavailable:
        return Check(name="database", ready=False, unmet="the database does not answer")
    unmet = "" if is_new_enough else "the database has another schema: restart to migrate"
    return Check(name="database", ready=is_new_enough, unmet=unmet)


async def _store(services: Services) -> Check:
    try:
        await services.store.check()
    except GatewayError as error:
        return Check(name="store", ready=False, unmet=error.detail)
    except OSError:
        return Check(name="store", ready=False, unmet="the store cannot be written to")
    return Check(name="store", ready=True)


def _engine(services: Services) -> Check:
    name = services.settings.default_model
    model = services.catalogue.models.get(name)
    readiness = services.readiness(model) if model else None
    if readiness is None:
        return Check(name=name, ready=False, unmet="no engine offers the default model")
    return Check(name=name, ready=readiness.ready, unmet=readiness.unmet)


def _accepting(services: Services) -> Check:
    closing = services.worker.is_closing
    return Check(name="accepting", ready=not closing, unmet="shutting down" if closing else "")
