"""SQLite files of our own: made, recognised, migrated, opened; their errors translated.

Each kind of file is a `Format`. Whoever keeps one names it, and gives the folder of its migrations.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from holdfast.errors import StoreError

T = TypeVar("T")
Durability = Literal["sync", "async"]

BUSY_MS = 2_000
"""How long to wait for another process that is writing."""
_OPEN_SECONDS = 15.0
_PAGE_BYTES = 4_096
_CHECKPOINT_PAGES = 1_000
"""4 MB: a checkpoint takes some milliseconds, in which the event loop may have to share the processor with it."""
_JOURNAL_BYTES = 64 * 2**20
_SYNCHRONOUS = {"sync": "FULL", "async": "NORMAL"}

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full: make room on it",
    sqlite3.SQLITE_BUSY: "another process holds it locked: end that process",
    sqlite3.SQLITE_LOCKED: "another process holds it locked: end that process",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup, or move it away to begin a new one",
    sqlite3.SQLITE_NOTADB: "the file is not a database: choose another path, or move the file away",
    sqlite3.SQLITE_READONLY: "the file or its directory can't be written to: check who owns them",
    sqlite3.SQLITE_PERM: "access is denied: check who owns the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened: check that it exists and who owns it",
    sqlite3.SQLITE_IOERR: "the disk failed: check it",
}


class Format(NamedTuple):
    """A kind of database file."""

    name: str
    """What messages call it: "log"."""
    application_id: int
    """Marks a file as one of this kind."""
    package: str
    """Whose folder `migrations` holds the scripts that make it: `0001_first.sql` and so on."""
    error: type[StoreError]
    """What is raised when it can't be used."""

    @property
    def newest(self) -> int:
        """The number of the last migration, which is what this version reads and writes."""
        return max(_migrations(self.package))


@contextmanager
def translated(path: Path, format: Format) -> Iterator[None]:
    """Turn every error of the database and of the file system into that of its format."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise format.error(f"{path}: {_REASONS.get(code, 'the database failed')} ({error}).") from error
    except OSError as error:
        raise format.error(f"{path}: {error.strerror or error}.") from error


def open_writer(path: Path, format: Format, durability: Durability) -> sqlite3.Connection:
    """Open a file to write to, made or migrated where needed. Several processes may do so at once.

    What is deleted is overwritten. With "async" a commit outlives the process, but not a power failure.

    Raises:
        StoreError: that of the format. The file is none of it, is damaged, is newer than this version, or can't be
            opened. It is unchanged.
    """
    with translated(path, format):
        _create(path)
        db = _connect(path, "rw")
        try:
            _patiently(lambda: _prepare(db, path, format))
            db.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
            db.execute("PRAGMA secure_delete = ON")
        except BaseException:
            db.close()
            raise
    return db


def open_reader(path: Path, format: Format) -> sqlite3.Connection:
    """Open a file to read from. It is neither made nor changed.

    Raises:
        StoreError: that of the format. There is no file, it is none of it, or it is older or newer than this version.
    """
    if not path.exists():
        raise format.error(f"{path}: there is no {format.name} here.")
    with translated(path, format):
        db = _connect(path, "ro")
        try:
            version = _patiently(lambda: _version(db, path, format))
            if version < format.newest:
                raise format.error(
                    f"{path}: the {format.name} has format {version}, this version of Holdfast reads {format.newest}: "
                    "start the gateway once, which migrates it."
                )
        except BaseException:
            db.close()
            raise
    return db


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
    )
    db.row_factory = sqlite3.Row
    return db


def _create(path: Path) -> None:
    """Make an empty file that only its owner can read, where there is none. SQLite gives its other files its mode."""
    if not path.parent.exists():
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return  # not opened: closing it would release the locks that this process may hold on it


def _patiently(step: Callable[[], T]) -> T:
    """Repeat a step while the database is busy: not every lock of SQLite waits by itself."""
    until = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _prepare(db: sqlite3.Connection, path: Path, format: Format) -> None:
    if _version(db, path, format) == format.newest:
        return
    db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    db.execute("PRAGMA journal_mode = WAL")
    with transaction(db):
        current = _version(db, path, format)
        for number, script in _migrations(format.package).items():
            if number > current:
                for statement in _statements(script):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")
        db.execute(f"PRAGMA application_id = {format.application_id}")


@contextmanager
def transaction(db: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[None]:
    """Commit what happens within, or none of it."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection, path: Path, format: Format) -> int:
    """Return the number of the last migration that was applied, 0 for an empty file."""
    if not db.in_transaction:  # or another process could make the file while it is looked at
        with transaction(db, "DEFERRED"):
            return _version(db, path, format)
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != format.application_id and (application or version or not empty):
        raise format.error(f"{path}: the file is a database of another program: choose another path.")
    if version > format.newest:
        raise format.error(
            f"{path}: the {format.name} has format {version}, this version of Holdfast knows up to {format.newest}: "
            f"upgrade Holdfast, or choose another path to begin a new {format.name}."
        )
    return version


@cache
def _migrations(package: str) -> dict[int, str]:
    """Return the scripts by number, in their order."""
    folder = resources.files(package) / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in files}


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
