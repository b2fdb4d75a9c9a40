"""API keys. Only a keyed hash of a key is stored."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from app.access.principal import Principal, Scope
from app.access.tables import api_key, project
from app.db.prepared import Prepared
from app.db.schema import Utc
from app.errors import KeyInvalid
from app.kit.ids import new_id
from app.kit.secrets import PREFIX_CHARACTERS, hash_key, is_well_formed, mint_key

TOUCH_INTERVAL = timedelta(minutes=1)

_key = api_key.c
_IS_VALID = sa.and_(
    _key.revoked_at.is_(None),
    sa.or_(_key.expires_at.is_(None), _key.expires_at > sa.bindparam("now", type_=Utc())),
)
_FIND_BY_HASH = Prepared(
    sa.select(_key.id, _key.project_id, _key.scopes, _key.last_used_at).where(
        _key.hash.in_(sa.bindparam("hashes", expanding=True)), _IS_VALID
    )
)
_FIND_VALID = Prepared(sa.select(_key.id).where(_key.id == sa.bindparam("key_id"), _IS_VALID))
_TOUCH = Prepared(
    sa.update(api_key)
    .where(_key.id == sa.bindparam("key_id"))
    .values(last_used_at=sa.bindparam("now", type_=Utc()))
)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key. Its `secret` is not stored and cannot be shown again."""

    id: str
    secret: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """The public part of a key."""

    id: str
    project: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


def create_key(
    tx: sa.Connection,
    *,
    project_id: str,
    name: str,
    scopes: Collection[Scope],
    pepper: bytes,
    now: datetime,
    expires_at: datetime | None = None,
) -> NewKey:
    """Create a key of a project."""
    secret = mint_key()
    created = NewKey(new_id("key"), secret)
    tx.execute(
        sa.insert(api_key).values(
            id=created.id,
            project_id=project_id,
            name=name,
            prefix=secret[:PREFIX_CHARACTERS],
            hash=hash_key(pepper, secret),
            scopes=sorted(scopes),
            created_at=now,
            expires_at=expires_at,
        )
    )
    return created


def find_principal(
    tx: sa.Connection, secret: str, *, peppers: Sequence[bytes], now: datetime
) -> tuple[Principal, bool] | None:
    """Return the principal of a valid key and whether `touch` is due; None for any other text."""
    if not is_well_formed(secret):
        return None
    hashes = [hash_key(pepper, secret) for pepper in peppers]
    row = _FIND_BY_HASH.first(tx, {"hashes": hashes, "now": now})
    if row is None:
        return None
    should_touch = row.last_used_at is None or now - row.last_used_at >= TOUCH_INTERVAL
    return Principal(row.project_id, row.id, frozenset(map(Scope, row.scopes))), should_touch


def check_key(tx: sa.Connection, principal: Principal, *, now: datetime) -> None:
    """Raise KeyInvalid where the principal's key was revoked or has expired since it was found."""
    key_id = principal.key_id
    if key_id is not None and _FIND_VALID.first(tx, {"key_id": key_id, "now": now}) is None:
        raise KeyInvalid


def touch(tx: sa.Connection, key_id: str, *, now: datetime) -> None:
    """Store when a key was last used."""
    _TOUCH.run(tx, {"key_id": key_id, "now": now})


def any_key(tx: sa.Connection) -> bool:
    """Tell whether any key was ever created. From then on every request needs one."""
    return tx.scalar(sa.select(api_key.c.id).limit(1)) is not None


def revoke_key(tx: sa.Connection, key_id: str, *, now: datetime) -> bool:
    """Revoke a key. False where no key of this id is still valid."""
    revoked = tx.execute(
        sa.update(api_key)
        .where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return revoked.rowcount == 1


def list_keys(tx: sa.Connection) -> list[KeyInfo]:
    """Return the public part of all keys, oldest first."""
    columns = (
        api_key.c.id,
        project.c.name.label("project"),
        *(api_key.c[field] for field in ("name", "prefix", "scopes", "created_at")),
        *(api_key.c[field] for field in ("expires_at", "last_used_at", "revoked_at")),
    )
    rows = tx.execute(sa.select(*columns).join(project).order_by(api_key.c.id)).mappings()
    return [KeyInfo(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]
