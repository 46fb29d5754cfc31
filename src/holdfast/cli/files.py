"""Files that commands write: whole or not at all, and for nobody but who runs the command."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from holdfast.cli.state_directory import Failure
from holdfast.privacy.files import sync_directory


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file of the mode 0600 that appears under its name when all of it is on the disk.

    Until then it has the name with ".part", which a command that is killed leaves behind, and the next one writes anew.

    Raises:
        Failure: it can't be written, or another command is writing it. What was there is unchanged.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        with _locked(draft) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(draft, path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        sync_directory(path.parent)
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror or error}.") from error


@contextmanager
def _locked(draft: Path) -> Iterator[BinaryIO]:
    """Open an empty file that only its owner can read, and that nobody else writes."""
    descriptor = os.open(draft, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.path.samestat(os.fstat(file.fileno()), draft.lstat())
        except (BlockingIOError, FileNotFoundError):
            free = False
        if not free:
            raise Failure(f"{draft}: another command is writing it.")
        os.fchmod(descriptor, 0o600)
        file.truncate(0)
        yield file
