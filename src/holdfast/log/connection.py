"""Connections to the database file: opened, recognised, migrated; its errors translated."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar

from holdfast.errors import LogError

T = TypeVar("T")
Durability = Literal["sync", "async"]

APPLICATION_ID = 0x484F4C44
"""Marks the file as a log of Holdfast: "HOLD"."""
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
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup, or move it away to begin a new log",
    sqlite3.SQLITE_NOTADB: "the file is not a database: choose another path, or move the file away",
    sqlite3.SQLITE_READONLY: "the file or its directory can't be written to: check who owns them",
    sqlite3.SQLITE_PERM: "access is denied: check who owns the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened: check that it exists and who owns it",
    sqlite3.SQLITE_IOERR: "the disk failed: check it",
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn every error of the database and of the file system into LogError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise LogError(f"{path}: {_REASONS.get(code, 'the database failed')} ({error}).") from error
    except OSError as error:
        raise LogError(f"{path}: {error.strerror or error}.") from error


def open_writer(path: Path, durability: Durability) -> sqlite3.Connection:
    """Open the log to write to, made or migrated where needed. Several processes may do so at once.

    Raises:
        LogError: the file is not a log, is damaged, is newer than this version, or can't be opened. It is unchanged.
    """
    with translated(path):
        _create(path)
        db = _connect(path, "rw")
        try:
            _patiently(lambda: _prepare(db, path))
            db.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
            db.execute("PRAGMA secure_delete = ON")
        except BaseException:
            db.close()
            raise
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the log to read from. The file is neither made nor changed.

    Raises:
        LogError: there is no file, it is not a log, or it is older or newer than this version.
    """
    if not path.exists():
        raise LogError(f"{path}: there is no log here.")
    with translated(path):
        db = _connect(path, "ro")
        try:
            version = _patiently(lambda: _version(db, path))
            if version < newest():
                raise LogError(
                    f"{path}: the log has format {version}, this version of Holdfast reads {newest()}: "
                    "start the gateway once, which migrates it."
                )
        except BaseException:
            db.close()
            raise
    return db


def newest() -> int:
    """Return the number of the last migration, which is the format that this version reads and writes."""
    return max(_migrations())


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


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    if _version(db, path) == newest():
        return
    db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    db.execute("PRAGMA journal_mode = WAL")
    with transaction(db):
        current = _version(db, path)
        for number, script in _migrations().items():
            if number > current:
                for statement in _statements(script):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


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


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Return the number of the last migration that was applied, 0 for an empty file."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application or version or not empty):
        raise LogError(f"{path}: the file is a database of another program: choose another path.")
    if version > newest():
        raise LogError(
            f"{path}: the log has format {version}, this version of Holdfast knows up to {newest()}: "
            "upgrade Holdfast, or choose another path to begin a new log."
        )
    return version


@cache
def _migrations() -> dict[int, str]:
    """Return the scripts by number, in their order."""
    folder = resources.files("holdfast.log") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in files}


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
