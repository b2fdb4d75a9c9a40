"""The pace of calls as rows: processes that share a PostgreSQL database take the steps in turn.

One short transaction a step, by the database's clock; whoever took one sleeps outside of it.
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
_GAP = sa.bindparam("gap", type_=sa.Float())
_PATIENCE = sa.bindparam("patience", type_=sa.Float())
_HELD = sa.bindparam("held", type_=sa.Float())

_GAP_LATER = sa.func.make_interval(0, 0, 0, 0, 0, 0, _GAP, type_=sa.Interval())
_SECONDS_LEFT = sa.cast(sa.extract("epoch", rate_limit.c.next_slot_at - database_now()), sa.Float())

# Who waits here for another's step reads the clock when it has the row, not when it asked.
_TAKE = (
    sa.update(rate_limit)
    .where(rate_limit.c.key == _KEY, rate_limit.c.next_slot_at <= database_now(_PATIENCE))
    .values(next_slot_at=sa.func.greatest(rate_limit.c.next_slot_at, database_now()) + _GAP_LATER)
    .returning(_SECONDS_LEFT - _GAP, rate_limit.c.block_count)
)
_LEFT = sa.select(_SECONDS_LEFT).where(rate_limit.c.key == _KEY)
# The first process of all begins with an empty bucket; those after it find the row.
_BEGIN = (
    insert(rate_limit).values(key=_KEY, next_slot_at=database_now(_GAP)).on_conflict_do_nothing()
)
_END_OF_HOLD = sa.func.greatest(rate_limit.c.blocked_until, database_now(_HELD), type_=Utc())
_HOLD = (
    insert(rate_limit)
    .values(
        key=_KEY, next_slot_at=database_now(_HELD), blocked_until=database_now(_HELD), block_count=1
    )
    .on_conflict_do_update(
        index_elements=[rate_limit.c.key],
        set_={
            "next_slot_at": _END_OF_HOLD,
            "blocked_until": _END_OF_HOLD,
            "block_count": rate_limit.c.block_count + 1,
        },
    )
)


class RowSteps:
    """A StepStore (net/limiter) for all processes of one PostgreSQL database.

    Its methods raise DatabaseAway: without the database nobody knows who called when.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def take(self, key: str, gap: float, patience: float) -> tuple[float, int | None]:
        """Take the next step; see StepStore."""
        return await self._db.write(take_step, key, gap, patience)

    async def hold(self, key: str, seconds: float) -> None:
        """Void the steps taken and let none be for so many seconds."""
        await self._db.write(hold_steps, key, seconds)

    async def holds(self, key: str) -> int:
        """Return how many holds there have been."""
        return await self._db.read(count_holds, key)


def take_step(
    tx: sa.Connection, /, key: str, gap: float, patience: float
) -> tuple[float, int | None]:
    """Move the row on by one step, if that is near enough; return the seconds left, and holds."""
    asked = {"its_key": key, "gap": gap, "patience": patience}
    while (row := tx.execute(_TAKE, asked).first()) is None:
        left = tx.scalar(_LEFT, {"its_key": key})
        if left is not None and left > patience:
            return left, None
        tx.execute(_BEGIN, {"its_key": key, "gap": gap})
    return max(0.0, row[0]), row[1]


def hold_steps(tx: sa.Connection, /, key: str, seconds: float) -> None:
    """Void the steps taken; no hold is shortened by a later one."""
    tx.execute(_HOLD, {"its_key": key, "held": seconds})


def count_holds(tx: sa.Connection, /, key: str) -> int:
    """Return how many holds there have been."""
    return tx.scalar(sa.select(rate_limit.c.block_count).where(rate_limit.c.key == key)) or 0
