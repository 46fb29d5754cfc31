"""`holdfast audit`: who did what, and whether anybody changed the record of it. The trail is only ever read."""

import sys
from collections.abc import Sequence
from itertools import islice
from typing import IO, Any

import click
import msgspec

from holdfast.cli.listing import console, print_json
from holdfast.cli.parameters import MOMENT
from holdfast.cli.state_directory import Failure, StateDirectory, failures, json_option, state_options
from holdfast.cli.table import Column, Table
from holdfast.cli.timeline import one_line, printable
from holdfast.clock import SystemClock
from holdfast.errors import PrivacyError
from holdfast.privacy.audit.chain import Damaged, Entry, read_head
from holdfast.privacy.audit.inspection import Report
from holdfast.privacy.audit.trail import ACTIONS, Trail, kept_heads
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.master import MASTER_FILE
from holdfast.privacy.signing import Signer

CHANGED = 1


@click.group()
def command() -> None:
    """Who did what: sign-ins, keys, accounts, configurations, reads of bodies, exports, erasures."""


@command.command("list")
@click.option("--action", type=click.Choice(list(ACTIONS)), metavar="ACTION", help="Entries of this action.")
@click.option("--actor", help="Entries of this actor, such as account:anna or key:hf_ab12cd34.")
@click.option("--since", type=MOMENT, help='Entries since: "1h" ago, or an ISO time.')
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@json_option
@state_options
def list_(
    action: str | None, actor: str | None, since: int | None, limit: int, as_json: bool, state: StateDirectory
) -> None:
    """List the entries of the audit trail, newest first. Times are UTC."""
    with failures():
        found = _reader(state).entries(action=action, actor=actor, since_us=since or 0)
        entries = list(islice(found, limit))
    if as_json:
        print_json(map(msgspec.structs.asdict, entries))
    elif entries:
        _table().print(console(), entries)
    else:
        click.echo("No entries.", err=True)


@command.command()
@click.option(
    "--head",
    "heads",
    type=click.File("rb"),
    multiple=True,
    help="Also check against the heads in this file, one a line, as `holdfast audit head` printed them. - reads stdin.",
)
@json_option
@state_options
def verify(heads: Sequence[IO[bytes]], as_json: bool, state: StateDirectory) -> None:
    """Find every change of the audit trail. Exits with 1 and all that is wrong with it.

    A trail that was rolled back together with its head can only be told by a head that was kept elsewhere: see --head.
    """
    with failures():
        kept = [head for file in heads for head in kept_heads(file.read(), getattr(file, "name", "stdin"))]
        report = _verifier(state).verify(kept)
    if as_json:
        print_json([{"ok": report.ok, **msgspec.to_builtins(report)}])
    else:
        _print_report(report)
    sys.exit(0 if report.ok else CHANGED)


@command.command()
@state_options
def head(state: StateDirectory) -> None:
    """Print where the audit trail ends, as a line of JSON to be kept elsewhere: see holdfast audit verify --head."""
    trail = _reader(state)
    with failures():
        raw = trail.head()
    if raw is None:
        raise Failure(f"There is no head at {trail.head_path.absolute()}: see holdfast audit verify.")
    try:
        read_head(raw)
    except Damaged as damage:
        raise Failure(f"{trail.head_path}: {damage}: see holdfast audit verify.") from damage
    click.echo(raw, nl=False)


def _reader(state: StateDirectory) -> Trail:
    return Trail(state.existing().path, None, SystemClock())


def _verifier(state: StateDirectory) -> Trail:
    """Return the trail with the key of this installation, as far as that is at hand. No key is made."""
    trail = _reader(state)
    if not ciphers.available():
        return trail
    try:
        signer = Signer.of(state.master(create=False))
    except PrivacyError as error:
        if state.privacy.get("master_key") is not None or (state.path / MASTER_FILE).exists():
            click.echo(f"Warning: {error.message}", err=True)
        return trail
    return Trail(state.path, signer, SystemClock())


def _print_report(report: Report) -> None:
    for warning in report.warnings:
        click.echo(f"Warning: {printable(warning)}", err=True)
    for finding in report.findings:
        click.echo(printable(str(finding)))
    if report.ok:
        signed = "" if report.key is None else f" The head is signed with the key {report.key}."
        click.echo(f"{_counted(report.entries)}, nothing was changed.{signed}")
    else:
        click.echo(f"\n{_counted(report.entries)} as written; something was changed: see above.", err=True)


def _counted(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries} entries"


def _table() -> Table[Entry]:
    at = Column[Entry]("time", lambda entry: entry.at[:19].replace("T", " "))
    n = Column[Entry]("entry", lambda entry: str(entry.n), right=True)
    actor = Column[Entry]("actor", lambda entry: one_line(entry.actor), floor=10, enough=24)
    action = Column[Entry]("action", lambda entry: one_line(entry.action))
    details = Column[Entry]("details", _details, floor=16, enough=40)
    return Table([(at, n, actor, action, details), (at, actor, action, details), (actor, action)], least=1)


def _details(entry: Entry) -> str:
    return one_line(" ".join(f"{name}={_shown(value)}" for name, value in entry.details.items()))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
