"""What somebody who has a state directory and its master key can find in it, by whatever means."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.privacy.sealing.master import KEYRING_FILE, MASTER_FILE, MasterKey
from planted import guises, unpacked

HEADER, NONCE = 9, 12
"""Bytes of a sealed block before its nonce, and of the nonce."""


class Found(NamedTuple):
    """Where something was found: a file, and of a database the column; whether it had to be decrypted."""

    file: str
    column: str = ""
    sealed: bool = False


class Attacker:
    """Reads all files of `directory`, a gateway's or a copy. With `keys_of`, another directory's keys are used."""

    def __init__(self, directory: Path, keys_of: Path | None = None) -> None:
        self.directory = directory
        keys_of = keys_of or directory
        self._wrap = AESGCM(MasterKey.load(None, keys_of, keys_of, create=False).derive("wrap"))
        self.keys = dict(self._unwrapped(keys_of / KEYRING_FILE))
        """The data keys that can be unwrapped, by the names of their owners."""

    def find(self, planted: Mapping[str, str]) -> dict[str, set[Found]]:
        """Return where the texts were found that were planted, each by the name of its text."""
        looks = {name: _looks(text) for name, text in planted.items()}
        found: dict[str, set[Found]] = {name: set() for name in planted}
        for place, data in self._everything():
            for name, needles in looks.items():
                if any(needle in data for needle in needles):
                    found[name].add(place)
        return {name: places for name, places in found.items() if places}

    def holds(self, data: bytes) -> set[str]:
        """Return the files that hold some bytes."""
        return {name for name, content in self.files() if data in content}

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Iterate over the files and what is in them."""
        for path in sorted(self.directory.rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # it was there a moment ago
                if path.is_file():
                    yield str(path.relative_to(self.directory)), path.read_bytes()

    def sealed(self, owner: str) -> list[bytes]:
        """Return what was sealed with the key of an owner."""
        key = self.keys[owner]
        return [data for number, data in self._blocks() if _opened(key, owner, number, data) is not None]

    def columns(self) -> set[tuple[str, str, str]]:
        """Return the columns of all tables of all databases, with the file and the table."""
        return {(place.file, *place.column.split(".")) for place, _ in self._values()}  # type: ignore[misc]

    def unwrap_anywhere(self, owner: str, number: int) -> bool:
        """Whether any 60 bytes in the files of the keyring are the wrapped key of an owner."""
        bound = b"key %d %b" % (number, owner.encode())
        contents = [data for name, data in self.files() if name.startswith(KEYRING_FILE)]
        return any(
            _decrypted(self._wrap, data[at : at + 60], bound) is not None
            for data in contents
            for at in range(len(data) - 59)
            if data[at : at + 60].count(0) < 30
        )

    # --- within ---

    def _unwrapped(self, path: Path) -> Iterator[tuple[str, AESGCM]]:
        with _reading(path) as db:
            for number, owner, wrapped in db.execute("SELECT number, owner, wrapped FROM keys"):
                key = _decrypted(self._wrap, wrapped, b"key %d %b" % (number, owner.encode()))
                if key is not None:
                    yield owner, AESGCM(key)

    def _everything(self) -> Iterator[tuple[Found, bytes]]:
        """Iterate over what can be read: the files, what is packed in them, the values of tables, and what is sealed.

        The master key itself tells nothing of anybody.
        """
        for name, content in self.files():
            if name != MASTER_FILE:
                yield Found(name), unpacked(content)
        for place, values in self._values():
            yield place, b"\0".join(map(unpacked, values))
        for number, data in self._blocks():
            for owner, key in self.keys.items():
                if (opened := _opened(key, owner, number, data)) is not None:
                    yield Found("log.db", "body_blocks.data", sealed=True), unpacked(opened)

    def _blocks(self) -> list[tuple[int, bytes]]:
        with _reading(self.directory / "log.db") as db:
            return db.execute("SELECT number, data FROM body_blocks").fetchall()

    def _values(self) -> Iterator[tuple[Found, list[bytes]]]:
        """Iterate over the columns of all tables of all databases."""
        for path in sorted(self.directory.glob("*.db")):
            with _reading(path) as db:
                for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                    cursor = db.execute(f'SELECT * FROM "{table}"')
                    names = [column[0] for column in cursor.description]
                    rows = cursor.fetchall()
                    for at, name in enumerate(names):
                        yield Found(path.name, f"{table}.{name}"), [_bytes(row[at]) for row in rows]


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        yield db


def _looks(text: str) -> set[bytes]:
    more = (text.encode(code) for code in ("utf-16-be", "utf-32-le", "utf-32-be", "cp500"))
    turned = {text.upper().encode(), text.lower().encode(), text.title().encode()}
    return {*guises(text), *more, *turned}


def _opened(key: AESGCM, owner: str, number: int, data: bytes) -> bytes | None:
    """Return what is in a block if it was sealed with a key."""
    header, name = data[:HEADER], owner.encode()
    bound = b"%b%d:%blog/body_blocks/%d" % (header, len(name), name, number)
    return _decrypted(key, data[HEADER:], bound)


def _decrypted(key: AESGCM, data: bytes, bound: bytes) -> bytes | None:
    try:
        return key.decrypt(data[:NONCE], data[NONCE:], bound)
    except (InvalidTag, ValueError):
        return None
