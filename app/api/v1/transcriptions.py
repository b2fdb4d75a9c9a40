"""/v1/transcriptions: create, list, fetch and delete transcriptions."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from app import errors
from app.api.auth import AUTH_ERRORS, AUTHENTICATED, Reader, Transcriber, submitter
from app.api.http.blob_response import blob_response
from app.api.http.head import ONLY_HEAD
from app.api.http.problems import responses
from app.api.services import services_of
from app.api.v1.lookup import Id, get_live
from app.api.v1.request.metadata_filter import METADATA_FILTER, metadata_in
from app.api.v1.request.openapi import REQUEST_BODY
from app.api.v1.request.prefer import PREFER
from app.api.v1.request.receive import UPLOAD_ERRORS, receive_request
from app.api.v1.response.examples import json_answer
from app.api.v1.response.openapi import (
    ACCEPTED,
    COMPLETED,
    MEDIA_TYPES,
    TRANSCRIPT,
)
from app.api.v1.response.rendering import job_body, json_response
from app.api.v1.response.wait import respond_when_ended, respond_with_stream
from app.api.v1.schemas import (
    AskedMoment,
    Status,
    TranscriptionOut,
    TranscriptionPage,
)
from app.jobs.erase import erase
from app.jobs.queries import Filters, list_jobs
from app.kit.ids import is_id
from app.kit.json_bytes import json_bytes
from app.kit.log import log
from app.kit.paging import CURSOR_MAX_LENGTH, decode_cursor
from app.kit.text import is_storable
from app.speech.options import STREAM
from app.speech.subtitles.formats import Format, render
from app.speech.transcript import Transcript

MAX_PAGE_SIZE = 100

_ONE_ERRORS = (*AUTH_ERRORS, errors.NotFound, errors.Erased, errors.InvalidParameter)
_CREATE_ERRORS = (
    *AUTH_ERRORS,
    *UPLOAD_ERRORS,
    errors.CostAboveLimit,
    errors.SecondsAboveLimit,
    errors.UrlUnreachable,
    errors.SourceTooLarge,
    errors.TooManyJobs,
    errors.Erased,
    errors.ShuttingDown,
    errors.EngineBusy,
    errors.EngineAccount,
    errors.EngineRefused,
    errors.EngineFailed,
    errors.EngineTimeout,
    errors.UpstreamInDoubt,
    errors.RunCrashed,
    errors.TranscriptionWithoutText,
)

router = APIRouter(prefix="/v1/transcriptions", tags=["transcriptions"])


@router.post(
    "",
    operation_id="createTranscription",
    summary="Transcribe a recording",
    response_model=TranscriptionOut,
    responses={200: COMPLETED, 202: ACCEPTED, **responses(*_CREATE_ERRORS)},
    # The endpoint takes the request alone, so that it is called directly; see DirectRoutes.
    openapi_extra={"requestBody": REQUEST_BODY, "parameters": [PREFER], "security": AUTHENTICATED},
)
async def create_transcription(request: Request) -> Response:
    """Transcribe one recording: a file in a form, a data: URI in JSON, or a link in either.

    The fields are `file`, `audio` and `url`. The file of a link is fetched after the transcription
    was accepted. Options are fields of the body or parameters of the query.

    The answer is sent when the text is complete, or after at most `wait` seconds as 202 with a
    `Location`; then the transcription continues. With `mode=async` the answer is 202 at once. If
    the client disconnects, the transcription continues, or with `on_disconnect=cancel` it is
    cancelled. The header `Prefer` sets `mode=async` and `wait` if the body does not.

    With `mode=stream`, or `Accept: text/event-stream`, the answer is a stream of the
    transcription's events, which include the text as it is transcribed; see `getEvents`.
    """
    services = services_of(request)
    principal = await submitter(request)
    services.worker.check_capacity()
    received, preference = await receive_request(request)
    accepted = await services.submission.submit(principal, received, preference.options)
    if accepted.options.mode == STREAM:
        return respond_with_stream(services, principal, accepted)
    answer = await respond_when_ended(request, services, principal, accepted)
    answer.headers.update(preference.applied(accepted.options))
    return answer


@router.get(
    "",
    operation_id="listTranscriptions",
    summary="List transcriptions, newest first",
    response_model=TranscriptionPage,
    responses={
        200: json_answer("A page of transcriptions.", "page.json"),
        **responses(*AUTH_ERRORS, errors.InvalidParameter),
    },
    openapi_extra={"parameters": [METADATA_FILTER]},
)
async def list_transcriptions(
    request: Request,
    principal: Reader,
    status: Annotated[
        Status | None, Query(description="Only transcriptions with this status.")
    ] = None,
    model: Annotated[
        str | None, Query(max_length=100, description="Only transcriptions by this model.")
    ] = None,
    reference: Annotated[
        str | None, Query(max_length=200, description="Only transcriptions with this reference.")
    ] = None,
    created_after: Annotated[
        AskedMoment | None, Query(description="Created at this moment or later (RFC 3339).")
    ] = None,
    created_before: Annotated[
        AskedMoment | None, Query(description="Created before this moment (RFC 3339).")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE_SIZE, description="Maximum number of items per page.")
    ] = 20,
    cursor: Annotated[
        str | None,
        Query(max_length=CURSOR_MAX_LENGTH, description="`next_cursor` of the previous page."),
    ] = None,
) -> Response:
    filters = Filters(
        status,
        _storable(model),
        _storable(reference),
        created_after,
        created_before,
        metadata_in(request.query_params.multi_items()),
    )
    last_id = None
    if cursor is not None:
        try:
            last_id = decode_cursor(cursor)
        except ValueError:
            last_id = ""
        if not is_id("tr", last_id):
            raise errors.InvalidParameter(
                "`cursor` is not a `next_cursor` of this list.", parameter="cursor"
            )
    page = await services_of(request).db.read(
        list_jobs, principal.project_id, filters, after=last_id, limit=limit
    )
    items = [job_body(job) for job in page.items]
    return json_response({"items": items, "next_cursor": page.next_cursor})


@router.get(
    "/{id}",
    operation_id="getTranscription",
    summary="Fetch a transcription in any state",
    response_model=TranscriptionOut,
    responses={200: json_answer("The transcription.", "completed.json"), **responses(*_ONE_ERRORS)},
)
async def get_transcription(request: Request, principal: Reader, id: Id) -> Response:  # noqa: A002
    return json_response(job_body(await get_live(services_of(request), principal.project_id, id)))


@router.delete(
    "/{id}",
    operation_id="deleteTranscription",
    summary="Delete the text and audio of a transcription",
    status_code=204,
    responses=responses(*AUTH_ERRORS, errors.NotFound, errors.InvalidParameter),
)
async def delete_transcription(request: Request, principal: Transcriber, id: Id) -> None:  # noqa: A002
    """Erase transcript and audio; a running transcription is cancelled first.

    Its id, times and costs remain. Deleting it again has no effect.
    """
    services = services_of(request)
    leftovers = await services.db.write(
        erase,
        principal.project_id,
        id,
        local_engines=services.local_engines,
        has_live_text=services.hub.has_live_text,
        now=services.clock(),
    )
    if leftovers is None:
        raise errors.NotFound
    log.info("job.erased", job=id)
    services.maintenance.note_erasure()
    await services.worker.cancel_run(id)
    await services.maintenance.purge(leftovers)


@router.get(
    "/{id}/transcript",
    operation_id="getTranscript",
    summary="Fetch the transcript alone, as text or subtitles",
    response_class=Response,
    responses={
        200: TRANSCRIPT,
        **responses(*_ONE_ERRORS, errors.TranscriptionNotFinished, errors.TranscriptionWithoutText),
    },
)
async def get_transcript(
    request: Request,
    principal: Reader,
    id: Id,  # noqa: A002
    format: Annotated[  # noqa: A002
        Format,
        Query(
            description="Format of the transcript. `srt`, `vtt`, `lrc` and `tsv` (start and end in "
            "milliseconds, text) are cut into cues of at most two lines of 42 columns and 7 s."
        ),
    ] = "json",
) -> Response:
    """Fetch the transcript of a completed transcription in the requested format.

    A cue ends at the end of a sentence or clause, and stays visible long enough to be read if a
    pause follows it. A new speaker is marked by a dash in `srt` and by a voice tag in `vtt`.
    """
    found = await get_live(services_of(request), principal.project_id, id)
    if found.transcript is None:
        is_open = found.status in {"queued", "processing"}
        raise errors.TranscriptionNotFinished if is_open else errors.TranscriptionWithoutText
    seconds = found.audio.duration_ms / 1000 if found.audio and found.audio.duration_ms else None
    transcript = found.transcript

    def rendered() -> str | bytes:
        if format == "json":
            return json_bytes(transcript)
        return render(Transcript.model_validate(transcript), format, seconds=seconds)

    # Rendering twelve hours of speech takes seconds.
    text = await run_in_threadpool(rendered)
    return Response(text, media_type=MEDIA_TYPES[format])


@router.get(
    "/{id}/audio",
    operation_id="getAudio",
    summary="Fetch the recording as it was received",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The whole recording.", "content": {"application/octet-stream": {}}},
        206: {
            "description": "The bytes that `Range` asks for.",
            "content": {"application/octet-stream": {}},
        },
        **responses(
            *_ONE_ERRORS,
            errors.AudioNotFetched,
            errors.RangeNotSatisfiable,
            errors.AudioStorageError,
        ),
    },
)
async def get_audio(
    request: Request,
    principal: Reader,
    id: Id,  # noqa: A002
    range: Annotated[  # noqa: A002
        str | None, Header(max_length=200, description="e.g. `bytes=0-1023`")
    ] = None,
) -> Response:
    services = services_of(request)
    found = await get_live(services, principal.project_id, id)
    if found.audio is None:
        raise errors.AudioNotFetched
    name = f"{found.id}.{found.audio.format}"
    return await blob_response(
        services.store,
        found.audio.blob_key,
        found.audio.bytes,
        name=name,
        range_header=range,
        only_head=ONLY_HEAD in request.scope,
    )


def _storable(text: str | None) -> str | None:
    if text is not None and not is_storable(text):
        raise errors.InvalidParameter("A filter cannot hold a NUL character.")
    return text
