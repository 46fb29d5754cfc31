"""Connections to the file of the log."""

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from holdfast import database
from holdfast.database import Durability, Format
from holdfast.errors import LogError

LOG = Format("log", 0x484F4C44, "holdfast.log", LogError)


def open_writer(path: Path, durability: Durability) -> sqlite3.Connection:
    """Open the log to write to (see `database.open_writer`). Raises LogError."""
    return database.open_writer(path, LOG, durability)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the log to read from (see `database.open_reader`). Raises LogError."""
    return database.open_reader(path, LOG)


def translated(path: Path) -> AbstractContextManager[None]:
    """Turn every error of the database and of the file system into LogError."""
    return database.translated(path, LOG)
