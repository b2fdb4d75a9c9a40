"""What an engine's failure means to the caller: one public error for each kind."""

from app import errors
from app.speech.contract import EngineError, ErrorKind

_PUBLIC: dict[ErrorKind, type[errors.GatewayError]] = {
    ErrorKind.UNAVAILABLE: errors.EngineUnavailable,
    ErrorKind.RATE_LIMITED: errors.EngineBusy,
    ErrorKind.ACCOUNT: errors.EngineAccount,
    ErrorKind.TIMEOUT: errors.EngineTimeout,
    ErrorKind.NETWORK: errors.EngineFailed,
    ErrorKind.REFUSED: errors.EngineRefused,
    ErrorKind.GARBLED: errors.EngineFailed,
    ErrorKind.INTERNAL: errors.EngineFailed,
}


def public_error(error: EngineError) -> errors.GatewayError:
    """Return what the caller is told; the engine's own words stay in the log."""
    return _PUBLIC[error.kind](log=error.log)
