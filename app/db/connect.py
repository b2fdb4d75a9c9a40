"""The address of the database in the settings, and the choice of its driver."""

import re

import sqlalchemy as sa

from app.db.database import Database

VARIABLE = "GATEWAY_DATABASE__URL"
_SCHEMES = frozenset({"sqlite", "postgresql", "postgres"})
# asyncpg reads these from an address, as libpq does. SQLAlchemy would hand them on as arguments.
_TLS_OPTIONS = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl"})
_DRIVER_OPTIONS = frozenset({*_TLS_OPTIONS, "target_session_attrs"})
_SHARED_OPTIONS = frozenset({"host", "port"})
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MALFORMED = (
    f"{VARIABLE} is not an address of a database: write postgresql://user:password@host/name, with "
    "special characters of the password encoded, such as %40 for @, or sqlite:///path."
)


class DatabaseAddressError(ValueError):
    """The address cannot be used; the message is a sentence that names the setting."""


def parse_address(url: str) -> sa.URL:
    """Return the parts of an address. Raises DatabaseAddressError, never with the address."""
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise DatabaseAddressError(_MALFORMED) from None
    backend = address.get_backend_name()
    if backend not in _SCHEMES:
        raise DatabaseAddressError(
            f"{VARIABLE} must be sqlite:// or postgresql://, not {backend}://."
        )
    if backend == "sqlite":
        if address.host or address.database in {None, "", ":memory:"}:
            raise DatabaseAddressError(
                f"{VARIABLE} needs a file: write sqlite:/// and a path, e.g. "
                "sqlite:////var/lib/asr-gateway/gateway.db."
            )
        return address
    options = dict(address.query)
    if "ssl" in options:  # the name in SQLAlchemy's own addresses
        mode = str(options.pop("ssl"))
        options["sslmode"] = "require" if mode.lower() in {"true", "1", "on"} else mode
    known = _DRIVER_OPTIONS | _SHARED_OPTIONS
    if unknown := sorted(set(options) - known):
        # A password with a question mark would look like options: it must not be shown.
        if not re.fullmatch("[a-z_]{1,40}", unknown[0]) or "@" in str(options):
            raise DatabaseAddressError(_MALFORMED)
        raise DatabaseAddressError(
            f"{VARIABLE} has the option {unknown[0]}, which is not supported: remove it. "
            f"The options are {', '.join(sorted(known))}."
        )
    mode = str(options.get("sslmode", "prefer"))
    if mode not in _TLS_MODES:
        raise DatabaseAddressError(f"{VARIABLE}: sslmode is one of {', '.join(_TLS_MODES)}.")
    return address.set(query=options)


def split_driver_options(address: sa.URL) -> tuple[sa.URL, str]:
    """Return the address without the options of the driver, and those as an address of their own.

    The second one is "" if there are none.
    """
    options = {name: value for name, value in address.query.items() if name in _DRIVER_OPTIONS}
    if not options:
        return address, ""
    own = sa.URL.create("postgresql", query=options).render_as_string()
    return address.difference_update_query(options), own


def make_database(
    url: str, *, readers: int = 4, pool: int = 10, exclusive: bool = False
) -> Database:
    """Return the database at `url`, not yet opened.

    `readers` is the number of reading threads on SQLite, `pool` the number of connections on
    PostgreSQL. `exclusive` locks a SQLite file for this process: the service does, short commands
    do not. Raises DatabaseAddressError, a ValueError.
    """
    address = parse_address(url)
    if address.get_backend_name() == "sqlite":
        from app.db.sqlite import SqliteDatabase  # noqa: PLC0415 - load one driver only

        return SqliteDatabase(address.database or "", readers=readers, exclusive=exclusive)
    from app.db.postgres import PostgresDatabase  # noqa: PLC0415 - load one driver only

    return PostgresDatabase(address, pool=pool)
