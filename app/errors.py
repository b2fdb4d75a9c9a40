"""The errors of the gateway as callers receive them: a stable code, a status, a sentence.

    GatewayError
    ├── invalid requests     400 404 405 408 409 410 415 416 422
    ├── keys and access      401 403
    ├── unusable audio       413 422
    ├── capacity             429 503 507
    └── engines              500 502 503 504

`detail` is the public text of one case. `log` is for the log only and is never sent to a client.
`docs/errors.md` is generated from these classes.
"""

from typing import Any, ClassVar


class GatewayError(Exception):
    """Base class. Subclasses set `code`, `status`, `public` and, where it applies, `retryable`."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    public: ClassVar[str] = (
        "An error of the gateway. Report the request id to its operator; a retry may succeed."
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


# ── invalid requests ────────────────────────────────────────────────────────────────────────


class MalformedBody(GatewayError):
    code, status = "malformed_body", 400
    public = "The request body cannot be parsed. Check that it matches its Content-Type."


class NotFound(GatewayError):
    code, status = "not_found", 404
    public = "The resource does not exist, or it belongs to another project."


class NoRoute(GatewayError):
    code, status = "no_such_route", 404
    public = "There is no such route. The API is at /v1/transcriptions; see /docs."


class MethodNotAllowed(GatewayError):
    code, status = "method_not_allowed", 405
    public = "This URL does not support this HTTP method. The Allow header lists those it supports."


class BodyTooSlow(GatewayError):
    code, status = "body_too_slow", 408
    public = "The request body arrived too slowly. Check the connection and send the request again."
    retryable = True


class TranscriptionNotFinished(GatewayError):
    code, status = "transcription_not_finished", 409
    public = "The transcription is still running. Retry when its status is `completed`."
    retryable = True


class TranscriptionWithoutText(GatewayError):
    code, status = "transcription_without_text", 409
    public = "The transcription failed or was cancelled, so it has no transcript. Retry it first."


class StillRunning(GatewayError):
    code, status = "still_running", 409
    public = "The transcription is still running. It can be retried when it has ended."
    retryable = True


class AlreadyEnded(GatewayError):
    code, status = "already_ended", 409
    public = "The transcription has already ended, so it cannot be cancelled."


class NothingToRetry(GatewayError):
    code, status = "nothing_to_retry", 409
    public = "The transcription is complete, so there is nothing to retry."


class AudioDeleted(GatewayError):
    code, status = "audio_deleted", 409
    public = (
        "The audio was deleted, or it was never fetched from its URL. Send it again as a new "
        "transcription."
    )


class AudioNotFetched(GatewayError):
    code, status = "audio_not_fetched", 409
    public = (
        "The audio was not fetched from its URL: the fetch has not ended or has failed, or the "
        "provider reads the URL itself. See `status`, `error` and `plan` of the transcription."
    )


class Erased(GatewayError):
    code, status = "erased", 410
    public = "The transcription was deleted. Only its id, times and cost remain."


class EventIdInvalid(GatewayError):
    code, status = "event_id_invalid", 422
    public = (
        "`Last-Event-ID` is not the id of an event of this transcription. Send an id unchanged, "
        "or none to read from the beginning."
    )


class EventIdMismatch(GatewayError):
    code, status = "event_id_mismatch", 422
    public = "`Last-Event-ID` is of another transcription. Send none to read from the beginning."


class UnsupportedMediaType(GatewayError):
    code, status = "unsupported_media_type", 415
    public = (
        "Send audio as multipart/form-data with a field `file`, or JSON with `audio` as a data: "
        "URI or with `url`."
    )


class RangeNotSatisfiable(GatewayError):
    code, status = "range_not_satisfiable", 416
    public = "The Range header requests bytes beyond the end of the audio."


class InvalidParameter(GatewayError):
    code, status = "invalid_parameter", 422
    public = "A parameter has the wrong type or is outside its limits."


class MissingAudio(GatewayError):
    code, status = "missing_audio", 422
    public = (
        "The request has no audio. Send a file in the form field `file` (curl: -F "
        "file=@speech.mp3), or its URL in `url`."
    )


class SeveralFiles(GatewayError):
    code, status = "several_files", 422
    public = "The request has more than one audio. Send one `file`, `audio` or `url` per request."


class UnknownModel(GatewayError):
    code, status = "unknown_model", 422
    public = "The model does not exist. GET /v1/models lists the models."


class ModelRetired(GatewayError):
    code, status = "model_retired", 422
    public = "The provider no longer offers the model. `successor` names its replacement."


class ContextTooLong(GatewayError):
    code, status = "context_too_long", 422
    public = "`context` is longer than the model allows. Shorten it to names and terms that matter."


class OptionNotSupported(GatewayError):
    code, status = "option_not_supported", 422
    public = "The model does not support an option and `strict` is set. Remove the option."


class CostAboveLimit(GatewayError):
    # Not 402: no payment is missing; the request itself sets the limit.
    code, status = "cost_above_limit", 422
    public = (
        "The transcription would cost more than `max_cost`, so no further call was made. Raise "
        "the limit, or choose a cheaper model."
    )


class SecondsAboveLimit(GatewayError):
    code, status = "seconds_above_limit", 422
    public = (
        "More seconds would be billed than `max_billable_seconds`, so no further call was made. "
        "Raise the limit, or send shorter audio."
    )


class UrlNotAllowed(GatewayError):
    code, status = "url_not_allowed", 422
    public = (
        "This URL is not fetched. Send an https:// URL of a public address, or upload the file."
    )


class UrlUnreachable(GatewayError):
    code, status = "url_unreachable", 422
    public = "The audio could not be fetched from its URL. Check the URL, or upload the file."
    retryable = True


# ── keys and access ─────────────────────────────────────────────────────────────────────────


class KeyMissing(GatewayError):
    code, status = "key_missing", 401
    public = "An API key is required: send `Authorization: Bearer gw_live_…`."


class KeyInvalid(GatewayError):
    code, status = "key_invalid", 401
    public = "The API key is not valid: it is mistyped, expired or revoked. Use another key."


class StreamTokenInvalid(GatewayError):
    code, status = "stream_token_invalid", 401
    public = (
        "The stream token is for another transcription, or it has expired. POST "
        "/v1/transcriptions/{id}/stream-token returns a new one."
    )


class ScopeMissing(GatewayError):
    code, status = "scope_missing", 403
    public = "The API key lacks the scope that this request needs. Use a key that has it."


class OriginNotAllowed(GatewayError):
    code, status = "origin_not_allowed", 403
    public = (
        "No API key exists yet, so only requests to localhost are accepted. Create a key with "
        "`asr-gateway keys create` to allow others."
    )


# ── unusable audio ──────────────────────────────────────────────────────────────────────────


class AudioError(GatewayError):
    """The audio cannot be used. A retry with the same bytes fails in the same way."""

    code, status = "undecodable", 422
    public = "The file is not audio or video in a supported format, or it is damaged."


class Undecodable(AudioError): ...


class EmptyAudio(AudioError):
    code, status = "empty_audio", 422
    public = "The file is empty."


class NoAudioStream(AudioError):
    code, status = "no_audio_stream", 422
    public = "The file has no audio track."


class AudioTooLong(AudioError):
    code, status = "audio_too_long", 422
    public = "The audio is longer than the gateway or the model allows. Send shorter pieces."


class AudioTooLarge(AudioError):
    code, status = "audio_too_large", 413
    public = "The file is larger than the gateway allows. Compress it, for example to MP3."


class SourceTooLarge(AudioError):
    code, status = "source_too_large", 413
    public = "The file at the URL is larger than the gateway allows. Compress it, e.g. to MP3."


class AudioUnreachable(AudioError):
    code, status = "audio_unreachable", 422
    public = (
        "The model reads audio from a URL, and the provider cannot reach this audio. Send a "
        "public https:// `url`, or choose another model."
    )


class DecodeTimeout(AudioError):
    code, status = "decode_timeout", 422
    public = "Decoding the audio took too long. Convert it to FLAC, WAV or MP3 and send it again."


# ── capacity ────────────────────────────────────────────────────────────────────────────────


class StorageFull(GatewayError):
    code, status = "storage_full", 507
    public = "The gateway's storage is nearly full. Retry when space is available."
    retryable = True


class TooManyJobs(GatewayError):
    code, status = "too_many_jobs", 429
    public = "Too many transcriptions are waiting. Retry after a short time."
    retryable = True


class DatabaseUnavailable(GatewayError):
    code, status = "database_unavailable", 503
    public = "The database is unavailable. Acknowledged requests are not lost. Retry later."
    retryable = True


class AudioStorageError(GatewayError):
    code, status = "audio_storage_error", 503
    public = "The stored audio could not be read. Ask the operator to run `asr-gateway doctor`."
    retryable = True


class ShuttingDown(GatewayError):
    code, status = "shutting_down", 503
    public = "The gateway is shutting down. Acknowledged requests are not lost. Retry later."
    retryable = True


# ── engines ─────────────────────────────────────────────────────────────────────────────────


class EngineUnavailable(GatewayError):
    code, status = "engine_unavailable", 503
    public = "The speech engine is not ready. GET /readyz lists the reasons."
    retryable = True


class EngineDisabled(GatewayError):
    """No engine of the model is enabled in the settings."""

    code, status = "engine_disabled", 503
    public = "The engine of the model is not enabled. GET /v1/models shows which models are ready."


class EngineFailed(GatewayError):
    code, status = "engine_failed", 502
    public = "The speech engine could not transcribe the audio. Try again."
    retryable = True


class EngineBusy(GatewayError):
    code, status = "engine_busy", 503
    public = "The speech engine accepts no further calls for now. Retry after a short time."
    retryable = True


class EngineRefused(GatewayError):
    code, status = "engine_refused", 422
    public = "The speech engine rejected the audio. A retry would fail in the same way."


class EngineAccount(GatewayError):
    code, status = "engine_account", 503
    public = (
        "The provider rejected the gateway's account: its key, payment, quota or rights to the "
        "model. Ask the operator to run `asr-gateway doctor`."
    )


class EngineTimeout(GatewayError):
    code, status = "engine_timeout", 504
    public = "The speech engine did not answer in time. Try again."
    retryable = True


class UpstreamInDoubt(GatewayError):
    code, status = "upstream_in_doubt", 502
    public = (
        "The answer of a call was lost. The call may have been billed, so it was not repeated. "
        "A new request transcribes the audio again."
    )


class PriceUnknown(GatewayError):
    code, status = "price_unknown", 503
    public = "The model has no known price, so no call was made. Ask the operator to set a price."


class RunCrashed(GatewayError):
    code, status = "run_crashed", 500
    public = "The gateway crashed repeatedly while it processed this audio. It will not be retried."
