"""Addresses of databases: each that cannot be used ends the start with its cause in words.

Covers: app.db.connect, app.db.failure
"""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.db.connect import DatabaseAddressError, parse_address
from app.db.migrate import open_database
from app.lifespan import StartRefusedError, preflight
from tests.support.gateway import settings_for

HINT = "write postgresql://user:password@host/name"


def refusal(url: str, folder: Path) -> str:
    with pytest.raises(StartRefusedError) as refused:
        asyncio.run(preflight(settings_for(url, folder / "data")))
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", HINT),
        ("postgresql://user:hunter2@host:port/name", HINT),
        ("postgresql://user:p@hun?ter=2@host/name", HINT),
        ("mysql://user:hunter2@host/name", "must be sqlite:// or postgresql://, not mysql://."),
        ("sqlite://", "needs a file: write sqlite:/// and a path"),
        ("sqlite://gateway.db", "needs a file"),
        ("postgresql://u:hunter2@h/n?channel_binding=require", "has the option channel_binding"),
        ("postgresql://u:hunter2@h/n?sslmode=yes", "sslmode is one of disable, allow"),
        (
            "postgresql://user:hunter2@127.0.0.1:1/name",
            "PostgreSQL at 127.0.0.1:1 cannot be used (ConnectionRefusedError). Start it, or check",
        ),
        (
            "postgresql://user:hunter2@nowhere.invalid/name",
            "PostgreSQL at nowhere.invalid:5432 has a host name that does not resolve.",
        ),
    ],
)
def test_the_cause_is_told_in_words(url: str, said: str, tmp_path: Path) -> None:
    """CASES §5: "The database cannot be used (ValueError)"."""
    found = refusal(url, tmp_path)
    assert said in found
    assert "GATEWAY_DATABASE__URL" in found
    assert "hunter2" not in found
    assert "option ter" not in found


def test_a_wrong_user_or_name_of_postgresql(database_url: str, tmp_path: Path) -> None:
    if not database_url.startswith("postgres"):
        pytest.skip("SQLite has no users")
    address = sa.make_url(database_url)
    missing = address.set(database="nowhere").render_as_string(hide_password=False)
    assert "has no database of this name. Create that database (createdb)" in refusal(
        missing, tmp_path
    )
    stranger = address.set(username="stranger").render_as_string(hide_password=False)
    assert "rejects the user" in refusal(stranger, tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("option", ["sslmode=require", "ssl=require", "ssl=true"])
async def test_a_server_without_tls_is_refused_where_the_address_demands_it(
    tmp_path: Path, option: str
) -> None:
    """ATTACKS L12: `?sslmode=require` ended the start with a TypeError and its traceback."""

    async def reject(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # the request for TLS
        writer.write(b"N")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reject, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://user:hunter2@127.0.0.1:{port}/name?{option}"
        with pytest.raises(StartRefusedError) as refused:
            await preflight(settings_for(url, tmp_path / "data"))
    assert str(refused.value) == (
        f"PostgreSQL at 127.0.0.1:{port} has no TLS, which sslmode demands. Enable TLS at the "
        "server, or remove sslmode from GATEWAY_DATABASE__URL."
    )


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_other_modes_of_tls_are_taken_by_both_connections(database_url: str, mode: str) -> None:
    """ATTACKS L12: the pool and the connection of the queue read the same options."""
    if not database_url.startswith("postgres"):
        pytest.skip("SQLite has no connections")

    async def work() -> None:
        url = f"{database_url}{'&' if '?' in database_url else '?'}sslmode={mode}"
        async with open_database(url) as db:
            assert await db.read(lambda tx: tx.scalar(sa.text("SELECT 1"))) == 1
            connection = await db.driver_connection()  # type: ignore[attr-defined]
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()

    asyncio.run(work())


def test_options_are_checked_before_a_connection_is_opened() -> None:
    assert parse_address("postgresql://h/n?ssl=true").query == {"sslmode": "require"}
    with pytest.raises(DatabaseAddressError):
        parse_address("postgresql://h/n?timeout=1")
