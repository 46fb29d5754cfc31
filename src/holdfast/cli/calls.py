"""`holdfast calls`: the calls in the log. The log is only ever read."""

import re
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from holdfast.cli.timeline import COLOURS, cost, outcome, printable, render_call, seconds
from holdfast.errors import LogError
from holdfast.events import Call
from holdfast.log.base import Filter, LogSettings, Total, UnknownCall
from holdfast.log.sqlite import SqliteLog
from holdfast.log.view import call_json, iso, total_json
from holdfast.privacy.subjects import SubjectHasher
from holdfast.settings import Duration

F = TypeVar("F", bound=Callable[..., Any])

CONFIG = Path("holdfast.toml")
POLL_SECONDS = 0.5
WIDE = 160
"""Columns where the output is not a terminal."""
_HASH = re.compile(r"[0-9a-f]{32}")


class Failure(click.ClickException):
    """The command can't do its work."""

    exit_code = 2


class Moment(click.ParamType[int]):
    """A time as "90s", "15m", "1h", "7d" ago, or in ISO 8601, UTC where it doesn't say. Microseconds since 1970."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return round(max(0.0, time.time() - Duration.parse(value)) * 1e6)
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f'{value!r} is neither a duration such as "1h" nor a time such as "2026-01-31T12:00"', param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e6)


class Tag(click.ParamType[tuple[str, str]]):
    """A tag as key=value."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, text = value.partition("=")
        if not equals:
            self.fail(f"{value!r} has no =", param, ctx)
        return key, text


def _log_option(command: F) -> F:
    return click.option(
        "--log", "path", type=click.Path(path_type=Path), help="The log file. Default: that of ./holdfast.toml."
    )(command)


def _json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(command)


@click.group(invoke_without_command=True)
@click.option("--name", help="Calls to this feature or model.")
@click.option("--model", help="Calls that this model answered.")
@click.option("--outcome", type=click.Choice(list(COLOURS)), help="Calls that ended like this.")
@click.option("--error", metavar="CODE", help="Calls with this error, such as timeout.")
@click.option("--session", help="Calls of this session.")
@click.option("--subject", help="Calls of this subject: the name the application sent, or its hash.")
@click.option("--tag", type=Tag(), help="Calls with this tag.")
@click.option("--since", type=Moment(), help='Calls that arrived since: "1h" ago, or an ISO time.')
@click.option("--until", type=Moment(), help="Calls that arrived before.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many calls at most.")
@click.option("--tail", is_flag=True, help="Go on with calls as they come, until Ctrl-C.")
@_json_option
@_log_option
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List the calls in the log, newest first.

    Times are UTC. A cost of ? is unknown.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = options
        return
    path, as_json, tail = log_path(options.pop("path")), options.pop("as_json"), options.pop("tail")
    if options["subject"] is not None:
        options["subject"] = _subject(options["subject"], path)
    filter = Filter(since_us=options.pop("since"), until_us=options.pop("until"), **options)
    with _opened(path) as log:
        if tail:
            _follow(log, filter, as_json)
        elif calls := _scan(log, filter):
            _print_calls(calls, as_json)
        elif not as_json:
            click.echo("No calls.", err=True)


@command.command()
@click.argument("id")
@_json_option
@_log_option
@click.pass_context
def show(ctx: click.Context, id: str, as_json: bool, path: Path | None) -> None:
    """Show one call: its attempts on a time axis, then what was asked and answered.

    The beginning of an ID is enough where no other call's begins the same.
    """
    with _opened(log_path(path or ctx.obj["path"])) as log:
        call = _find(log, id)
    if as_json or ctx.obj["as_json"]:
        _print_json([call_json(call)])
    else:
        render_call(_console(), call)


@command.command()
@click.option("--since", type=Moment(), help='Sums since the minute "1h" ago, or of an ISO time. Default: all.')
@_json_option
@_log_option
@click.pass_context
def totals(ctx: click.Context, since: int | None, as_json: bool, path: Path | None) -> None:
    """Show the sums over calls. Calls that were erased or never kept count too."""
    with _opened(log_path(path or ctx.obj["path"])) as log:
        found = sorted(log.totals(ctx.obj["since"] if since is None else since), key=lambda total: -total.calls)
    if as_json or ctx.obj["as_json"]:
        _print_json(map(total_json, found))
    elif found:
        _console().print(_totals_table(found))
    else:
        click.echo("No calls.", err=True)


# --- finding ----------------------------------------------------------------------------------------------------------


def log_path(path: Path | None) -> Path:
    """Return `path`, else where ./holdfast.toml says the log is, else where it is by default."""
    if path is not None:
        return path
    named: Any = LogSettings().path
    if CONFIG.is_file():
        try:
            section = tomllib.loads(CONFIG.read_text(encoding="utf-8")).get("log", {})
        except (OSError, ValueError) as error:
            raise Failure(f"{CONFIG} can't be read: {error}. Name the log with --log.") from error
        named = section.get("path", named) if isinstance(section, dict) else named
    return Path(str(named))


@contextmanager
def _opened(path: Path) -> Iterator[SqliteLog]:
    """Open the log to read; whatever is wrong with it ends the command with exit code 2."""
    if not path.exists():
        raise Failure(f"There is no log at {path}. Name one with --log, or start the gateway, which makes it.")
    try:
        log = SqliteLog.read(path)
        try:
            yield log
        finally:
            log.close()
    except LogError as error:
        raise Failure(error.message) from error


def _subject(name: str, path: Path) -> str:
    """Return the hash of a subject's name, by the key beside the log."""
    if _HASH.fullmatch(name):
        return name
    try:
        return SubjectHasher.read(path.parent).hash(name)
    except LogError as error:
        raise Failure(f"{error.message} Without it, give the hash of the subject.") from error


def _scan(log: SqliteLog, filter: Filter) -> list[Call]:
    return [call for batch in log.scan(filter) for call in batch]


def _find(log: SqliteLog, prefix: str) -> Call:
    found = log.ids(prefix, 4) or log.ids(prefix.upper(), 4)
    if len(found) > 1 and prefix not in found:
        more = ", ..." if len(found) > 3 else ""
        raise Failure(f"More than one call begins with {prefix}: {', '.join(found[:3])}{more}")
    call = log.get(prefix if prefix in found else found[0]) if found else None
    if call is None:
        raise Failure(f"The log has no call {prefix}.")
    return call


# --- showing ----------------------------------------------------------------------------------------------------------


def _follow(log: SqliteLog, filter: Filter, as_json: bool) -> None:
    """Print calls, oldest first, then every later one as it is recorded."""
    last = log.last()  # before the scan: what is recorded meanwhile comes up twice, never not at all
    calls = _scan(log, filter)[::-1]
    filter = msgspec.structs.replace(filter, limit=None)
    seen: set[str] = set()
    header = True
    try:
        while True:
            if new := [call for call in calls if call.id not in seen]:
                _print_calls(new, as_json, header=header)
                header = False
            seen = {call.id for call in calls}
            time.sleep(POLL_SECONDS)
            last, calls = log.last(), _recorded_after(log, filter, last)
    except KeyboardInterrupt:
        return


def _recorded_after(log: SqliteLog, filter: Filter, last: str | None) -> list[Call]:
    if last is None:
        return _scan(log, filter)[::-1]
    try:
        return _scan(log, msgspec.structs.replace(filter, after=last))
    except UnknownCall:
        return []  # it was erased meanwhile: go on with what comes from now on


def _print_calls(calls: Sequence[Call], as_json: bool, *, header: bool = True) -> None:
    if as_json:
        _print_json(map(call_json, calls))
    else:
        _console().print(_table(calls, header=header))


def _print_json(values: Iterable[dict[str, Any]]) -> None:
    for value in values:
        click.echo(msgspec.json.encode(value))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def _table(calls: Sequence[Call], *, header: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if header else None, show_header=header, show_edge=False, pad_edge=False)
    table.add_column("time", no_wrap=True)
    table.add_column("id", no_wrap=True, min_width=26)
    for name, width in (("name", 8), ("model", 8), ("outcome", 11)):
        table.add_column(name, overflow="fold", min_width=width)
    for name, width in (("tokens", 9), ("cost $", 8), ("took", 7), ("attempts", 8)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for call in calls:
        table.add_row(*_cells(call))
    return table


def _cells(call: Call) -> Sequence[str | Line]:
    return (
        iso(call.at_us)[:19].replace("T", " "),
        Line(printable(call.id)),
        Line(printable(call.name)),
        Line(printable(call.model or "")),
        outcome(call),
        "?" if call.usage is None else f"{call.usage.input_tokens}+{call.usage.output_tokens}",
        cost(call.cost_nanousd),
        seconds(call.duration_us),
        str(len(call.attempts)),
    )


def _totals_table(totals: Sequence[Total]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("name", "model", "outcome"):
        table.add_column(name, overflow="fold")
    for name in ("calls", "attempts", "tokens", "cost $", "of unknown cost", "mean"):
        table.add_column(name, justify="right")
    for total in totals:
        ended = f"{total.outcome}: {total.error}" if total.error not in ("", total.outcome) else total.outcome
        table.add_row(
            Line(printable(total.name)),
            Line(printable(total.model)),
            Line(printable(ended), style=COLOURS.get(total.outcome, "")),
            str(total.calls),
            str(total.attempts),
            f"{total.input_tokens}+{total.output_tokens}",
            cost(total.cost_nanousd),
            str(total.unpriced),
            seconds(round(total.duration_us / total.calls)),
        )
    return table
