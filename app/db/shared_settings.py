"""Settings that must be equal in all processes of one database, stored by the first process."""

import sqlalchemy as sa

from app.db.schema import metadata

instance_fact = sa.Table(
    "instance_fact",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)


def match_or_store(tx: sa.Connection, name: str, values: list[str]) -> bool:
    """Return whether the stored value is one of these. If so, or if none is, store the first."""
    kept = stored_value(tx, name)
    if kept is None:
        tx.execute(sa.insert(instance_fact).values(name=name, value=values[0]))
    elif kept in values and kept != values[0]:
        tx.execute(
            sa.update(instance_fact).where(instance_fact.c.name == name).values(value=values[0])
        )
    return kept is None or kept in values


def stored_value(tx: sa.Connection, name: str) -> str | None:
    """Return the stored value of a setting, or None if no process has stored one yet."""
    kept: str | None = tx.scalar(
        sa.select(instance_fact.c.value).where(instance_fact.c.name == name)
    )
    return kept
