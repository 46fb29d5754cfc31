"""The connection of a process to the file of the keyring."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from holdfast.database import Format, open_reader, open_writer, transaction, translated
from holdfast.errors import PrivacyError

KEYRING = Format("keyring", 0x484F4C4B, "holdfast.privacy", PrivacyError)
_SCRUB_TRIES = 3
"""Each waits for readers as long as the database is patient."""


class Connection:
    """One connection for all threads of a process, and one thread at a time. Every commit outlives a power failure.

    Raises:
        PrivacyError: the file is no keyring, is damaged or newer than this version, or can't be opened.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._lock = threading.RLock()
        self._db = open_reader(path, KEYRING) if read_only else open_writer(path, KEYRING, "sync")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Keep the other threads out, and translate errors to PrivacyError."""
        with self._lock, self._translated():
            yield self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Commit what happens within, durably, or none of it. No other process writes meanwhile."""
        if self.read_only:
            raise PrivacyError(f"{self.path}: the keyring is open for reading alone.")
        with self._lock, self._translated(), transaction(self._db):
            yield self._db

    def version(self) -> int:
        """Return a number that changes whenever another connection has written."""
        try:
            with self._lock:
                version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            with self.reading() as db:  # which tells what is wrong
                version = db.execute("PRAGMA data_version").fetchone()[0]
        return version

    def scrub(self) -> None:
        """Leave nothing in the write-ahead log. What was overwritten is in no file then.

        Raises:
            PrivacyError: a reader held on to it all the time.
        """
        with self.reading() as db:
            for _ in range(_SCRUB_TRIES):
                if not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    return
        raise PrivacyError(f"{self.path}: a reader still holds a copy of what was destroyed: end it, and try again.")

    def close(self) -> None:
        with self.reading() as db:
            db.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self.path, KEYRING):
            try:
                yield
            except sqlite3.ProgrammingError as error:
                raise PrivacyError(f"{self.path}: the keyring is closed.") from error
            except UnicodeEncodeError:
                raise PrivacyError(f"{self.path}: an owner's name is not valid Unicode.") from None


def needs_master(path: Path) -> bool:
    """Whether the keyring in a file was ever used with a master key. What can't be told counts as yes."""
    if not path.exists():
        return False
    try:
        with closing(Connection(path, read_only=True)) as connection, connection.reading() as db:
            return db.execute("SELECT 1 FROM master").fetchone() is not None
    except PrivacyError:
        return True
