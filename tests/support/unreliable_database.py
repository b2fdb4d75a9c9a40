"""A database that fails for chosen transactions, before they run or after their commit."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal
from unittest import mock

from app import lifespan
from app.db.database import AfterWrite, Database, P, T, Transaction
from app.errors import DatabaseUnavailable
from app.settings import Settings

When = Literal["before", "after"]


@dataclass
class DatabaseFault:
    """A fault of the next transactions of a name. With a `gate` it waits for that first."""

    work: str
    when: When | Literal["never"] = "before"
    times: int = 1
    error: Exception = field(default_factory=lambda: DatabaseUnavailable(log="made up"))
    gate: asyncio.Event | None = None
    met: asyncio.Event = field(default_factory=asyncio.Event)


class UnreliableDatabase:
    """A real database with faults; each fault happens as often as it says."""

    def __init__(self, inner: Database, faults: list[DatabaseFault]) -> None:
        self._inner = inner
        self._faults = faults
        self.is_shared = inner.is_shared

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def write(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._through(self._inner.write, work, *args, **kwargs)

    async def read(self, work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._through(self._inner.read, work, *args, **kwargs)

    async def write_then(
        self, follow: AfterWrite[T], work: Transaction[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        verb = partial(self._inner.write_then, follow)
        return await self._through(verb, work, *args, **kwargs)

    async def driver_connection(self) -> Any:
        return await self._inner.driver_connection()

    async def empty_journal(self) -> bool:
        return await self._inner.empty_journal()

    async def _through(self, verb: Any, work: Any, *args: Any, **kwargs: Any) -> Any:
        fault = self._next_of(work.__name__)
        if fault is None:
            return await verb(work, *args, **kwargs)
        fault.met.set()
        if fault.gate is not None:
            await fault.gate.wait()
        if fault.when == "before":
            raise fault.error
        result = await verb(work, *args, **kwargs)
        if fault.when == "after":
            raise fault.error
        return result

    def _next_of(self, name: str) -> DatabaseFault | None:
        for fault in self._faults:
            if fault.work == name and fault.times > 0:
                fault.times -= 1
                return fault
        return None


@contextmanager
def unreliable_database(*faults: DatabaseFault) -> Iterator[list[DatabaseFault]]:
    """Add faults to the database of every gateway that starts in the block."""
    standing = list(faults)
    real = lifespan.database_of

    @asynccontextmanager
    async def database_of(settings: Settings, *, exclusive: bool) -> AsyncIterator[Database]:
        async with real(settings, exclusive=exclusive) as db:
            yield UnreliableDatabase(db, standing)

    with mock.patch.object(lifespan, "database_of", database_of):
        yield standing
