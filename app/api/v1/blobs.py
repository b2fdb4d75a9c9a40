"""/v1/blobs: one recording by its signed URL, from which upstreams read it."""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import StreamingResponse

from app import errors
from app.api.http.blob_response import blob_response
from app.api.http.problems import responses
from app.api.services import services_of
from app.audio.tables import audio

_FIND = sa.select(audio.c.blob_key, audio.c.bytes, audio.c.format).where(
    audio.c.id == sa.bindparam("audio"), audio.c.erased_at.is_(None)
)
_OCTETS: dict[str, Any] = {"content": {"application/octet-stream": {}}}

router = APIRouter(prefix="/v1/blobs", tags=["blobs"])


@router.api_route(
    "/{token}",
    methods=["GET"],
    operation_id="getBlob",
    summary="Read a recording by its signed URL",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The whole recording.", **_OCTETS},
        206: {"description": "The bytes that `Range` asks for.", **_OCTETS},
        **responses(
            errors.NotFound,
            errors.InvalidParameter,
            errors.RangeNotSatisfiable,
            errors.AudioStorageError,
            errors.DatabaseUnavailable,
        ),
    },
)
@router.api_route("/{token}", methods=["HEAD"], include_in_schema=False)
async def get_blob(
    request: Request,
    token: Annotated[str, Path(max_length=200, description="The signed token of the URL.")],
    range: Annotated[  # noqa: A002
        str | None, Header(max_length=200, description="e.g. `bytes=0-1023`")
    ] = None,
) -> Response:
    """Read a recording without a key: its URL is signed, is valid for it alone, and expires.

    The gateway creates such URLs for speech services that fetch recordings themselves.
    """
    services = services_of(request)
    audio_id = services.links.read(token, services.clock())
    if audio_id is None:
        raise errors.NotFound
    row = await services.db.read(lambda tx: tx.execute(_FIND, {"audio": audio_id}).one_or_none())
    if row is None:
        raise errors.NotFound
    return await blob_response(
        services.store,
        row.blob_key,
        row.bytes,
        name=f"recording.{row.format}",
        range_header=range,
        only_head=request.method == "HEAD",
    )
