"""What all processes of one database must agree on, remembered by the first of them."""

import sqlalchemy as sa

from app.db.schema import metadata

instance_fact = sa.Table(
    "instance_fact",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)


def match_or_store(tx: sa.Connection, name: str, values: list[str]) -> bool:
    """Tell whether one of the values is the one remembered; then, or at first, keep the first."""
    kept = stored_value(tx, name)
    if kept is None:
        tx.execute(sa.insert(instance_fact).values(name=name, value=values[0]))
    elif kept in values and kept != values[0]:
        tx.execute(
            sa.update(instance_fact).where(instance_fact.c.name == name).values(value=values[0])
        )
    return kept is None or kept in values


def stored_value(tx: sa.Connection, name: str) -> str | None:
    """Return what all processes agreed on; None where none has said anything yet."""
    kept: str | None = tx.scalar(
        sa.select(instance_fact.c.value).where(instance_fact.c.name == name)
    )
    return kept
