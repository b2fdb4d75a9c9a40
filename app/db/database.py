"""The two verbs every use-case has for the database.

A *work* is a plain function over a Core connection: it cannot await, so no transaction can
ever be open across the network. `write` returns only after COMMIT: what it returned is durable.
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

    `is_shared` tells whether other processes may work on it at the same time.
    """

    is_shared: bool

    async def open(self) -> None:
        """Connect. Raises DatabaseLockedError where another process serves the same SQLite file."""

    async def close(self) -> None:
        """Finish what was begun, then disconnect."""

    async def write(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the work in a transaction and return its result once that is committed.

        Raises errors.DatabaseAway where it is not known whether that happened.
        """

    async def write_then(
        self, follow: AfterWrite[T], work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Write, and let `follow` act before COMMIT where the database is shared, else after it.

        Both or none happen on a shared database; on another, a crash between the two loses what
        follows. `follow` may be called again where the server wants the transaction repeated.
        """

    async def driver_pool(self, size: int) -> Any:
        """Return a new pool of so many connections of the driver, to be closed by the caller.

        None where the database is not shared: nobody else could be told anything through it.
        """

    async def read(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the work on a consistent snapshot; whatever it would write is refused or undone."""


class DatabaseLockedError(RuntimeError):
    """Another process serves this SQLite file."""
