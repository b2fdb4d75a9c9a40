"""The errors of the gateway as callers see them: a stable code, a status, a sentence.

    GatewayError
    ├── asking wrongly       400 405 406 408 409 410 415 416 422
    ├── not being allowed    401 403 404
    ├── the audio itself     413 422
    ├── room and load        429 503 507
    └── engines and us       500 502 503 504

`detail` is the public text of one case. `log` is for the log only and is never sent to a client.
`docs/errors.md` is generated from these classes.
"""

from typing import Any, ClassVar


class GatewayError(Exception):
    """Base of all: subclasses set `code`, `status`, `public` and, where it helps, `retryable`."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    public: ClassVar[str] = (
        "Something went wrong on our side. The request id finds it in our log; a new try may help."
    )
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        log: str | None = None,
        retry_after: int | None = None,
        **members: Any,
    ) -> None:
        """Set the public text of this case, the text for the log, and extra public members."""
        super().__init__(detail or self.public)
        self.detail = detail or self.public
        self.log = log
        self.retry_after = retry_after
        self.members = members


class InternalError(GatewayError):
    retryable = True


# ── asking wrongly ──────────────────────────────────────────────────────────────────────────


class MalformedBody(GatewayError):
    code, status = "malformed_body", 400
    public = "The request body could not be parsed as what its Content-Type says."


class NotFound(GatewayError):
    code, status = "not_found", 404
    public = "There is nothing at this address, or it belongs to another project."


class MethodNotAllowed(GatewayError):
    code, status = "method_not_allowed", 405
    public = "This address does not take this HTTP method; the Allow header lists those it takes."


class BodyTooSlow(GatewayError):
    code, status = "body_too_slow", 408
    public = "The body arrived too slowly. Check the connection and send it again."
    retryable = True


class TranscriptionNotFinished(GatewayError):
    code, status = "transcription_not_finished", 409
    public = "The transcription is still running. Ask again when its status is `completed`."
    retryable = True


class TranscriptionWithoutText(GatewayError):
    code, status = "transcription_without_text", 409
    public = "The transcription failed or was cancelled, so there is no transcript."


class StillRunning(GatewayError):
    code, status = "still_running", 409
    public = "The transcription is still running: only one that has ended can be tried anew."
    retryable = True


class AlreadyEnded(GatewayError):
    code, status = "already_ended", 409
    public = "The transcription has ended already, so there is nothing left to cancel."


class NothingToRetry(GatewayError):
    code, status = "nothing_to_retry", 409
    public = "The transcription is complete: nothing of it failed, so there is nothing to retry."


class AudioDeleted(GatewayError):
    code, status = "audio_deleted", 409
    public = (
        "The recording is no longer here: it was deleted, or never fetched from its URL. "
        "Send it again as a new transcription."
    )


class AudioNotFetched(GatewayError):
    code, status = "audio_not_fetched", 409
    public = (
        "The recording was not fetched from its URL: it is on its way, could not be had, or is "
        "read there by the speech service. Its `status`, `error` and `plan` say which."
    )


class Erased(GatewayError):
    code, status = "erased", 410
    public = "The content was deleted. Its id, times and cost remain; audio and text are gone."


class EventIdInvalid(GatewayError):
    code, status = "event_id_invalid", 422
    public = (
        "`Last-Event-ID` is not the id of an event of this transcription. Send one as it was "
        "received, or none to read from the beginning."
    )


class EventIdMismatch(GatewayError):
    code, status = "event_id_mismatch", 422
    public = "`Last-Event-ID` is of another transcription. Send none to read from the beginning."


class UnsupportedMediaType(GatewayError):
    code, status = "unsupported_media_type", 415
    public = (
        "Send audio as multipart/form-data with a field `file`, "
        "or JSON with `audio` as a data: URI or `url` as a link."
    )


class RangeNotSatisfiable(GatewayError):
    code, status = "range_not_satisfiable", 416
    public = "The Range header asks for bytes that the recording does not have."


class InvalidParameter(GatewayError):
    code, status = "invalid_parameter", 422
    public = "A parameter has the wrong type or is outside its bounds."


class MissingAudio(GatewayError):
    code, status = "missing_audio", 422
    public = "No audio came. Put a recording into the form field `file`, or its link into `url`."


class SeveralFiles(GatewayError):
    code, status = "several_files", 422
    public = "One request transcribes one recording: send one `file`, `audio` or `url` in each."


class UnknownModel(GatewayError):
    code, status = "unknown_model", 422
    public = "No model of this name is known. GET /v1/models lists those that are."


class ModelRetired(GatewayError):
    code, status = "model_retired", 422
    public = "The model's provider has switched it off. `successor` names the one to use instead."


class ContextTooLong(GatewayError):
    code, status = "context_too_long", 422
    public = "`context` is longer than the model takes. Shorten it to names and terms that matter."


class OptionNotSupported(GatewayError):
    code, status = "option_not_supported", 422
    public = "The model cannot honour an option, and `strict` asked to be told so."


class CostAboveLimit(GatewayError):
    # Not 402: nobody has to pay anything; the request itself says that it should not be done.
    code, status = "cost_above_limit", 422
    public = (
        "The transcription would cost more than `max_cost` allows, so nothing more was spent. "
        "Raise it, or choose a cheaper model."
    )


class SecondsAboveLimit(GatewayError):
    code, status = "seconds_above_limit", 422
    public = (
        "More seconds would be billed than `max_billable_seconds` allows, so no more were sent. "
        "Raise it, or send a shorter recording."
    )


class UrlNotAllowed(GatewayError):
    code, status = "url_not_allowed", 422
    public = "This URL is not fetched. Give an https:// link to a public address, or the file."


class UrlUnreachable(GatewayError):
    code, status = "url_unreachable", 422
    public = "The recording could not be fetched from its URL. Check the link, or upload the file."
    retryable = True


# ── not being allowed ───────────────────────────────────────────────────────────────────────


class KeyMissing(GatewayError):
    code, status = "key_missing", 401
    public = "A key is needed: send `Authorization: Bearer gw_live_…`."


class KeyInvalid(GatewayError):
    code, status = "key_invalid", 401
    public = "The key is not valid: mistyped, expired or revoked."


class StreamTokenInvalid(GatewayError):
    code, status = "stream_token_invalid", 401
    public = (
        "The stream token is not one of this transcription, or has expired. "
        "POST /v1/transcriptions/{id}/stream-token gives a new one."
    )


class ScopeMissing(GatewayError):
    code, status = "scope_missing", 403
    public = "The key is valid but lacks the scope this needs."


class OriginNotAllowed(GatewayError):
    code, status = "origin_not_allowed", 403
    public = (
        "Without keys the gateway answers only requests addressed to this machine by its "
        "loopback name. Create a key with `asr-gateway keys create` to allow others."
    )


# ── the audio itself ────────────────────────────────────────────────────────────────────────


class AudioError(GatewayError):
    """The recording cannot be used; another try with the same bytes ends the same way."""

    code, status = "undecodable", 422
    public = "The file is not audio or video in a supported format, or it is damaged."


class Undecodable(AudioError): ...


class EmptyAudio(AudioError):
    code, status = "empty_audio", 422
    public = "The file has no bytes."


class NoAudioStream(AudioError):
    code, status = "no_audio_stream", 422
    public = "The file holds no sound track."


class AudioTooLong(AudioError):
    code, status = "audio_too_long", 422
    public = "The recording is longer than this gateway or the model takes."


class AudioTooLarge(AudioError):
    code, status = "audio_too_large", 413
    public = "The file is larger than this gateway takes."


class SourceTooLarge(AudioError):
    code, status = "source_too_large", 413
    public = "The file behind the URL is larger than this gateway fetches."


class AudioUnreachable(AudioError):
    code, status = "audio_unreachable", 422
    public = (
        "The model reads recordings from an address, and there is none where it could read this "
        "one. Give a public https:// `url`, or choose another model."
    )


class DecodeTimeout(AudioError):
    code, status = "decode_timeout", 422
    public = "Decoding the recording took too long. Convert it to FLAC, WAV or MP3 and try again."


# ── room and load ───────────────────────────────────────────────────────────────────────────


class StorageFull(GatewayError):
    code, status = "storage_full", 507
    public = "The gateway's storage is nearly full. Try again when space has been made."
    retryable = True


class TooManyJobs(GatewayError):
    code, status = "too_many_jobs", 429
    public = "Too many transcriptions are waiting already. Try again shortly."
    retryable = True


class DatabaseUnavailable(GatewayError):
    code, status = "database_unavailable", 503
    public = "The gateway's database does not answer. What was accepted is kept; try again shortly."
    retryable = True


class AudioStorageError(GatewayError):
    code, status = "audio_storage_error", 503
    public = "The recording is not where it was stored. An operator has to look into that."
    retryable = True


class ShuttingDown(GatewayError):
    code, status = "shutting_down", 503
    public = "The gateway is being restarted. What it accepted is kept; ask again shortly."
    retryable = True


# ── engines and us ──────────────────────────────────────────────────────────────────────────


class EngineUnavailable(GatewayError):
    code, status = "engine_unavailable", 503
    public = "The speech engine is not ready. GET /readyz says what is missing."
    retryable = True


class EngineDisabled(GatewayError):
    """No engine that takes the model is switched on: a matter of settings, not of time."""

    code, status = "engine_disabled", 503
    public = "The model's engine is switched off here. GET /v1/models says which models are ready."


class EngineFailed(GatewayError):
    code, status = "engine_failed", 502
    public = "The speech engine could not transcribe this recording."
    retryable = True


class EngineBusy(GatewayError):
    code, status = "engine_busy", 503
    public = "The speech engine takes no more calls from this gateway for now. Try again shortly."
    retryable = True


class EngineRefused(GatewayError):
    code, status = "engine_refused", 422
    public = "The speech engine does not take this recording; another try would end the same way."


class EngineAccount(GatewayError):
    code, status = "engine_account", 503
    public = (
        "The speech engine refuses this gateway's account: its key, its bill, its quota or its "
        "rights to the model. An operator has to look into that."
    )


class EngineTimeout(GatewayError):
    code, status = "engine_timeout", 504
    public = "The speech engine did not answer in time."
    retryable = True


class UpstreamInDoubt(GatewayError):
    code, status = "upstream_in_doubt", 502
    public = (
        "A call may have been billed although its answer was lost, so it was not repeated. "
        "A new request transcribes the recording again."
    )


class PriceUnknown(GatewayError):
    code, status = "price_unknown", 503
    public = "No price is known for this model, so nothing was spent. An operator can set one."


class RunCrashed(GatewayError):
    code, status = "run_crashed", 500
    public = "Working on this recording stopped the gateway repeatedly; it will not be tried again."
