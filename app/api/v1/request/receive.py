"""Reads a request with audio, for transcriptions and estimates."""

from typing import Any

from fastapi import Request

from app import errors
from app.api.http.known_query import refuse_unknown_names
from app.api.services import services_of
from app.api.v1.request.prefer import Preference, apply_accept, preference_of
from app.audio.intake.receive import Received, gather_fields, receive
from app.server_errors import OutOfResources, StorageNotWritable
from app.speech.options import OPTION_NAMES

_AUDIO_FIELDS = frozenset({"file", "audio", "url"})
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
    StorageNotWritable,
    OutOfResources,
    errors.PriceUnknown,
    errors.EngineDisabled,
    errors.EngineUnavailable,
    errors.InternalError,
)


async def receive_request(request: Request, *more: str) -> tuple[Received, Preference]:
    """Read and store the body; return its audio and options, and the `Prefer` header's options.

    Options are also read from the query; `more` are names that the query may have besides them.
    Raises the errors of UPLOAD_ERRORS that concern the body.
    """
    services = services_of(request)
    query: dict[str, Any] = {}
    if request.scope["query_string"]:
        query = gather_fields(request.query_params.multi_items())
        for name in _AUDIO_FIELDS.intersection(query):
            raise errors.InvalidParameter(
                f"Send `{name}` in the body. The query of the URL takes options only.",
                parameter=name,
            )
        refuse_unknown_names(query, OPTION_NAMES.union(more))
    preference = preference_of(request.headers.getlist("prefer"))
    received = await receive(
        request.headers.get("content-type"),
        request.stream(),
        store=services.store,
        settings=services.settings.audio,
        option_names=OPTION_NAMES,
    )
    for name in query:
        if name in received.options:
            if received.upload is not None:
                await received.upload.discard()
            raise errors.InvalidParameter(
                f"`{name}` is in the query of the URL and in the body. Send it only once.",
                parameter=name,
            )
    received.options.update(query)
    return apply_accept(request.headers.getlist("accept"), received), preference
