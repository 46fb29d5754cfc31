"""Which erasures there were, in a file beside the keyring: so that an older keyring put back learns of them again.

One JSON object a line. It holds keyed hashes and times.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast.errors import PrivacyError
from holdfast.privacy.files import sync_directory, write_durably

JOURNAL_FILE = "erasures.jsonl"


class Entry(NamedTuple):
    """An erasure that was asked for: of a subject (its keyed hash), at a time (microseconds since 1970 UTC)."""

    subject: str
    at_us: int


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    subject: str
    at_us: int


def append(path: Path, entry: Entry) -> None:
    """Record an erasure durably. Raises PrivacyError."""
    line = msgspec.json.encode(_Line(*entry)) + b"\n"
    try:
        with open(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            write_durably(file, b"\n" + line if cut else line)
        if not size:
            sync_directory(path.parent)
    except OSError as error:
        raise PrivacyError(f"{path}: the erasure can't be recorded: {error.strerror or error}.") from error


def entries(path: Path) -> Iterator[Entry]:
    """Iterate over the erasures. A line that a crash cut off was never acted on.

    Raises:
        PrivacyError: the file can't be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return
    except OSError as error:
        raise PrivacyError(f"{path}: the erasures can't be read: {error.strerror or error}.") from error
    for line in lines:
        try:
            found = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError:
            continue
        yield Entry(found.subject, found.at_us)
