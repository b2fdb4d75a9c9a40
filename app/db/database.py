"""The interface of a database.

A transaction is a plain function over a SQLAlchemy Core connection. It cannot await, so no
transaction is ever open while the network is waited for. `write` returns only after COMMIT, so
its result is durable.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

P = ParamSpec("P")
T = TypeVar("T")

Transaction = Callable[Concatenate[sa.Connection, P], T]

AfterWrite = Callable[[T, Any], Awaitable[None]]
"""An action that belongs to a transaction. It is called with the transaction's result and, on a
shared database, with the driver's connection, on which it acts before COMMIT; else with None."""


class Database(Protocol):
    """A transaction that raises is rolled back alone, and its error reaches the caller.

    `is_shared` tells whether other processes may use the database at the same time.
    """

    is_shared: bool

    async def open(self) -> None:
        """Connect. Raises DatabaseLockedError if another process serves the same SQLite file."""

    async def close(self) -> None:
        """Finish the transactions that have begun, then disconnect."""

    async def write(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a transaction and return its result after the commit.

        Raises DatabaseUnavailable where the commit is not known to have succeeded.
        """

    async def write_then(
        self,
        after: AfterWrite[T],
        transaction: Transaction[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a transaction and an action that belongs to it.

        On a shared database both are committed together, and both may be repeated where the server
        asks for it. On SQLite the action follows the commit, and a crash between them loses it.
        """

    async def empty_journal(self) -> bool:
        """Remove what was erased from the database's files; return whether that was possible.

        PostgreSQL does it by its own VACUUM.
        """

    async def driver_connection(self) -> Any:
        """Return a new connection of the driver; the caller closes it.

        None on SQLite, where no other process has to be notified.
        """

    async def read(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a transaction on one consistent snapshot. It can change nothing."""


class DatabaseLockedError(RuntimeError):
    """Another process serves this SQLite file."""
