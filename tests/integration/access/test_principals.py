"""A principal is cached for a moment, but never one whose key was revoked in this process.

Covers: app.access.keys, app.access.principals, app.kit.secrets
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.access.keys import TOUCH_INTERVAL, check_key, list_keys, revoke_key
from app.access.principals import REMEMBERED_FOR, Principals
from app.db.database import Database
from app.errors import DatabaseUnavailable, KeyInvalid
from app.kit.secrets import mint_key
from tests.integration.access.test_keys import OLD_PEPPER, PEPPER, key_of
from tests.support.scenario import NOW
from tests.support.unreliable_database import DatabaseFault, UnreliableDatabase

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


class LateReads:
    """A real database whose reads return once the gate is open."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.write = inner.write
        self.gate = asyncio.Event()
        self.is_read = asyncio.Event()

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        found = await self._inner.read(*args, **kwargs)
        self.is_read.set()
        await self.gate.wait()
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def principals(db: Database, clock: Clock) -> Principals:
    return Principals(db, [PEPPER, OLD_PEPPER], clock)


@pytest.mark.parametrize("pepper", [PEPPER, OLD_PEPPER])
async def test_a_principal_is_recalled_for_a_second_and_no_longer(
    db: Database, principals: Principals, clock: Clock, pepper: bytes
) -> None:
    key = await key_of(db, pepper=pepper)
    found = await principals.find_cached(key.secret)
    await db.write(revoke_key, key.id, now=NOW)  # as another process does
    clock.advance(REMEMBERED_FOR - timedelta(microseconds=1))
    assert await principals.find_cached(key.secret) == found
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(KeyInvalid):
        await principals.find_cached(key.secret)


async def test_a_clock_that_is_set_back_does_not_prolong_a_principal(
    db: Database, principals: Principals, clock: Clock
) -> None:
    key = await key_of(db)
    await principals.find_cached(key.secret)
    await db.write(revoke_key, key.id, now=NOW)
    clock.advance(-timedelta(hours=1))
    with pytest.raises(KeyInvalid):
        await principals.find_cached(key.secret)


async def test_find_always_reads_and_recall_uses_its_result(
    db: Database, principals: Principals
) -> None:
    key = await key_of(db)
    await principals.find_cached(key.secret)
    await db.write(revoke_key, key.id, now=NOW)
    for look in (principals.find, principals.find_cached):
        with pytest.raises(KeyInvalid):
            await look(key.secret)


async def test_revoke_forgets_the_principal(db: Database, principals: Principals) -> None:
    key, other = await key_of(db), await key_of(db, "other")
    found = await principals.find_cached(other.secret)
    await principals.find_cached(key.secret)
    assert await principals.revoke(key.id)
    assert not await principals.revoke(key.id)
    with pytest.raises(KeyInvalid):
        await principals.find_cached(key.secret)
    assert await principals.find_cached(other.secret) == found


async def test_a_lookup_before_the_revocation_is_not_remembered(db: Database, clock: Clock) -> None:
    key = await key_of(db)
    late = LateReads(db)
    principals = Principals(late, [PEPPER], clock)  # type: ignore[arg-type]
    looking = asyncio.create_task(principals.find_cached(key.secret))
    await late.is_read.wait()
    await principals.revoke(key.id)
    late.gate.set()
    assert (await looking).key_id == key.id  # it was valid when the request came
    with pytest.raises(KeyInvalid):
        await principals.find_cached(key.secret)


@pytest.mark.parametrize("secret", ["", "noise", mint_key()], ids=["empty", "noise", "minted"])
async def test_no_other_text_is_a_key(principals: Principals, secret: str) -> None:
    for look in (principals.find, principals.find_cached):
        with pytest.raises(KeyInvalid):
            await look(secret)


async def test_use_is_stored_once_an_interval(db: Database, clock: Clock) -> None:
    key = await key_of(db)
    touches = DatabaseFault("touch", when="never", times=1000)
    principals = Principals(UnreliableDatabase(db, [touches]), [PEPPER], clock)
    for _ in range(3):
        await asyncio.gather(*(principals.find(key.secret) for _ in range(10)))
        assert [one.last_used_at for one in await db.read(list_keys)] == [clock.now]
        clock.advance(TOUCH_INTERVAL)
    assert touches.times == 1000 - 3


async def test_use_that_was_not_stored_is_stored_by_the_next_request(
    db: Database, clock: Clock
) -> None:
    key = await key_of(db)
    principals = Principals(
        UnreliableDatabase(db, [DatabaseFault("touch", error=DatabaseUnavailable())]),
        [PEPPER],
        clock,
    )
    for stored in (None, NOW):
        assert (await principals.find(key.secret)).key_id == key.id
        assert [one.last_used_at for one in await db.read(list_keys)] == [stored]


async def test_check_key_refuses_expired_and_revoked_keys(
    db: Database, principals: Principals
) -> None:
    key = await key_of(db, expires_at=NOW + timedelta(seconds=10))
    principal = await principals.find(key.secret)
    await db.read(check_key, principal, now=NOW + timedelta(seconds=9))
    with pytest.raises(KeyInvalid):
        await db.read(check_key, principal, now=NOW + timedelta(seconds=10))
    await db.write(revoke_key, key.id, now=NOW)
    with pytest.raises(KeyInvalid):
        await db.read(check_key, principal, now=NOW)
