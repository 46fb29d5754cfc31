"""`holdfast drill`: the configuration put through every fault, and what its users would have seen."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec
from rich.console import Console
from rich.text import Text as Line

from holdfast.cli.listing import console
from holdfast.cli.table import Column, Table
from holdfast.cli.timeline import printable
from holdfast.errors import ConfigError, HoldfastError

if TYPE_CHECKING:
    from holdfast.config import Configuration
    from holdfast.drill.faults import Fault
    from holdfast.drill.run import Drill, Row
    from holdfast.drill.targets import Target

FILE = Path("holdfast.toml")
INVALID = 2
INTERRUPTED = 130
COLOURS = {
    "answered": "green",
    "last_resort": "yellow",
    "error": "red",
    "cancelled": "green",
    "broken": "bold white on red",
}

Pair = Sequence["Row"]
"""The rows of one feature under one fault: not streamed and streamed, or one of them."""


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file. Default: ./holdfast.toml if there is one, else the demo.",
)
@click.option("--feature", "features", multiple=True, metavar="NAME", help="Only this feature; may be given again.")
@click.option("--fault", "faults", multiple=True, metavar="NAME", help="Only this fault; may be given again.")
@click.option(
    "--fail-on",
    type=click.Choice(["broken", "error", "last_resort"]),
    default="broken",
    show_default=True,
    help="What exits with 1: a broken promise; also an error where an answer was possible; also a last resort there.",
)
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page with timelines."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--list", "listing", is_flag=True, help="List the faults instead.")
def command(
    path: Path | None,
    features: tuple[str, ...],
    faults: tuple[str, ...],
    fail_on: str,
    page: Path | None,
    as_json: bool,
    listing: bool,
) -> None:
    """Put the configuration through every fault, and report what its users would have seen.

    Its models are replaced by simulated ones of the same names, wire formats, speeds and limits; nothing but loopback
    is reached, no secret is needed and the log is only read, for the speeds. Waits are leapt over, so that it takes
    seconds; every time it tells is what users would have waited.

    Exits with 0 when every promise was kept, 1 when one was broken (see --fail-on), 2 for a wrong configuration.
    """
    from holdfast.drill import faults as table
    from holdfast.drill.targets import targets as find_targets

    if listing:
        _list(table.FAULTS, as_json)
        return
    try:
        configuration = _configuration(path)
        targets, chosen = find_targets(configuration, features), table.find(faults)
    except ConfigError as error:
        _refuse(error.message)
    except ValueError as error:
        _refuse(str(error))
    if not targets:
        _refuse(f"{path or FILE} names no model: there is nothing to drill")
    if not any(target.takes(fault) for target in targets for fault in chosen):
        names = ", ".join(target.name for target in targets)
        notes = [f"{target.name}: {note}" for target in targets for note in target.notes]
        _refuse("\n".join([f"none of these faults can befall {names}: they are about contracts or streams", *notes]))
    drill = _drill(configuration, targets, chosen, quiet=as_json)
    _report(drill, fail_on, page, as_json)


def _configuration(path: Path | None) -> "Configuration":
    from holdfast.cli.confined import load_confined
    from holdfast.config import parse
    from holdfast.demo import demo_files

    if path is None and not FILE.exists():
        click.echo(f"There is no {FILE} here: this is the demo.", err=True)
        return parse(demo_files({}), base=Path.cwd(), at_us=int(time.time() * 1e6))
    return load_confined(path or FILE, resolve_secrets=False, beside=("127.0.0.1",))


def _refuse(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(INVALID)


def _drill(
    configuration: "Configuration", targets: Sequence["Target"], faults: Sequence["Fault"], *, quiet: bool
) -> "Drill":
    from holdfast.drill.run import run, scenes

    logger = logging.getLogger("holdfast")
    before = logger.level
    logger.setLevel(logging.ERROR)  # faults are what this is about, and only bugs are told
    try:
        with _progress(len(scenes(targets, faults))) as advance:
            printer = _Printer(targets, faults, advance, quiet=quiet)
            return run(configuration, targets, faults, printer.take)
    except HoldfastError as error:
        click.echo(error.message, err=True)
        raise SystemExit(INVALID if isinstance(error, ConfigError) else 1) from error
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise SystemExit(INTERRUPTED) from None
    finally:
        logger.setLevel(before)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how far the drill is, on standard error; what is called says what comes next."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    terminal = Console(stderr=True)
    columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("setting the stage", total=total)
        yield lambda done: progress.update(task, advance=1, description=done)


class _Printer:
    """Prints the table of each feature as soon as its rows are there."""

    def __init__(
        self, targets: Sequence["Target"], faults: Sequence["Fault"], advance: Callable[[str], None], *, quiet: bool
    ) -> None:
        from holdfast.drill.run import scenes

        self._rows: list[Row] = []
        self._due = Counter(target.name for target, _, _ in scenes(targets, faults))
        self._advance = advance
        self._quiet = quiet
        self._console = console()

    def take(self, row: "Row") -> None:
        """Take the next row."""
        self._advance(f"{printable(row.target.name)}: {row.fault.title}")
        self._rows.append(row)
        if len(self._rows) == self._due[row.target.name]:
            if not self._quiet:
                print_feature(self._console, self._rows)
            self._rows = []


def print_feature(console: Console, rows: Sequence["Row"]) -> None:
    """Print the rows of one feature."""
    from holdfast.drill.report import duration

    target = rows[0].target
    heading = f"{target.name}: {', then '.join(target.models)}, within {duration(target.deadline)}"
    pairs = [[row for row in rows if row.fault is fault] for fault in dict.fromkeys(row.fault for row in rows)]
    if console.is_terminal:
        console.print(Line(printable(heading), style="bold cyan"))
    else:
        print(printable(heading))
    for note in target.notes:
        console.print(Line(printable(note), style="yellow"), soft_wrap=True)
    _table().print(console, pairs)
    console.print()


def _table() -> Table[Pair]:
    fault = Column[Pair]("fault", lambda pair: pair[0].fault.title, floor=12)
    whole = Column[Pair]("whole", lambda pair: _cell(pair, "whole"), floor=9)
    stream = Column[Pair]("stream", lambda pair: _cell(pair, "stream"), floor=9)
    first = Column[Pair]("first text", _first_text, right=True)
    verdict = Column[Pair]("verdict", _verdict, floor=18)
    return Table([(fault, whole, stream, first, verdict), (fault, whole, stream, verdict), (fault, verdict)], least=1)


def _cell(pair: Pair, mode: str) -> Line:
    from holdfast.drill.report import outcome, took

    row = _of(pair, mode)
    if row is None:
        return Line("-", style="dim")
    return Line(f"{printable(outcome(row))}, {took(row)}", style=COLOURS[row.verdict.end])


def _of(pair: Pair, mode: str) -> "Row | None":
    return next((row for row in pair if row.mode == mode), None)


def _first_text(pair: Pair) -> str:
    from holdfast.drill.report import duration

    row = _of(pair, "stream")
    first = None if row is None else row.shown.seen.first_token
    return "-" if first is None else duration(first)


def _verdict(pair: Pair) -> Line:
    from holdfast.drill.verdict import worst

    verdict = pair[worst([row.verdict for row in pair])].verdict
    note = f": {printable(verdict.note)}" if verdict.end == "broken" else ""
    unmet = "" if all(row.met for row in pair) else " (fault not met)"
    return Line(verdict.text + note + unmet, style=COLOURS[verdict.end])


def _report(drill: "Drill", fail_on: str, page: Path | None, as_json: bool) -> None:
    """Say how it all went, and end with the exit code that says it too."""
    from holdfast.drill.report import failures, summary, to_json, without_contract

    failed = failures(drill, fail_on)
    if page is not None:
        _write(drill, page)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(to_json(drill, fail_on)), indent=2))
    else:
        console().print(Line(summary(drill), style="bold red" if failed else "bold green"))
        if off := without_contract(drill):
            names = printable(", ".join(target.name for target in off))
            console().print(Line(f"Without its contract: {names}.", style="bold yellow"), soft_wrap=True)
        print(_basis(drill))
        if failed and fail_on != "broken":
            print(f"{len(failed)} of them fail it (--fail-on {fail_on}).")
        if page is not None:
            print(f"The timelines are in {page}.")
    sys.exit(1 if failed else 0)


def _basis(drill: "Drill") -> str:
    """Say what the times rest on."""
    from holdfast.drill.report import duration

    seen = [name for name, speed in drill.speeds.items() if speed.attempts]
    speeds = f"the speeds that the log has of {', '.join(seen)}" if seen else "usual speeds, since the log has none yet"
    return f"Times are what users would have waited, at {speeds}: {duration(drill.seconds)} in {duration(drill.took)}."


def _write(drill: "Drill", page: Path) -> None:
    from holdfast.drill.page import render

    try:
        page.write_text(render(drill), encoding="utf-8")
    except OSError as error:
        _refuse(f"{page} can't be written: {error.strerror or error}")


def _list(faults: Sequence["Fault"], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode([{"name": fault.name, "about": fault.about} for fault in faults]))
        return
    table = Table(
        [(Column["Fault"]("fault", lambda fault: fault.name), Column["Fault"]("", lambda fault: fault.about))]
    )
    table.print(console(), faults)
