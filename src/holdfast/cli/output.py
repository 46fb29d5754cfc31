"""--output of commands: what is there already is replaced only where --force says so."""

import os
from pathlib import Path

import click

from holdfast.cli.state_directory import Failure

force_option = click.option("--force", is_flag=True, help="Replace the file of --output, if there is one.")


def refuse_existing(path: Path | None, *, force: bool) -> None:
    """Raise Failure if there is something at a path that a command is about to write, unless `force` says so."""
    if path is not None and not force and os.path.lexists(path):
        raise Failure(f"{path} exists already: name another file, or replace it with --force.")
