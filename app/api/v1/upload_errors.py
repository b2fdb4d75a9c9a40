"""What whoever sends a recording may be told, whether it is transcribed or only judged."""

from app import errors

SENDING = (
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
