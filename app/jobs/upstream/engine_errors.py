"""Maps the errors of engines to public errors: one public error for each kind."""

from app import errors
from app.speech.engine import Billed, EngineError, ErrorKind

_PUBLIC: dict[ErrorKind, type[errors.GatewayError]] = {
    ErrorKind.UNAVAILABLE: errors.EngineUnavailable,
    ErrorKind.RATE_LIMITED: errors.EngineBusy,
    ErrorKind.ACCOUNT: errors.EngineAccount,
    ErrorKind.TIMEOUT: errors.EngineTimeout,
    ErrorKind.NETWORK: errors.EngineFailed,
    ErrorKind.REJECTED: errors.EngineRefused,
    ErrorKind.MALFORMED: errors.EngineFailed,
    ErrorKind.INTERNAL: errors.EngineFailed,
}


def public_error(error: EngineError) -> errors.GatewayError:
    """Return the public error; the engine's own message appears only in the log."""
    return _PUBLIC[error.kind](log=error.log)


def is_of_part(error: errors.GatewayError) -> bool:
    """Whether an error concerns one part only, so that other parts may still succeed.

    An account in arrears or an unreachable upstream concerns the whole job.
    """
    if isinstance(error, errors.UpstreamInDoubt):
        return True
    cause = error.__cause__
    if not isinstance(cause, EngineError):
        return False
    if cause.kind in {ErrorKind.UNAVAILABLE, ErrorKind.RATE_LIMITED, ErrorKind.ACCOUNT}:
        return False
    return cause.kind is not ErrorKind.NETWORK or cause.billed is not Billed.NO
