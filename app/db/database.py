"""The interface of the database: `write` and `read`.

A *work* is a plain function over a Core connection: it cannot await, so no transaction can
ever be open across the network. `write` returns only after COMMIT: its result is durable.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

P = ParamSpec("P")
T = TypeVar("T")

Transaction = Callable[Concatenate[sa.Connection, P], T]

AfterWrite = Callable[[T, Any], Awaitable[None]]
"""What has to become true together with a write: gets the work's result, and where the database
is shared the driver's own connection, on which it acts in the same transaction; else None."""


class Database(Protocol):
    """One database. A work that raises is rolled back alone, and its error reaches the caller.

    `is_shared`: other processes may use it at the same time.
    """

    is_shared: bool

    async def open(self) -> None:
        """Connect. Raises DatabaseLockedError if another process serves the same SQLite file."""

    async def close(self) -> None:
        """Complete the running works, then disconnect."""

    async def write(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the work in a transaction and return its result once that is committed.

        Raises errors.DatabaseUnavailable if it is not known whether the commit happened.
        """

    async def write_then(
        self, follow: AfterWrite[T], work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Write, and call `follow`: before COMMIT if the database is shared, else after it.

        On a shared database both or none happen. On another one, a crash between the two loses
        `follow`. `follow` may be called again if the server requires the transaction repeated.
        """

    async def driver_pool(self, size: int) -> Any:
        """Return a new pool of driver connections. The caller must close it.

        None if the database is not shared: no other process could be notified through it.
        """

    async def read(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the work on a consistent snapshot. Writes of the work are refused or rolled back."""


class DatabaseLockedError(RuntimeError):
    """Another process serves this SQLite file."""
