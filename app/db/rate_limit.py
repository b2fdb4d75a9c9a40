"""The slots of rate limits as rows, shared by all processes of one PostgreSQL database.

A slot is reserved in one short transaction by the database's clock. The caller sleeps outside it.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from app.db.database import Database
from app.db.schema import Utc, database_now, metadata

rate_limit = sa.Table(
    "rate_limit",
    metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("next_slot_at", Utc(), nullable=False),
    sa.Column("blocked_until", Utc()),
    sa.Column("block_count", sa.Integer(), nullable=False, server_default="0"),
    sa.CheckConstraint("block_count >= 0", name="block_count"),
)

_KEY = sa.bindparam("its_key", type_=sa.String())
_INTERVAL = sa.bindparam("interval", type_=sa.Float())
_TIMEOUT = sa.bindparam("timeout", type_=sa.Float())
_BLOCKED = sa.bindparam("blocked", type_=sa.Float())

_INTERVAL_LATER = sa.func.make_interval(0, 0, 0, 0, 0, 0, _INTERVAL, type_=sa.Interval())
_SECONDS_LEFT = sa.cast(sa.extract("epoch", rate_limit.c.next_slot_at - database_now()), sa.Float())

# A transaction that waits here for the row lock reads the clock once it has the row.
_RESERVE = (
    sa.update(rate_limit)
    .where(rate_limit.c.key == _KEY, rate_limit.c.next_slot_at <= database_now(_TIMEOUT))
    .values(
        next_slot_at=sa.func.greatest(rate_limit.c.next_slot_at, database_now()) + _INTERVAL_LATER
    )
    .returning(_SECONDS_LEFT - _INTERVAL, rate_limit.c.block_count)
)
_LEFT = sa.select(_SECONDS_LEFT).where(rate_limit.c.key == _KEY)
# The first slot of a new key is one interval away. Later processes find the row.
_INSERT = (
    insert(rate_limit)
    .values(key=_KEY, next_slot_at=database_now(_INTERVAL))
    .on_conflict_do_nothing()
)
_END_OF_BLOCK = sa.func.greatest(rate_limit.c.blocked_until, database_now(_BLOCKED), type_=Utc())
_BLOCK = (
    insert(rate_limit)
    .values(
        key=_KEY,
        next_slot_at=database_now(_BLOCKED),
        blocked_until=database_now(_BLOCKED),
        block_count=1,
    )
    .on_conflict_do_update(
        index_elements=[rate_limit.c.key],
        set_={
            "next_slot_at": _END_OF_BLOCK,
            "blocked_until": _END_OF_BLOCK,
            "block_count": rate_limit.c.block_count + 1,
        },
    )
)


class RowSlots:
    """A SlotStore (net/rate_limiter) for all processes of one PostgreSQL database.

    Its methods raise DatabaseUnavailable. Without the database no process knows the others' calls.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def reserve(
        self,
        limit_id: str,
        interval: float,
        timeout: float,  # noqa: ASYNC109 - see SlotStore
    ) -> tuple[float, int | None]:
        """Reserve the next slot; see SlotStore."""
        return await self._db.write(reserve_slot, limit_id, interval, timeout)

    async def block(self, limit_id: str, seconds: float) -> None:
        """Void the reserved slots; see SlotStore."""
        await self._db.write(block_slots, limit_id, seconds)

    async def block_count(self, limit_id: str) -> int:
        """Return the number of blocks so far."""
        return await self._db.read(count_blocks, limit_id)


def reserve_slot(
    tx: sa.Connection, /, limit_id: str, interval: float, timeout: float
) -> tuple[float, int | None]:
    """Reserve the next slot if it is near enough. Return the seconds left and the block count."""
    values = {"its_key": limit_id, "interval": interval, "timeout": timeout}
    while (row := tx.execute(_RESERVE, values).first()) is None:
        left = tx.scalar(_LEFT, {"its_key": limit_id})
        if left is not None and left > timeout:
            return left, None
        tx.execute(_INSERT, {"its_key": limit_id, "interval": interval})
    return max(0.0, row[0]), row[1]


def block_slots(tx: sa.Connection, /, limit_id: str, seconds: float) -> None:
    """Void the reserved slots. A later block never shortens an earlier one."""
    tx.execute(_BLOCK, {"its_key": limit_id, "blocked": seconds})


def count_blocks(tx: sa.Connection, /, limit_id: str) -> int:
    """Return the number of blocks so far."""
    return tx.scalar(sa.select(rate_limit.c.block_count).where(rate_limit.c.key == limit_id)) or 0
