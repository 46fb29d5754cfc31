"""--output of commands: what is there already is replaced only where --force says so."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from holdfast.cli.state_directory import Failure

force_option = click.option("--force", is_flag=True, help="Replace the file of --output, if there is one.")


def refuse_existing(path: Path | None, *, force: bool) -> None:
    """Raise Failure if there is something at a path that a command is about to write, unless `force` says so."""
    if path is not None and not force and os.path.lexists(path):
        raise Failure(f"{path} exists already: name another file, or replace it with --force.")


@contextmanager
def creating(path: Path) -> Iterator[Callable[[str], None]]:
    """Make a file of the mode 0600, and give what writes a text into it. It is gone again if that is not called.

    Raises:
        Failure: there is something of that name already, or it can't be written.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Failure(f"{path} exists already: name another file.") from error
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror or error}.") from error
    written = False

    def write(text: str) -> None:
        nonlocal written
        written = True
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        except OSError as error:
            raise Failure(f"{path} can't be written: {error.strerror or error}.") from error

    try:
        yield write
    finally:
        os.close(descriptor)
        if not written:
            path.unlink(missing_ok=True)
