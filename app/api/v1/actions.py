"""/v1/transcriptions/{id}/cancel and /retry: cancel or retry an accepted transcription."""

from fastapi import APIRouter, Request, Response

from app import errors
from app.api.auth import AUTH_ERRORS, Transcriber
from app.api.http.problems import responses
from app.api.services import services_of
from app.api.v1.lookup import Id, get_live
from app.api.v1.response.examples import json_answer
from app.api.v1.response.openapi import RETRIED
from app.api.v1.response.rendering import cancelled_body, job_body, json_response, readable_body
from app.api.v1.response.wait import poll_headers
from app.api.v1.schemas import CancelledOut, TranscriptionOut
from app.jobs.cancel import cancel
from app.jobs.retry import recording_of, reopen
from app.jobs.store.runs import QueuedJob
from app.kit.log import log

router = APIRouter(prefix="/v1/transcriptions", tags=["transcriptions"])

_ACTION_ERRORS = (*AUTH_ERRORS, errors.NotFound, errors.Erased, errors.InvalidParameter)


@router.post(
    "/{id}/cancel",
    operation_id="cancelTranscription",
    summary="Cancel a transcription that has not ended",
    response_model=CancelledOut,
    responses={
        200: json_answer("The transcription is cancelled.", "cancelled.json"),
        **responses(*_ACTION_ERRORS, errors.AlreadyEnded),
    },
)
async def cancel_transcription(request: Request, principal: Transcriber, id: Id) -> Response:  # noqa: A002
    """Cancel a transcription. The answer has its cost so far and no transcript.

    Calls in flight at the engine may still be billed although their answers are discarded; their
    cost is reported as in doubt. A call whose text was streamed is charged, at its largest cost
    (`estimated`). Cancelling a cancelled transcription has no effect.
    """
    services = services_of(request)
    cost = await services.db.write(
        cancel,
        principal.project_id,
        id,
        local_engines=services.local_engines,
        has_live_text=services.hub.has_live_text,
        now=services.clock(),
    )
    if cost is None:
        raise errors.NotFound
    log.info("job.cancelled", job=id, cause="request")
    await services.worker.cancel_run(id, cost.epoch)
    job = await get_live(services, principal.project_id, id)
    return json_response(readable_body(principal, cancelled_body(job, cost)))


@router.post(
    "/{id}/retry",
    operation_id="retryTranscription",
    summary="Retry the failed parts of a transcription",
    status_code=202,
    response_model=TranscriptionOut,
    responses={
        202: RETRIED,
        **responses(
            *_ACTION_ERRORS,
            errors.StillRunning,
            errors.NothingToRetry,
            errors.AudioDeleted,
            errors.AudioStorageError,
            errors.ShuttingDown,
            errors.TooManyJobs,
        ),
    },
)
async def retry_transcription(request: Request, principal: Transcriber, id: Id) -> Response:  # noqa: A002
    """Retry a failed or cancelled transcription, or a completed one that has gaps.

    The transcription keeps its id. Parts that were transcribed are kept and not paid for again. A
    call that may have been billed although its answer was lost is repeated. If the retry of a
    transcription with gaps fails or is cancelled, its previous transcript is available again.
    """
    services = services_of(request)
    services.worker.check_capacity()
    blob_key = await services.db.read(recording_of, principal.project_id, id)
    if blob_key is not None:
        try:  # before the job is queued
            await anext(services.store.read(blob_key, 0, 1), b"")
        except errors.AudioStorageError:
            await get_live(services, principal.project_id, id)  # Erased since the row was read
            raise

    async def follow(reopened: QueuedJob | None, connection: object) -> None:
        if reopened is not None:
            await services.worker.put([reopened], connection)

    reopened = await services.db.write_then(
        follow, reopen, principal.project_id, id, now=services.clock()
    )
    if reopened is None:
        raise errors.NotFound
    log.info("job.retried", job=id, epoch=reopened.epoch)
    job = await get_live(services, principal.project_id, id)
    return json_response(readable_body(principal, job_body(job)), 202, poll_headers(id))
