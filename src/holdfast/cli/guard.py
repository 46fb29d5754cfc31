"""`holdfast guard`: what may not pass."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from holdfast.guards.injection.corpus import Row, Source

_FILES = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def command() -> None:
    """Train what tells what may not pass."""


@command.command()
@click.option("--labelled", multiple=True, type=_FILES, help='Requests: "label" 1 is an attack, 0 is harmless.')
@click.option("--planted", multiple=True, type=_FILES, help="Requests that attack only from within a text to be read.")
@click.option("--passages", multiple=True, type=_FILES, help="Texts to be read that ask for nothing.")
@click.option("--seed", default=1, show_default=True, help="The same files and seed give the same model.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where the model goes.")
def train(
    labelled: tuple[Path, ...], planted: tuple[Path, ...], passages: tuple[Path, ...], seed: int, out: Path
) -> None:
    """Train the classifier of the injection guard from files of JSON lines, gzipped or not.

    A line has "text" (or "context"), and may have the "family" of an attack and the "language". A corpus of patterns is
    always part of it. The model holds a report of its training: what it flags of harmless texts that it was not trained
    on, and what it finds of attacks in files, by family: of those that it was trained on others of, and left out.
    """
    from holdfast.guards.injection.train import read
    from holdfast.guards.injection.train import train as fit

    given: tuple[tuple[tuple[Path, ...], Source | None], ...] = (
        (labelled, None),
        (planted, "planted"),
        (passages, "passage"),
    )
    try:
        rows: list[Row] = [row for paths, source in given for path in paths for row in read(path, source)]
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    model = fit(rows, seed, lambda line: click.echo(line, err=True))
    out.write_bytes(model.encode())
    click.echo(f"{out}: {out.stat().st_size:,} bytes, trained on {len(rows):,} rows of files")
