"""The cause of a database that cannot be used, and the remedy, in words for an operator."""

import os
from pathlib import Path

from app.db.connect import VARIABLE, DatabaseAddressError, parse_address

BROKEN_FILE_REMEDY = (
    "Stop the gateway, keep a copy of the file with its -wal, and restore a backup; "
    "or save the readable rows: sqlite3 FILE .recover."
)
_UNREACHABLE = f"Start it, or check host, port and firewall of {VARIABLE}."
# By the type of the driver's own error.
_CAUSES = {
    "ModuleNotFoundError": (
        "cannot be used (the driver is not installed)",
        "Install the extra: pip install 'asr-gateway[postgres]'.",
    ),
    "InvalidPasswordError": (
        "rejects the user or the password",
        f"Correct user and password in {VARIABLE}.",
    ),
    "InvalidAuthorizationSpecificationError": (
        "rejects the user",
        f"Correct the user in {VARIABLE}.",
    ),
    "InvalidCatalogNameError": (
        "has no database of this name",
        f"Create that database (createdb), or correct its name in {VARIABLE}.",
    ),
    "gaierror": ("has a host name that does not resolve", f"Correct the host in {VARIABLE}."),
    "TimeoutError": ("does not answer in time", _UNREACHABLE),
}


def find_cause(url: str, error: BaseException) -> tuple[str, str]:
    """Return the cause, as a sentence without full stop, and the remedy; never the password."""
    cause: BaseException | None = error
    while cause is not None:  # the driver's own error, below SQLAlchemy's and ours
        name, innermost = type(cause).__name__, cause
        cause = getattr(cause, "orig", None) or cause.__cause__
    try:
        address = parse_address(url)
    except DatabaseAddressError as wrong:
        return str(wrong).removesuffix("."), f"Correct {VARIABLE}."
    if address.get_backend_name() == "sqlite":
        file = Path(address.database or "")
        if name == "DatabaseError":
            found = f"{file} is not an SQLite database, or is broken"
            return found, f"{BROKEN_FILE_REMEDY} The file is the one of {VARIABLE}."
        remedy = f"Check {VARIABLE} and the permissions of that file and its folder."
        there = next(path for path in (file, *file.absolute().parents) if path.exists())
        if not os.access(there, os.R_OK | os.W_OK):
            return f"{there} cannot be written to by user {os.getuid()}", remedy
        return f"{file} cannot be used ({name})", remedy
    shown = f"PostgreSQL at {address.host}:{address.port or 5432}"
    if "rejected SSL upgrade" in str(innermost):
        remedy = f"Enable TLS at the server, or remove sslmode from {VARIABLE}."
        return f"{shown} has no TLS, which sslmode demands", remedy
    found, remedy = _CAUSES.get(name, (f"cannot be used ({name})", _UNREACHABLE))
    return f"{shown} {found}", remedy


def describe_failure(url: str, error: BaseException) -> str:
    """Return the cause and the remedy on one line."""
    found, remedy = find_cause(url, error)
    return f"{found}. {remedy}"
