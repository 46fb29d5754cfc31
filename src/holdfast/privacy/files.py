"""Files that are made once, whoever comes first, and that only their owner can read."""

import os
from pathlib import Path
from typing import IO


def create_once(path: Path, content: bytes) -> None:
    """Make a file, durably, unless there is one. Safe when several processes do so at once: all find the same file.

    Raises:
        OSError: it can't be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # whole, or not at all
    except FileExistsError:
        return  # another process was first
    finally:
        draft.unlink()
    sync_directory(path.parent)


def write_durably(file: IO[bytes], data: bytes) -> None:
    """Write all of it to an unbuffered file, and to the disk. Raises OSError."""
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
