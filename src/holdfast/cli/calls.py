"""`holdfast calls`: the calls in the log. The log is only ever read."""

import re
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from holdfast.cli.listing import CallPrinter, console, print_fingerprints, print_json, print_totals
from holdfast.cli.state_directory import CONFIG, Failure
from holdfast.cli.timeline import COLOURS, printable, render_call
from holdfast.errors import LogError
from holdfast.events import Call, Snapshot
from holdfast.log.base import Filter, LogSettings, UnknownCall
from holdfast.log.query import moment, tag
from holdfast.log.sqlite import SqliteLog
from holdfast.log.view import attempt_total_json, call_json, fingerprint_json, iso, total_json
from holdfast.privacy.subjects import SubjectHasher

F = TypeVar("F", bound=Callable[..., Any])

POLL_SECONDS = 0.5
_HASH = re.compile(r"[0-9a-f]{32}")


class Moment(click.ParamType[int]):
    """A time as `log.query.moment` reads it."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return moment(value, time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Tag(click.ParamType[tuple[str, str]]):
    """A tag as key=value."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        try:
            return tag(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


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
@click.option("--contract", help="Calls whose answer had to meet this contract.")
@click.option("--repaired", is_flag=True, default=None, help="Calls whose answer needed repairs.")
@click.option("--replayed", is_flag=True, default=None, help="Calls whose answer was that of another, given again.")
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
            CallPrinter(as_json).print(calls)
        elif not as_json:
            click.echo("\n".join(["No calls.", *_unknown_values(log, filter)]), err=True)


@command.command()
@click.argument("id")
@click.option("--config", is_flag=True, help="Print the configuration it happened under instead.")
@_json_option
@_log_option
@click.pass_context
def show(ctx: click.Context, id: str, config: bool, as_json: bool, path: Path | None) -> None:
    """Show one call: its attempts on a time axis, then what was asked and answered.

    The beginning of an ID is enough where no other call's begins the same.
    """
    as_json = as_json or ctx.obj["as_json"]
    with _opened(log_path(path or ctx.obj["path"])) as log:
        call = _find(log, id)
        snapshot = log.snapshot(call.config)
    if config:
        _print_config(call, snapshot, as_json)
    elif as_json:
        print_json([call_json(call)])
    else:
        render_call(console(), call, snapshot)


@command.command()
@click.option("--since", type=Moment(), help='Sums since the minute "1h" ago, or of an ISO time. Default: all.')
@_json_option
@_log_option
@click.pass_context
def totals(ctx: click.Context, since: int | None, as_json: bool, path: Path | None) -> None:
    """Show the sums over calls, then those over their attempts by model and error.

    Calls that were erased or never kept count too. In JSON, "of" tells sums over "calls" from those over "attempts".
    """
    since = ctx.obj["since"] if since is None else since
    with _opened(log_path(path or ctx.obj["path"])) as log:
        calls = sorted(log.totals(since), key=lambda total: -total.calls)
        attempts = sorted(log.attempt_totals(since), key=lambda total: (total.model, -total.attempts))
    if as_json or ctx.obj["as_json"]:
        print_json([{"of": "calls"} | total_json(total) for total in calls])
        print_json([{"of": "attempts"} | attempt_total_json(total) for total in attempts])
    elif calls:
        print_totals(console(), calls, attempts)
    else:
        click.echo("No calls.", err=True)


@command.command()
@click.option("--model", help="Changes of this model.")
@click.option("--since", type=Moment(), help='Changes since: "1h" ago, or an ISO time.')
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@_json_option
@_log_option
@click.pass_context
def fingerprints(
    ctx: click.Context, model: str | None, since: int | None, limit: int, as_json: bool, path: Path | None
) -> None:
    """List when providers began to serve a model under another name or fingerprint, newest first.

    From then on its answers may differ.
    """
    model, since = model or ctx.obj["model"], ctx.obj["since"] if since is None else since
    with _opened(log_path(path or ctx.obj["path"])) as log:
        changes = log.fingerprints(model=model, since_us=since, limit=limit)
    if as_json or ctx.obj["as_json"]:
        print_json(map(fingerprint_json, changes))
    elif changes:
        print_fingerprints(console(), changes)
    else:
        click.echo("No changes.", err=True)


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
        raise Failure(
            f"There is no log at {path.absolute()} (started in another folder?). "
            "Name one with --log, or start the gateway, which makes it."
        )
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


def _unknown_values(log: SqliteLog, filter: Filter) -> Iterator[str]:
    """Say of each value asked for that no call ever had it, with the nearest that calls had."""
    totals = log.totals()
    for field in ("name", "model", "error"):
        value, known = getattr(filter, field), sorted({getattr(total, field) for total in totals} - {""})
        if value is None or value in known:
            continue
        near = get_close_matches(value, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(known[:10])}." if known else ""
        yield printable(f"No call in the log has the {field} {value!r}.{hint}{_only_attempts(log, field, value)}")


def _only_attempts(log: SqliteLog, field: str, value: str) -> str:
    if field == "name" or all(getattr(total, field) != value for total in log.attempt_totals()):
        return ""
    return " Attempts have it, though, of calls that ended otherwise: see holdfast calls totals."


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
    printed = CallPrinter(as_json)
    try:
        while True:
            if new := [call for call in calls if call.id not in seen]:
                printed.print(new)
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


def _print_config(call: Call, snapshot: Snapshot | None, as_json: bool) -> None:
    if snapshot is None:
        raise Failure(f"The log has no configuration {call.config or 'of this call'}.")
    if as_json:
        print_json([{"hash": snapshot.hash, "at": iso(snapshot.at_us), "files": snapshot.files}])
        return
    for name, text in snapshot.files.items():
        click.echo(f"# --- {printable(name)} ---")
        click.echo(printable(text.rstrip("\n")) + "\n")
