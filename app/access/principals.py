"""Finds the principal of a bearer key: in the database, or among those found recently."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.access.keys import TOUCH_INTERVAL, find_principal, revoke_key, touch
from app.access.principal import Principal
from app.db.database import Database
from app.errors import DatabaseUnavailable, KeyInvalid
from app.kit.clock import Clock
from app.kit.secrets import hash_key

REMEMBERED_FOR = timedelta(seconds=1)


class Principals:
    """The principals of one process. Only hashes of keys are stored, and only while valid."""

    def __init__(self, db: Database, peppers: Sequence[bytes], clock: Clock) -> None:
        self._db = db
        self._peppers = peppers
        self._now = clock
        self._found: dict[str, tuple[Principal, datetime]] = {}
        self._touched: dict[str, datetime] = {}
        self._revocations = 0

    async def find(self, secret: str) -> Principal:
        """Return the principal of a valid key. Raises KeyInvalid, DatabaseUnavailable."""
        now, revocations = self._now(), self._revocations
        found = await self._db.read(find_principal, secret, peppers=self._peppers, now=now)
        key_hash = self._hash(secret)
        if found is None:
            self._found.pop(key_hash, None)
            raise KeyInvalid
        principal, should_touch = found
        if revocations == self._revocations:  # else this key may be the one revoked meanwhile
            self._found[key_hash] = principal, now
        key_id = principal.key_id
        if key_id is None or not should_touch:
            return principal
        # The use of a key is stored once an interval, for any number of requests.
        last = self._touched.get(key_id)
        if last is None or now - last >= TOUCH_INTERVAL:
            self._touched[key_id] = now
            try:
                await self._db.write(touch, key_id, now=now)
            except DatabaseUnavailable:  # the key is valid; a later request stores its use
                del self._touched[key_id]
        return principal

    async def find_cached(self, secret: str) -> Principal:
        """Return the result of `find` from less than a second ago, else call `find`.

        For reads, and for writes whose transaction calls `keys.check_key`.
        """
        principal, found_at = self._found.get(self._hash(secret), (None, None))
        if principal and found_at and timedelta(0) <= self._now() - found_at < REMEMBERED_FOR:
            return principal
        return await self.find(secret)

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key permanently. Return False if no valid key has this id."""
        is_revoked = await self._db.write(revoke_key, key_id, now=self._now())
        self._revocations += 1
        self._found = {
            key_hash: (principal, found_at)
            for key_hash, (principal, found_at) in self._found.items()
            if principal.key_id != key_id
        }
        return is_revoked

    def _hash(self, secret: str) -> str:
        return hash_key(self._peppers[0], secret)
