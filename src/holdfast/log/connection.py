"""Connections to the file of the log."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast import database
from holdfast.database import Durability, Format
from holdfast.errors import LogError, PrivacyError

LOG = Format("log", 0x484F4C44, "holdfast.log", LogError)


def open_writer(path: Path, durability: Durability) -> sqlite3.Connection:
    """Open the log to write to (see `database.open_writer`). Raises LogError."""
    return database.open_writer(path, LOG, durability)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the log to read from (see `database.open_reader`). Raises LogError."""
    return database.open_reader(path, LOG)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn every error of the database, of the file system and of what seals into LogError."""
    try:
        with database.translated(path, LOG):
            yield
    except PrivacyError as error:
        raise LogError(error.message) from error
