"""Reads a request with audio, for transcriptions and estimates."""

from fastapi import Request

from app import errors
from app.api.services import services_of
from app.api.v1.request.prefer import Preference, apply_accept, preference_of
from app.audio.intake.receive import Received, receive

UPLOAD_ERRORS = (
    errors.MalformedBody,
    errors.BodyTooSlow,
    errors.AudioTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidParameter,
    errors.MissingAudio,
    errors.SeveralFiles,
    errors.UnknownModel,
    errors.ModelRetired,
    errors.ContextTooLong,
    errors.OptionNotSupported,
    errors.UrlNotAllowed,
    errors.EmptyAudio,
    errors.Undecodable,
    errors.NoAudioStream,
    errors.AudioTooLong,
    errors.AudioUnreachable,
    errors.DecodeTimeout,
    errors.StorageFull,
    errors.PriceUnknown,
    errors.EngineDisabled,
    errors.EngineUnavailable,
    errors.InternalError,
)


async def receive_request(request: Request) -> tuple[Received, Preference]:
    """Read and store the body; return its audio and options, and the `Prefer` header's options.

    Raises the errors of UPLOAD_ERRORS that concern the body.
    """
    services = services_of(request)
    preference = preference_of(request.headers.getlist("prefer"))
    received = await receive(
        request.headers.get("content-type"),
        request.stream(),
        store=services.store,
        settings=services.settings.audio,
    )
    return apply_accept(request.headers.getlist("accept"), received), preference
