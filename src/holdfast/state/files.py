"""The file of the state: what is kept in place and has to last, shared by every process of an installation."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

from holdfast.database import Format, open_reader, open_writer, transaction, translated
from holdfast.errors import StateError

STATE_FILE = "state.db"
STATE = Format("state", 0x484F4C53, "holdfast.state", StateError)


class StateFile:
    """A connection to the state. Threads take turns, and other processes may write at the same time.

    Raises:
        StateError: from every method. The file can't be used; nothing was changed.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._db = open_reader(path, STATE) if read_only else open_writer(path, STATE, "sync")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See one state of the file within."""
        with self._turn, translated(self._path, STATE), transaction(self._db, "DEFERRED"):
            yield self._db

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Change keys, accounts or sessions within: durably and whole, or not at all. The version grows."""
        with self._turn, translated(self._path, STATE), transaction(self._db):
            yield self._db
            self._db.execute("UPDATE meta SET value = value + 1 WHERE name = 'version'")

    def version(self) -> int:
        """Return what grows with every change of a key, an account or a session; 0 while there never was one."""
        with self.reading() as db:
            version: int = db.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()[0]
        return version

    def close(self) -> None:
        """Close the connection. It may be closed twice."""
        with self._turn:
            self._db.close()
