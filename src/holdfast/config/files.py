"""The files that a configuration consists of, as they are on disk."""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.config.types import relative
from holdfast.contracts.load import files_in

LARGEST: Final = 4 * 2**20
"""Bytes that a file may have: it goes into the log, and people review it."""
ABSENT: Final = "there is no such file"


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """The texts of files, and why others can't be read, by name. Equal as long as nothing changed on disk."""

    path: Path
    texts: Mapping[str, str]
    """`holdfast.toml` first."""
    failures: Mapping[str, str] = {}
    secrets: Mapping[str, str] = {}
    """Digests of the files that hold secrets."""

    @property
    def base(self) -> Path:
        """The folder that names are relative to."""
        return self.path.parent

    @property
    def paths(self) -> set[Path]:
        """Every file that matters, also those that are missing."""
        return {self.base / name for name in (*self.texts, *self.failures, *self.secrets)}

    def failure(self, file: str, *, empty: bool = True) -> str | None:
        """Return why a file can't be used, None if it can; `empty` says whether it may be empty."""
        name = relative(file, self.base)
        if name not in self.texts:
            return self.failures.get(name, ABSENT)
        return None if empty or self.texts[name].strip() else "the file is empty"


def read(path: Path) -> Sources:
    """Read `holdfast.toml` and all that it names. Whatever can't be read is among the `failures`."""
    texts: dict[str, str] = {}
    failures: dict[str, str] = {}

    def take(name: str) -> None:
        try:
            texts[name] = _text(path.parent / name)
        except ValueError as error:
            failures[name] = str(error)

    take(path.name)
    doc = _document(texts.get(path.name, ""))
    for name in sorted({relative(file, path.parent) for file in _texts_of_features(doc)} - {path.name}):
        take(name)
    for contract in sorted({relative(file, path.parent) for file in _contracts(doc)}):
        for name in sorted({relative(file, path.parent) for file in files_in(contract, texts.get(contract, ""))}):
            if name not in texts and name not in failures:
                take(name)
    secrets = {file: _digest(path.parent / file) for file in sorted(set(_secret_files(doc)))}
    return Sources(path=path, texts=texts, failures=failures, secrets=secrets)


def _text(path: Path) -> str:
    """Return the text of a file, raise ValueError with what is wrong with it."""
    try:
        if not path.exists():
            raise ValueError(ABSENT)
        if not path.is_file():
            raise ValueError("not a file")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error


def _digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes() if path.is_file() else b"").hexdigest()
    except (OSError, ValueError):
        return ""


def _document(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def _texts_of_features(doc: dict[str, Any]) -> Iterator[str]:
    """Find the prompts, the contracts, the examples, and the files that are last resorts."""
    yield from _contracts(doc)
    for feature in _items(doc, "features"):
        resort, examples = feature.get("last_resort"), feature.get("examples")
        for file in (feature.get("prompt"), examples, _file(resort), _file(examples)):
            if isinstance(file, str):
                yield file


def _contracts(doc: dict[str, Any]) -> Iterator[str]:
    """Find the contracts that are files."""
    for feature in _items(doc, "features"):
        contract = feature.get("contract")
        if isinstance(contract, str) and contract.lower().endswith((".json", ".toml", ".lark")):
            yield contract


def _file(table: object) -> object:
    return table.get("file") if isinstance(table, dict) else None


def _items(doc: dict[str, Any], key: str) -> list[dict[str, Any]]:
    table = doc.get(key)
    return [item for item in table.values() if isinstance(item, dict)] if isinstance(table, dict) else []


def _secret_files(doc: dict[str, Any]) -> Iterator[str]:
    """Find every `{ file = "..." }`, however deep, but in features: those have no secrets."""
    tables: list[Any] = [table for key, table in doc.items() if key != "features"]
    while tables:
        table = tables.pop()
        if isinstance(table, dict):
            if table.keys() == {"file"} and isinstance(table["file"], str):
                yield table["file"]
            tables += table.values()
