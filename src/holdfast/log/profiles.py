"""The profiles of calls: what many calls have in common is stored once, and each call holds its number."""

import sqlite3

from holdfast.log.rows import PROFILE, Row

_LIMIT = 10_000
_FIND = f"SELECT number FROM profiles WHERE {' AND '.join(f'{column} IS ?' for column in PROFILE)}"  # noqa: S608 names
_ADD = (
    f"INSERT INTO profiles ({', '.join(PROFILE)}) VALUES ({', '.join('?' * len(PROFILE))})"  # noqa: S608 names
    " RETURNING number"
)


class Profiles:
    """The numbers of profiles, remembered, so that the database is asked once for each. Not safe for threads."""

    def __init__(self) -> None:
        self._numbers: dict[Row, int] = {}

    def number(self, db: sqlite3.Connection, profile: Row) -> int:
        """Return the number of a profile, added where it is new. Only within a transaction that writes."""
        number = self._numbers.get(profile)
        if number is None:
            if len(self._numbers) >= _LIMIT:
                self.forget()
            number = self._numbers[profile] = _stored(db, profile)
        return number

    def forget(self) -> None:
        """Forget all numbers: those of a transaction that is rolled back are void."""
        self._numbers.clear()


def _stored(db: sqlite3.Connection, profile: Row) -> int:
    found = db.execute(_FIND, profile).fetchone() or db.execute(_ADD, profile).fetchone()
    return int(found[0])
