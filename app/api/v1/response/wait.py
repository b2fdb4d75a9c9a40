"""The answer to an accepted request: its transcript, its error, or 202 with a `Location`."""

import asyncio

from fastapi import Request, Response

from app import errors
from app.access.principal import Principal
from app.api.http.disconnect import wait_for_disconnect
from app.api.services import Services
from app.api.v1.lookup import get_any
from app.api.v1.response.event_stream import event_stream
from app.api.v1.response.rendering import job_body, json_response
from app.error_codes import error_of
from app.jobs.cancel import cancel
from app.jobs.store.job import JobView
from app.jobs.submission import SubmittedJob
from app.kit.log import log

POLL_AFTER_SECONDS = 2


async def respond_when_ended(
    request: Request, services: Services, principal: Principal, accepted: SubmittedJob
) -> Response:
    """Answer an accepted request when its transcription ends or its wait is over.

    If the client disconnects, the transcription continues or is cancelled, by `on_disconnect`.
    """
    options = accepted.options
    wait = services.settings.jobs.wait_seconds if options.wait is None else options.wait
    try:
        if options.mode != "async":
            gone = asyncio.ensure_future(wait_for_disconnect(request.receive))
            try:
                ended = await services.worker.wait(accepted.job_id, wait, gone)
                is_gone = gone.done() and gone.exception() is None
            finally:
                gone.cancel()
            if isinstance(ended, JobView):
                return job_response(ended)
            if is_gone and not ended:
                await _on_disconnect(services, principal, accepted)
        return job_response(await get_any(services, principal.project_id, accepted.job_id))
    except errors.DatabaseUnavailable as away:
        raise errors.DatabaseUnavailable(
            "The recording was accepted and will be transcribed, but the database does not answer "
            "now. Do not send it again: fetch this transcription shortly.",
            transcription_id=accepted.job_id,
        ) from away


def respond_with_stream(
    services: Services, principal: Principal, accepted: SubmittedJob
) -> Response:
    """Answer an accepted request with its events. `on_disconnect` applies as without a stream."""

    async def on_disconnect() -> None:
        if not services.hub.is_closing:
            await _on_disconnect(services, principal, accepted)

    return event_stream(
        services,
        accepted.job_id,
        project_id=principal.project_id,
        new_with_model=accepted.model,
        listener_scope=services.worker.listening(accepted.job_id),
        on_disconnect=on_disconnect,
    )


def job_response(found: JobView) -> Response:
    """Answer with the current state of a transcription. Raises its error, or Erased."""
    if found.erased_at is not None:
        raise errors.Erased(transcription_id=found.id)
    if found.error is not None:
        cls = error_of(found.error["code"])
        raise cls(found.error["detail"], transcription_id=found.id)
    if found.status == "completed":
        return json_response(job_body(found))
    return json_response(job_body(found), 202, poll_headers(found.id))


def poll_headers(job_id: str) -> dict[str, str]:
    """Return the headers of a 202."""
    return {"Location": f"/v1/transcriptions/{job_id}", "Retry-After": str(POLL_AFTER_SECONDS)}


async def _on_disconnect(services: Services, principal: Principal, accepted: SubmittedJob) -> None:
    """Cancel the job of a disconnected client if the request has `on_disconnect=cancel`."""
    if accepted.options.on_disconnect != "cancel":
        return
    try:
        cost = await services.db.write(
            cancel,
            principal.project_id,
            accepted.job_id,
            local_engines=services.local_engines,
            has_live_text=services.hub.has_live_text,
            now=services.clock(),
        )
    except (errors.AlreadyEnded, errors.Erased):
        return
    if cost is not None:
        log.info("job.cancelled", job=accepted.job_id, cause="disconnect")
        await services.worker.cancel_run(accepted.job_id, cost.epoch)
