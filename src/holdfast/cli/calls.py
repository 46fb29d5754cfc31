"""`holdfast calls`: the calls in the log. The log is only ever read."""

import time
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import msgspec

from holdfast.cli.call_options import filter_of, filter_options, place_options
from holdfast.cli.custody import masks, opened_log, record
from holdfast.cli.found import print_found
from holdfast.cli.listing import CallPrinter, console, print_fingerprints, print_json, print_totals
from holdfast.cli.masks import mask_call
from holdfast.cli.parameters import MOMENT
from holdfast.cli.state_directory import Failure, StateDirectory, json_option
from holdfast.cli.timeline import printable, render_call
from holdfast.events import Call, Snapshot
from holdfast.log.base import Filter, UnknownCall
from holdfast.log.sqlite import SqliteLog
from holdfast.log.view import attempt_total_json, call_json, fingerprint_json, iso, total_json
from holdfast.privacy.masking import masked
from holdfast.privacy.subjects import SubjectHasher

POLL_SECONDS = 0.5
MASKED = "What was said is masked; --plain shows it, and is audited."


@click.group(invoke_without_command=True)
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many calls at most.")
@click.option("--tail", is_flag=True, help="Go on with calls as they come, until Ctrl-C.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="The configuration. Default: ./holdfast.toml.")
@json_option
@place_options
@click.pass_context
def command(
    ctx: click.Context, /, wanted: dict[str, Any], limit: int, tail: bool, as_json: bool, state: StateDirectory
) -> None:
    """List the calls in the log, newest first.

    Times are UTC. A cost of ? is unknown.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = {**wanted, "as_json": as_json}
        return
    with opened_log(state) as log:
        filter = filter_of(wanted, state, log, limit)
        printed = CallPrinter(as_json, masks=masks(state))
        if tail:
            _follow(log, filter, printed)
        elif calls := _scan(log, filter):
            printed.print(calls)
        elif not as_json:
            click.echo("\n".join(["No calls.", *_unknown_values(log, filter)]), err=True)


@command.command()
@click.argument("id")
@click.option("--plain", is_flag=True, help="What was asked and answered as it is. The audit trail will tell.")
@click.option("--config", is_flag=True, help="Print the configuration it happened under instead.")
@json_option
@place_options
@click.pass_context
def show(ctx: click.Context, id: str, plain: bool, config: bool, as_json: bool, state: StateDirectory) -> None:
    """Show one call: its attempts on a time axis, then what was asked and answered.

    Once there are keys, the words of what was asked and answered are masked, unless they are asked for with --plain.
    The beginning of an ID is enough where no other call's begins the same.
    """
    as_json = as_json or ctx.obj["as_json"]
    with opened_log(state, bodies=not config) as log:
        call = _find(log, id)
        snapshot = log.snapshot(call.config)
    if config:
        _print_config(call, snapshot, as_json)
        return
    if plain:
        record(state, "bodies.read", call=call.id, tenant=call.tenant, subject=call.subject)
    masking = not plain and masks(state)
    if as_json:
        print_json([masked(call_json(call)) if masking else call_json(call)])
    else:
        render_call(console(), mask_call(call) if masking else call, snapshot)
        if masking and call.request is not None:
            click.echo(MASKED, err=True)


@command.command()
@click.argument("text")
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many calls at most.")
@click.option("--before", metavar="ID", help="Go on from this call: what an earlier search said.")
@click.option("--plain", is_flag=True, help="Print what stands around the text as it is.")
@json_option
@place_options
@click.pass_context
def search(
    ctx: click.Context,
    text: str,
    wanted: dict[str, Any],
    limit: int,
    before: str | None,
    plain: bool,
    as_json: bool,
    state: StateDirectory,
) -> None:
    """Search what was asked and answered for a text, newest first. The audit trail will tell.

    Calls are read one by one, so a search ends after some seconds, and says where to go on. Upper and lower case are
    the same. Once there are keys, what stands around the text is masked, unless it is asked for with --plain.
    """
    if not text:
        raise Failure("The text to search for is empty.")
    plain = plain or not masks(state)
    with opened_log(state, bodies=True) as log:
        filter = msgspec.structs.replace(filter_of(wanted, state, log, limit), before=before)
        subjects = SubjectHasher.load(state.path, log.names_subjects)
        sought = subjects.hash(text, wanted["tenant"])  # the text itself could not be erased
        record(state, "bodies.search", tenant=wanted["tenant"], wanted=sought, plain=plain)
        found = log.search(text, filter)
    print_found(found, plain=plain, as_json=as_json or ctx.obj["as_json"])
    if found.matches and not plain and not (as_json or ctx.obj["as_json"]):
        click.echo(MASKED, err=True)


@command.command()
@click.option("--since", type=MOMENT, help='Sums since the minute "1h" ago, or of an ISO time. Default: all.')
@json_option
@place_options
@click.pass_context
def totals(ctx: click.Context, since: int | None, as_json: bool, state: StateDirectory) -> None:
    """Show the sums over calls, then those over their attempts by model and error.

    Calls that were erased or never kept count too. In JSON, "of" tells sums over "calls" from those over "attempts".
    """
    since = ctx.obj["since"] if since is None else since
    with opened_log(state) as log:
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
@click.option("--since", type=MOMENT, help='Changes since: "1h" ago, or an ISO time.')
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@json_option
@place_options
@click.pass_context
def fingerprints(
    ctx: click.Context, model: str | None, since: int | None, limit: int, as_json: bool, state: StateDirectory
) -> None:
    """List when providers began to serve a model under another name or fingerprint, newest first.

    From then on its answers may differ.
    """
    model, since = model or ctx.obj["model"], ctx.obj["since"] if since is None else since
    with opened_log(state) as log:
        changes = log.fingerprints(model=model, since_us=since, limit=limit)
    if as_json or ctx.obj["as_json"]:
        print_json(map(fingerprint_json, changes))
    elif changes:
        print_fingerprints(console(), changes)
    else:
        click.echo("No changes.", err=True)


# --- finding ----------------------------------------------------------------------------------------------------------


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


def _follow(log: SqliteLog, filter: Filter, printed: CallPrinter) -> None:
    """Print calls, oldest first, then every later one as it is recorded."""
    last = log.last()  # before the scan: what is recorded meanwhile comes up twice, never not at all
    calls = _scan(log, filter)[::-1]
    filter = msgspec.structs.replace(filter, limit=None)
    seen: set[str] = set()
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
