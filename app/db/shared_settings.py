"""Facts on which all processes of one database must agree. The first process stores them."""

import sqlalchemy as sa

from app.db.schema import metadata

instance_fact = sa.Table(
    "instance_fact",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)


def match_or_store(tx: sa.Connection, name: str, values: list[str]) -> bool:
    """Tell whether a fact's stored value is one of `values`. Stores the first of them if it is.

    Where no value is stored yet, the first of `values` is stored and the answer is True.
    """
    stored = stored_value(tx, name)
    if stored is None:
        tx.execute(sa.insert(instance_fact).values(name=name, value=values[0]))
    elif stored in values and stored != values[0]:
        tx.execute(
            sa.update(instance_fact).where(instance_fact.c.name == name).values(value=values[0])
        )
    return stored is None or stored in values


def stored_value(tx: sa.Connection, name: str) -> str | None:
    """Return the stored value of a fact, or None."""
    value: str | None = tx.scalar(
        sa.select(instance_fact.c.value).where(instance_fact.c.name == name)
    )
    return value
