"""Tests of app.access.keys.

Covers: app.access.keys, app.access.pepper, app.kit.secrets
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app.access.keys import (
    TOUCH_INTERVAL,
    NewKey,
    any_key,
    create_key,
    find_principal,
    list_keys,
    revoke_key,
    touch,
)
from app.access.pepper import load_peppers
from app.access.principal import ALL_SCOPES, Principal, Scope
from app.access.projects import ensure_project
from app.access.tables import api_key
from app.db.database import Database
from app.errors import ScopeMissing
from app.kit.secrets import mint_key
from tests.support.scenario import NOW

pytestmark = pytest.mark.anyio
PEPPER, OLD_PEPPER = b"new", b"old"


async def key_of(db: Database, project: str = "p", **fields: Any) -> NewKey:
    def make(tx: sa.Connection) -> NewKey:
        wanted = {"name": "k", "scopes": ALL_SCOPES, "pepper": PEPPER, "now": NOW, **fields}
        return create_key(tx, project_id=ensure_project(tx, project, now=NOW), **wanted)

    return await db.write(make)


async def holder(
    db: Database, secret: str, *, peppers: tuple[bytes, ...] = (PEPPER,), after: int = 0
) -> Principal | None:
    now = NOW + timedelta(seconds=after)
    found = await db.read(find_principal, secret, peppers=peppers, now=now)
    return found[0] if found else None


async def test_a_key_gives_access_to_its_project_with_its_scopes(db: Database) -> None:
    mine = await key_of(db, "mine", scopes=[Scope.READ])
    other = await key_of(db, "other")
    found, stranger = await holder(db, mine.secret), await holder(db, other.secret)
    assert found is not None
    assert stranger is not None
    assert (found.key_id, found.scopes) == (mine.id, {Scope.READ})
    assert found.project_id != stranger.project_id


async def test_a_scope_a_key_lacks_is_named(db: Database) -> None:
    found = await holder(db, (await key_of(db, scopes=[Scope.READ])).secret)
    assert found is not None
    found.require(Scope.READ)
    with pytest.raises(ScopeMissing, match="`transcribe`"):
        found.require(Scope.TRANSCRIBE)


async def test_a_key_works_up_to_its_last_moment(db: Database) -> None:
    key = await key_of(db, expires_at=NOW + timedelta(seconds=10))
    assert await holder(db, key.secret, after=9)
    assert await holder(db, key.secret, after=10) is None


async def test_a_revoked_key_is_revoked_for_good_and_once(db: Database) -> None:
    key, other = await key_of(db), await key_of(db)
    assert await db.write(revoke_key, key.id, now=NOW)
    assert not await db.write(revoke_key, key.id, now=NOW)
    assert not await db.write(revoke_key, "key_none", now=NOW)
    assert await holder(db, key.secret) is None
    assert await holder(db, other.secret)


async def test_keys_of_a_rotated_pepper_are_valid_until_it_is_removed(db: Database) -> None:
    before = await key_of(db, pepper=OLD_PEPPER)
    after = await key_of(db, pepper=PEPPER)
    assert await holder(db, before.secret, peppers=(PEPPER, OLD_PEPPER))
    assert await holder(db, after.secret, peppers=(PEPPER, OLD_PEPPER))
    assert await holder(db, before.secret, peppers=(PEPPER,)) is None


@pytest.mark.parametrize(
    "secret",
    ["", "gw_live_", "x" * 1000, "gw_live_" + "é" * 49, pytest.param(mint_key(), id="unknown")],
)
async def test_an_unknown_key_has_no_principal(db: Database, secret: str) -> None:
    await key_of(db)
    assert await holder(db, secret) is None


async def test_last_use_is_stored_once_per_interval(db: Database) -> None:
    key = await key_of(db)

    async def is_worth_noting(after: timedelta) -> bool:
        now = NOW + after
        found = await db.read(find_principal, key.secret, peppers=[PEPPER], now=now)
        assert found is not None
        return found[1]

    assert await is_worth_noting(timedelta(0))
    await db.write(touch, key.id, now=NOW)
    assert not await is_worth_noting(TOUCH_INTERVAL - timedelta(seconds=1))
    assert await is_worth_noting(TOUCH_INTERVAL)


async def test_a_list_of_keys_shows_no_secret(db: Database) -> None:
    assert not await db.read(any_key)
    keys = [await key_of(db, name=f"k{n}") for n in range(3)]
    listed = await db.read(list_keys)
    assert [key.name for key in listed] == ["k0", "k1", "k2"]
    assert all(key.secret not in str(listed) for key in keys)
    assert listed[0].prefix == keys[0].secret[: len(listed[0].prefix)]
    assert len(listed[0].prefix) < 16
    assert await db.read(any_key)


async def test_the_database_holds_no_key(db: Database) -> None:
    key = await key_of(db)
    rows = await db.read(lambda tx: str([tuple(row) for row in tx.execute(sa.select(api_key))]))
    assert key.secret not in rows
    assert key.secret[20:] not in rows


def test_peppers_come_from_the_settings_in_their_order(tmp_path: Path) -> None:
    configured = [SecretStr("new"), SecretStr("old")]
    assert load_peppers(configured, tmp_path) == [b"new", b"old"]
    assert not list(tmp_path.iterdir())


def test_a_pepper_is_made_once_and_is_private(tmp_path: Path) -> None:
    made = load_peppers([], tmp_path / "data")
    assert load_peppers([], tmp_path / "data") == made
    assert len(made[0]) >= 32
    (file,) = (tmp_path / "data").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_peppers([], tmp_path / "elsewhere") != made
