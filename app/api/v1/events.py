"""/v1/transcriptions/{id}/events: the events of a transcription as Server-Sent Events."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response, Security
from fastapi.responses import StreamingResponse
from pydantic import Field

from app import errors
from app.access.principal import Scope
from app.access.stream_tokens import TOKEN_MAX_LENGTH, is_valid_stream_token, make_stream_token
from app.api.auth import AUTH_ERRORS, Reader, bearer, caller
from app.api.http.problems import responses
from app.api.services import services_of
from app.api.v1.lookup import Id, get_live
from app.api.v1.response.event_stream import event_stream
from app.api.v1.response.examples import json_answer
from app.api.v1.response.openapi import EVENTS
from app.api.v1.schemas import Moment, Schema
from app.jobs.queries import project_of
from app.jobs.streaming.cursor import START, position_of
from app.jobs.streaming.stored_log import read_events

GIVEN_ID_MAX_LENGTH = 100
RETRY_AFTER_SECONDS = 1

router = APIRouter(prefix="/v1/transcriptions", tags=["transcriptions"])


class StreamTokenOut(Schema):
    """A token for the events of this transcription only, until it expires."""

    token: str = Field(examples=["st_1795238880_" + "a" * 43])
    expires_at: Moment
    url: str = Field(description="The URL of the events, with the token.")


@router.get(
    "/{id}/events",
    operation_id="getEvents",
    summary="Stream the events of a transcription",
    response_class=StreamingResponse,
    responses={
        **EVENTS,
        **responses(
            *AUTH_ERRORS,
            errors.StreamTokenInvalid,
            errors.NotFound,
            errors.Erased,
            errors.EventIdInvalid,
            errors.EventIdMismatch,
            errors.InvalidParameter,
            errors.ShuttingDown,
        ),
    },
    dependencies=[Security(bearer)],
)
async def get_events(
    request: Request,
    id: Id,  # noqa: A002
    last_event_id: Annotated[
        str | None,
        Header(
            max_length=GIVEN_ID_MAX_LENGTH,
            description="The id of the last received event. The stream continues after it.",
        ),
    ] = None,
    given_id: Annotated[
        str | None,
        Query(
            alias="last_event_id",
            max_length=GIVEN_ID_MAX_LENGTH,
            description="The same, for clients that cannot send the header. The header has "
            "precedence.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        Query(
            max_length=TOKEN_MAX_LENGTH,
            description="A stream token instead of a key, for a browser's EventSource.",
        ),
    ] = None,
) -> Response:
    """Stream the events from the first one, or from the one after a given id.

    If the transcription has ended and the client has received every event, the answer is 204,
    after which an EventSource does not reconnect.
    """
    services = services_of(request)
    if token is None:
        principal = await caller(request, None)
        principal.require(Scope.READ)
        project_id: str | None = principal.project_id
    elif is_valid_stream_token(token, id, peppers=services.peppers, now=services.clock()):
        project_id = await services.db.read(project_of, id)
    else:
        raise errors.StreamTokenInvalid
    if project_id is None:
        raise errors.NotFound
    await get_live(services, project_id, id)
    if services.hub.is_closing:
        raise errors.ShuttingDown(retry_after=RETRY_AFTER_SECONDS)
    event_id = last_event_id or given_id
    at = START if not event_id else await services.db.read(position_of, id, event_id)
    if at != START:
        remaining = await services.db.read(read_events, id, at)
        if remaining.has_ended and not remaining.items:
            return Response(status_code=204)
    return event_stream(services, id, project_id=project_id, at=at)


@router.post(
    "/{id}/stream-token",
    operation_id="createStreamToken",
    summary="Create a short-lived token for a transcription's events",
    responses={
        200: json_answer("The token.", "stream_token.json"),
        **responses(*AUTH_ERRORS, errors.NotFound, errors.Erased, errors.InvalidParameter),
    },
)
async def create_stream_token(request: Request, principal: Reader, id: Id) -> StreamTokenOut:  # noqa: A002
    """Create a token for use in a web page: a browser's EventSource cannot send a key."""
    services = services_of(request)
    await get_live(services, principal.project_id, id)
    token, expires_at = make_stream_token(
        services.peppers[0],
        id,
        now=services.clock(),
        seconds=services.settings.stream.token_seconds,
    )
    return StreamTokenOut(
        token=token,
        expires_at=expires_at,
        url=f"/v1/transcriptions/{id}/events?token={token}",
    )
