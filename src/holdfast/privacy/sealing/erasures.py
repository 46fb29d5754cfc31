"""The record of erasures in the keyring: how far each has come, and what it found."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence

import msgspec

from holdfast.privacy.sealing import journal
from holdfast.privacy.sealing.connection import Connection

IN_MEMORY = "replay"
"""What certificates call the answers that workers keep in memory."""

Destroy = Callable[[sqlite3.Connection, str, int], int]
"""Destroys the key of an owner within a transaction, at a time, and returns its number, 0 where there is none."""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One erasure of one subject (its keyed hash). Times are microseconds since 1970 UTC."""

    n: int
    subject: str
    at_us: int
    """Calls that arrived until then are gone, also those that were under way."""
    key: int | None
    """The number of the key that was destroyed, if there was one."""
    scrubbed_us: int | None
    """When no trace of the key was left in the keyring."""
    done_us: int | None
    found: Mapping[str, int]
    """How much each store had."""
    interrupted: Sequence[str]
    """Stores of which that is only what the last of several tries still found."""
    reached: frozenset[str]
    """The stores in which nothing is left."""


class Erasures:
    """The erasures of a keyring. Its methods block, and raise PrivacyError when the file can't be used."""

    def __init__(self, file: Connection, destroy: Destroy, now_us: Callable[[], int]) -> None:
        self._file = file
        self._destroy = destroy
        self._now_us = now_us
        self._journal = file.path.with_name(journal.JOURNAL_FILE)
        self._at: dict[str, int] = {}
        self._to_come: frozenset[str] = frozenset()
        """Subjects whose keys are here still, though they were erased: who opens the keyring to write destroys them."""
        self.last = 0
        """The number of the newest one that is known of."""

    def at(self, subject: str) -> int | None:
        """Return when a subject was erased last, as far as is known of: see `Keyring.refresh`. Does not block."""
        return self._at.get(subject)

    def take_note(self) -> None:
        """Learn of what other processes began."""
        with self._file.reading() as db:
            new = db.execute("SELECT n, subject, at_us FROM erasures WHERE n > ? ORDER BY n", (self.last,)).fetchall()
        for n, subject, at_us in new:
            self._at[subject] = max(at_us, self._at.get(subject, 0))
            self.last = n

    def catch_up(self) -> None:
        """Begin again what the keyring does not know of, but its journal does: the keyring is an older copy.

        One that is open for reading alone takes note of it.
        """
        asked = dict.fromkeys(journal.entries(self._journal))
        with self._file.reading() as db:
            known = {journal.Entry(*row) for row in db.execute("SELECT subject, at_us FROM erasures")}
            unknown = [entry for entry in asked if entry not in known]
            if self._file.read_only:
                self._at |= {entry.subject: entry.at_us for entry in sorted(unknown, key=lambda entry: entry.at_us)}
                self._to_come = frozenset(entry.subject for entry in unknown)
            elif unknown:
                with self._file.writing():
                    for entry in unknown:
                        self._begin(db, entry)

    def to_come(self, subject: str) -> bool:
        """Whether the keys of a subject are to be destroyed: nothing may be opened with them."""
        return subject in self._to_come

    # --- one erasure --------------------------------------------------------------------------------------------------

    def begin(self, subject: str) -> Erasure:
        """Record an erasure and destroy the key, at once; or return the one that was not finished.

        When this returns, nobody can open what was sealed for the subject. Only one process at a time may do this.
        """
        if unfinished := self._select(_PENDING_OF, (subject,)):
            return unfinished[0]
        self.take_note()
        entry = journal.Entry(subject, max(self._now_us(), self._at.get(subject, 0) + 1))  # clocks may be set back
        journal.append(self._journal, entry)
        with self._file.writing() as db:
            self._begin(db, entry)
        self.take_note()
        return self._select(_PENDING_OF, (subject,))[0]

    def scrubbed(self, n: int) -> None:
        """Record that no trace of the key is left."""
        self._update("UPDATE erasures SET scrubbed_us = ? WHERE n = ? AND scrubbed_us IS NULL", (self._now_us(), n))

    def reaching(self, n: int, store: str) -> None:
        """Record that a store is about to be erased from."""
        self._update(_REACHING, (n, store))

    def reached(self, n: int, store: str, found: int) -> None:
        """Record what was erased from a store."""
        self._update("UPDATE findings SET found = ?, done = 1 WHERE erasure = ? AND store = ?", (found, n, store))

    def confirm(self, n: int, worker: str, found: int) -> None:
        """Record that a worker has dropped what it had in memory, and how much that was."""
        self._update("INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?)", (n, worker, found, self._now_us()))

    def confirmed(self, n: int) -> frozenset[str]:
        """Return the workers that have confirmed."""
        with self._file.reading() as db:
            return frozenset(row[0] for row in db.execute("SELECT worker FROM receipts WHERE erasure = ?", (n,)))

    def done(self, n: int) -> None:
        """Record that nothing is left anywhere."""
        self._update("UPDATE erasures SET done_us = ? WHERE n = ? AND done_us IS NULL", (self._now_us(), n))

    # --- all of them --------------------------------------------------------------------------------------------------

    def pending(self) -> Sequence[Erasure]:
        """Return those that are not finished."""
        return self._select("done_us IS NULL", ())

    def unfinished(self, subject: str) -> bool:
        """Whether one of a subject is not finished."""
        return bool(self._select(_PENDING_OF, (subject,)))

    def since(self, n: int) -> Sequence[Erasure]:
        """Return those with a higher number."""
        return self._select("n > ?", (n,))

    def of(self, subject: str) -> Sequence[Erasure]:
        """Return those of a subject."""
        return self._select("subject = ?", (subject,))

    # --- within -------------------------------------------------------------------------------------------------------

    def _begin(self, db: sqlite3.Connection, entry: journal.Entry) -> None:
        if db.execute("SELECT 1 FROM erasures WHERE subject = ? AND at_us = ?", entry).fetchone():
            return  # another process was first, and there may be a new key by now
        key = self._destroy(db, entry.subject, entry.at_us) or None
        db.execute("INSERT INTO erasures (subject, at_us, key) VALUES (?, ?, ?)", (*entry, key))

    def _update(self, statement: str, values: Sequence[object]) -> None:
        with self._file.writing() as db:
            db.execute(statement, values)

    def _select(self, condition: str, values: Sequence[object]) -> Sequence[Erasure]:
        with self._file.reading() as db:
            found = db.execute(f"SELECT * FROM erasures WHERE {condition} ORDER BY n", values).fetchall()  # noqa: S608
            return tuple([_erasure(db, row) for row in found])


_PENDING_OF = "subject = ? AND done_us IS NULL"
_REACHING = """
INSERT INTO findings (erasure, store, found, tries, done) VALUES (?, ?, 0, 1, 0)
ON CONFLICT (erasure, store) DO UPDATE SET tries = tries + 1
"""


def _erasure(db: sqlite3.Connection, row: sqlite3.Row) -> Erasure:
    stores = db.execute("SELECT * FROM findings WHERE erasure = ? ORDER BY store", (row["n"],)).fetchall()
    found = {store["store"]: store["found"] for store in stores if store["done"]}
    receipts = db.execute("SELECT count(*), sum(found) FROM receipts WHERE erasure = ?", (row["n"],)).fetchone()
    if receipts[0]:
        found[IN_MEMORY] = receipts[1]
    return Erasure(
        n=row["n"],
        subject=row["subject"],
        at_us=row["at_us"],
        key=row["key"],
        scrubbed_us=row["scrubbed_us"],
        done_us=row["done_us"],
        found=found,
        interrupted=tuple(store["store"] for store in stores if store["tries"] > 1),
        reached=frozenset(store["store"] for store in stores if store["done"]),
    )
