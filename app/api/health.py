"""/healthz, /readyz and /version: for load balancers and operators. /readyz lists unmet checks."""

import asyncio
import platform
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from pydantic import Field

from app import __version__
from app.api.services import services_of
from app.api.v1.response.examples import json_answer
from app.api.v1.schemas import Schema
from app.audio.decoder_check import DecoderError, find_decoder
from app.db.migrate import is_current
from app.errors import DatabaseUnavailable, GatewayError

router = APIRouter(tags=["health"])


class Health(Schema):
    status: str = Field(examples=["ok"])


class ReadinessCheck(Schema):
    """One requirement of the gateway. `unmet` is the reason if it is not ready."""

    name: str
    ready: bool
    unmet: str = ""


class ReadinessReport(Schema):
    ready: bool
    checks: Sequence[ReadinessCheck]


class Version(Schema):
    version: str
    python: str


@router.get(
    "/healthz",
    operation_id="getHealth",
    summary="Report that the process is alive",
    responses={200: json_answer("The process is alive.", "health.json")},
)
async def get_health() -> Health:
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Report whether recordings can be transcribed now, and the reasons if not",
    response_model=ReadinessReport,
    responses={
        200: json_answer("Ready.", "ready.json"),
        503: {
            "model": ReadinessReport,
            **json_answer("Not ready; `unmet` has the reasons.", "not_ready.json"),
        },
    },
)
async def get_readiness(request: Request) -> Response:
    services = services_of(request)
    try:
        is_migrated = await is_current(services.db)
        database = "" if is_migrated else "the database has another schema: restart to migrate"
    except DatabaseUnavailable:
        database = "the database does not answer"
    store = ""
    try:
        await services.store.check()
    except GatewayError as error:
        store = error.detail
    except OSError:
        store = "the store is not writable"
    decoder = ""
    try:
        await asyncio.to_thread(find_decoder, services.settings.audio)
    except DecoderError as error:
        decoder = str(error)
    name = services.settings.default_model
    model = services.catalogue.models.get(name)
    readiness = services.readiness(model) if model else None
    if readiness is None:
        engine = "no engine offers the default model"
    else:
        engine = "" if readiness.ready else readiness.unmet or "not ready"
    closing = "shutting down" if services.worker.is_closing else ""
    unmet = {"database": database, "store": store, "decoder": decoder, name: engine}
    unmet["accepting"] = closing
    checks = [ReadinessCheck(name=name, ready=not why, unmet=why) for name, why in unmet.items()]
    report = ReadinessReport(ready=all(check.ready for check in checks), checks=checks)
    return Response(
        report.model_dump_json(),
        status_code=200 if report.ready else 503,
        media_type="application/json",
    )


@router.get(
    "/version",
    operation_id="getVersion",
    summary="Report the version",
    responses={200: json_answer("The version.", "version.json")},
)
async def get_version() -> Version:
    return Version(version=__version__, python=platform.python_version())
