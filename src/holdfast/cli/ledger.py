"""What was repaired in an answer, as a table."""

from collections.abc import Sequence

from rich.console import Console

from holdfast.cli.table import Column, Table
from holdfast.events import Repair

MOST = 20
"""Repairs that are printed."""
_LONGEST = 60


def print_ledger(console: Console, ledger: Sequence[Repair]) -> None:
    """Print the first repairs, a line each: the kind, where it was, what stood there and what replaced it."""
    kind = Column[Repair]("kind", lambda repair: _visible(repair.kind))
    where = Column[Repair]("where", _where)
    before = Column[Repair]("before", lambda repair: _visible(repair.before), floor=8)
    after = Column[Repair]("after", lambda repair: _visible(repair.after), floor=8)
    shown = ledger[:MOST]
    console.print("repairs", style="bold cyan")
    for line in Table([(kind, where, before, after), (kind, before, after)]).lines(console.width - 2, shown):
        console.print("  ", line, sep="")
    if more := len(ledger) - len(shown):
        console.print(f"  and {more} more: see --json", style="dim")


def _where(repair: Repair) -> str:
    places = (
        f"attempt {repair.attempt + 1}" if repair.attempt else None,
        f"choice {repair.choice}" if repair.choice else None,
        None if repair.tool is None else f"tool call {repair.tool}",
        f"at {repair.offset}",
    )
    return ", ".join([place for place in places if place])


def _visible(text: str) -> str:
    """Return the beginning of a text as one line, with escapes for what can't be seen."""
    if not text:
        return "(nothing)"
    shown = "".join([c if c.isprintable() else repr(c)[1:-1] for c in text[:_LONGEST]])
    return shown if len(text) <= _LONGEST else f"{shown}… ({len(text)} characters)"
