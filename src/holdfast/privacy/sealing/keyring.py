"""The keyring: a data key for each owner, wrapped by the master key, in a file of its own.

Who destroys a key destroys all that was ever sealed with it, wherever that is.
"""

import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.clock import Clock
from holdfast.errors import PrivacyError
from holdfast.privacy.sealing.ciphers import NONCE_BYTES, TAG_BYTES, Altered, cipher, decrypt, encrypt
from holdfast.privacy.sealing.connection import Connection
from holdfast.privacy.sealing.erasures import Erasures
from holdfast.privacy.sealing.master import KEY_BYTES, MasterKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MOST_AT_HAND = 10_000
_WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_ZEROS = bytes(_WRAPPED_BYTES)


class DataKey(NamedTuple):
    """The key of an owner that seals now. No two keys of a keyring have the same number."""

    number: int
    cipher: "AESGCM"


class Keyring:
    """The keyring in the file `path`. Its methods block, and may be called from any thread and by any process at once.

    Without a master key it makes and opens no keys, but knows of erasures.

    Raises:
        PrivacyError: the file can't be used, or its keys are wrapped by another master key.
    """

    def __init__(self, path: Path, master: MasterKey | None, clock: Clock, *, read_only: bool = False) -> None:
        self.path = path
        self._now = clock.now
        self._master = master
        self._current: dict[str, DataKey] = {}
        self._opened: dict[tuple[str, int], AESGCM] = {}
        self._destroyed = 0
        self._seen = -1
        self._file = Connection(path, read_only=read_only)
        self.erasures = Erasures(self._file, self._destroy, self.now_us)
        """The record of erasures."""
        try:
            self._meet_master()
            self.erasures.catch_up()
            self.refresh()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._forget()
        self._file.close()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def at_hand(self, owner: str) -> DataKey | None:
        """Return the key of an owner if it is in memory."""
        return self._current.get(owner)

    def key(self, owners: Iterable[str]) -> Mapping[str, DataKey]:
        """Return the keys of these owners, made where there are none. They are durable when this returns.

        Whoever makes the key of one owner at once, in whatever process, gets the same.

        Raises:
            PrivacyError: there is no master key, it is not that of the file, or the file can't be used.
        """
        wanted = set(owners)
        with self._file.reading() as db:
            self.refresh()
            found = {owner: key for owner in wanted if (key := self._current.get(owner)) is not None}
            found |= self._found(db, wanted - found.keys())
            if missing := wanted - found.keys():
                with self._file.writing():
                    self._check_master(db)
                    found |= self._found(db, missing)  # another process may have been first
                    made = {owner: self._made(db, owner) for owner in sorted(missing - found.keys())}
                found |= made
            self._keep(found)
        return found

    def holds(self, owner: str) -> bool:
        """Whether an owner has a key. Raises PrivacyError if the file can't be used."""
        with self._file.reading() as db:
            row = db.execute(_NEWEST, (owner,)).fetchone()
        return row is not None and row[1] != _ZEROS

    def open(self, owner: str, number: int) -> "AESGCM | None":
        """Return a key of an owner; None once it is destroyed.

        Raises:
            PrivacyError: the owner has no such key; or as `key`.
        """
        self.refresh()
        if self.erasures.to_come(owner):
            return None
        if (known := self._opened.get((owner, number))) is not None:
            return known
        with self._file.reading() as db:
            wrapped = self._wrapped(db, owner, number)
            if wrapped == _ZEROS:
                return None
            if len(self._opened) >= MOST_AT_HAND:
                self._opened.clear()
            opened = self._opened[owner, number] = self._unwrapped(number, owner, wrapped)
        return opened

    def destroy(self, owner: str) -> int:
        """Destroy the key of an owner, and return its number, 0 where there is none. No trace stays in the files.

        Raises:
            PrivacyError: the file can't be used, or a reader held on to it: the key is destroyed, but call `scrub`.
        """
        with self._file.writing() as db:
            number = self._destroy(db, owner, self.now_us())
        self.scrub()
        return number

    def scrub(self) -> None:
        """Leave no trace of destroyed keys in the files.

        Raises:
            PrivacyError: a reader held on to them all the time: try again.
        """
        self._file.scrub()

    def rewrap(self, new: MasterKey) -> int:
        """Wrap all keys by another master key, all or none, and return how many. No trace of the old ones stays.

        Every other process must be given the new master key then: it makes and opens no key with the old one.

        Raises:
            PrivacyError: as `key`; a key is damaged: all stay as they were.
        """
        count, last = 0, 0
        wrap = cipher(new.derive("wrap"))
        with self._file.writing() as db:
            self._check_master(db)
            while some := db.execute(_SOME, (last, _ZEROS)).fetchall():
                for number, owner, wrapped in some:
                    again = encrypt(wrap, self._plain(number, owner, wrapped), _bound(number, owner))
                    db.execute("UPDATE keys SET wrapped = ? WHERE number = ?", (again, number))
                count, last = count + len(some), some[-1][0]
            db.execute("UPDATE master SET fingerprint = ?", (new.fingerprint,))
        self._master = new
        self.scrub()
        return count

    def refresh(self) -> None:
        """Take note of what other processes did: drop the keys in memory where one was destroyed. Takes microseconds.

        Raises:
            PrivacyError: the file can't be used.
        """
        if (version := self._file.version()) != self._seen:
            self._take_note()
            self._seen = version

    # --- erasures -----------------------------------------------------------------------------------------------------

    def erased_at(self, subject: str) -> int | None:
        """Return when a subject (its keyed hash) was erased last, in microseconds since 1970 UTC, None if never.

        It knows of every erasure in any process that began before. `erasures.at` knows those of the last `refresh`,
        and never blocks.

        Raises:
            PrivacyError: the file can't be used.
        """
        self.refresh()
        return self.erasures.at(subject)

    @property
    def fingerprint(self) -> str | None:
        """That of the master key that wraps the keys; None where there has never been one."""
        with self._file.reading() as db:
            row = db.execute("SELECT fingerprint FROM master").fetchone()
        return None if row is None else str(row[0])

    @property
    def count(self) -> int:
        """How many keys it holds that are not destroyed."""
        with self._file.reading() as db:
            count: int = db.execute("SELECT count(*) FROM keys WHERE wrapped != ?", (_ZEROS,)).fetchone()[0]
        return count

    @property
    def in_use(self) -> bool:
        """Whether it has ever held a key."""
        with self._file.reading() as db:
            return db.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None

    def __repr__(self) -> str:
        return f"Keyring({str(self.path)!r})"

    # --- within -------------------------------------------------------------------------------------------------------

    def _take_note(self) -> None:
        with self._file.reading() as db:
            destroyed = db.execute("SELECT coalesce(max(n), 0) FROM destroyed").fetchone()[0]
            if destroyed != self._destroyed:
                self._forget()
                self._destroyed = destroyed
            self.erasures.take_note()

    def _destroy(self, db: sqlite3.Connection, owner: str, at_us: int) -> int:
        """Overwrite the key of an owner in its place, within a transaction. Return its number, 0 where none is."""
        self._forget()  # threads that need a key wait for the end of the transaction
        row = db.execute(_NEWEST, (owner,)).fetchone()
        if row is None or row[1] == _ZEROS:
            return 0
        number: int = row[0]
        db.execute("UPDATE keys SET wrapped = ? WHERE number = ?", (_ZEROS, number))
        db.execute("INSERT INTO destroyed (number, at_us) VALUES (?, ?)", (number, at_us))
        return number

    def _forget(self) -> None:
        self._current.clear()
        self._opened.clear()

    def _keep(self, keys: Mapping[str, DataKey]) -> None:
        if len(self._current) + len(keys) > MOST_AT_HAND:
            self._current.clear()
        self._current.update(keys)

    def _found(self, db: sqlite3.Connection, owners: Iterable[str]) -> dict[str, DataKey]:
        found = {}
        for owner in owners:
            row = db.execute(_NEWEST, (owner,)).fetchone()
            if row is not None and row[1] != _ZEROS:
                found[owner] = DataKey(row[0], self._unwrapped(row[0], owner, row[1]))
        return found

    def _wrapped(self, db: sqlite3.Connection, owner: str, number: int) -> bytes:
        row = None
        if number < 2**63:
            row = db.execute("SELECT wrapped FROM keys WHERE number = ? AND owner = ?", (number, owner)).fetchone()
        if row is None:
            raise PrivacyError(
                f"{self.path}: there is no key {number} of this owner. Either what is to be opened was altered, or "
                "the keyring was replaced by an older one."
            )
        wrapped: bytes = row[0]
        return wrapped

    def _made(self, db: sqlite3.Connection, owner: str) -> DataKey:
        number: int = db.execute("SELECT coalesce(max(number), 0) + 1 FROM keys").fetchone()[0]
        key = os.urandom(KEY_BYTES)
        wrapped = encrypt(self._wrap, key, _bound(number, owner))
        db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (number, owner, self.now_us(), wrapped))
        return DataKey(number, cipher(key))

    def _unwrapped(self, number: int, owner: str, wrapped: bytes) -> "AESGCM":
        return cipher(self._plain(number, owner, wrapped))

    def _plain(self, number: int, owner: str, wrapped: bytes) -> bytes:
        try:
            return decrypt(self._wrap, wrapped, _bound(number, owner))
        except Altered:
            with self._file.reading() as db:
                self._check_master(db)
            raise Altered(f"{self.path}: key {number} has been altered: restore the file from its backup.") from None

    @property
    def _wrap(self) -> "AESGCM":
        if self._master is None:
            raise PrivacyError(f"{self.path}: no key can be made or opened without the master key.")
        return cipher(self._master.derive("wrap"))

    def _meet_master(self) -> None:
        """Refuse another master key than the one of the file. The first one is that of the file."""
        if self._master is None:
            return
        with self._file.reading() as db:
            first = db.execute("SELECT 1 FROM master").fetchone() is None
            if first and not self._file.read_only:
                with self._file.writing():
                    db.execute("INSERT OR IGNORE INTO master VALUES (1, ?)", (self._master.fingerprint,))
            self._check_master(db)

    def _check_master(self, db: sqlite3.Connection) -> None:
        row = db.execute("SELECT fingerprint FROM master").fetchone()
        if self._master is not None and row is not None and row[0] != self._master.fingerprint:
            raise PrivacyError(
                f"{self.path}: the keys are wrapped by the master key with the fingerprint {row[0]}, and not by this "
                f"one ({self._master.fingerprint}): give the right one in [privacy] master_key. If it is lost, so is "
                "what is sealed; move the file away to begin anew."
            )

    def now_us(self) -> int:
        """Return the time in microseconds since 1970 UTC."""
        return round(self._now() * 1e6)


def _bound(number: int, owner: str) -> bytes:
    return b"key %d %b" % (number, owner.encode())


_NEWEST = "SELECT number, wrapped FROM keys WHERE owner = ? ORDER BY number DESC LIMIT 1"
_SOME = "SELECT number, owner, wrapped FROM keys WHERE number > ? AND wrapped != ? ORDER BY number LIMIT 1000"
