"""Calls and their sums as tables, or as JSON."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text as Line

from holdfast.cli.table import Column, Table
from holdfast.cli.timeline import COLOURS, cost, counted, ended, one_line, outcome, reasks, seconds
from holdfast.events import Call, FingerprintChanged
from holdfast.log.base import AttemptTotal, Total
from holdfast.log.view import call_json, iso, known_cost
from holdfast.privacy.masking import masked

WIDE = 160
"""Columns where the output is not a terminal."""
UNKNOWN = "(unknown)"
NONE = "-"
_SHORT_ID = 10


def console() -> Console:
    """Return the terminal, or what stands in for one."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def print_json(values: Iterable[dict[str, Any]]) -> None:
    """Print one object a line."""
    for value in values:
        click.echo(msgspec.json.encode(value))


class CallPrinter:
    """Prints calls as they come, the table's head before the first. Where `masks`, JSON has no words of their callers.

    (The table has none anyway.)
    """

    def __init__(self, as_json: bool, *, masks: bool = False) -> None:
        self._as_json = as_json
        self._masks = masks
        self._console = console()
        self._header = True
        self._digits = _SHORT_ID
        """Of an id, where it is cut."""
        self._today = ""
        self._table = Table(self._layouts(), least=6)

    def print(self, calls: Sequence[Call]) -> None:
        """Print some more."""
        if self._as_json:
            print_json([masked(call_json(call)) if self._masks else call_json(call) for call in calls])
            return
        self._today = iso(round(time.time() * 1e6))[:10]
        self._digits = max(self._digits, _distinct([call.id for call in calls]))
        self._table.print(self._console, calls, header=self._header)
        self._header = False

    def _layouts(self) -> Sequence[Sequence[Column[Call]]]:
        """Return the columns for a terminal that is wide, and for ones that are less and less so."""
        at = Column[Call]("time", lambda call: iso(call.at_us)[:19].replace("T", " "))
        short_at = Column[Call]("time", lambda call: self._short_time(call, 16))
        day = Column[Call]("time", lambda call: self._short_time(call, 10))
        id = Column[Call]("id", lambda call: one_line(call.id))
        short_id = Column[Call]("id", lambda call: one_line(call.id[: self._digits]))
        name = Column[Call]("name", lambda call: one_line(call.name) or UNKNOWN, floor=6, enough=16)
        model = Column[Call]("model", lambda call: one_line(call.model or NONE), floor=4, enough=16)
        end = Column[Call]("outcome", outcome)
        took = Column[Call]("took", lambda call: seconds(call.duration_us), right=True)
        attempts = Column[Call]("attempts", _attempts, right=True)
        short_attempts = Column[Call]("att.", _attempts, right=True)
        tokens = Column[Call]("tokens", _tokens, right=True)
        dollars = Column[Call]("cost $", lambda call: cost(call.cost_nanousd), right=True)
        tags = Column[Call]("tags", _tags)
        tenant = Column[Call]("tenant", lambda call: one_line(call.tenant or ""), floor=6, enough=12, optional=True)
        key = Column[Call]("key", lambda call: one_line(call.key or ""), optional=True)
        notes = Column[Call]("notes", _notes, floor=8, enough=16, optional=True)
        middle = (name, model, end, took)
        return (
            (at, id, *middle, attempts, tokens, dollars, tags, tenant, key, notes),
            (at, id, *middle, attempts, tokens, dollars, tenant, key, notes),
            (short_at, id, *middle, attempts, tokens, dollars, tenant, key, notes),
            (short_at, short_id, *middle, attempts, tokens, dollars, tenant, key, notes),
            (short_at, short_id, *middle, attempts, tokens, tenant, key, notes),
            (short_at, short_id, *middle, attempts, tenant, notes),
            (short_at, short_id, *middle, short_attempts, notes),
            (short_at, short_id, *middle, short_attempts),
            (day, short_id, *middle, short_attempts),
            (day, short_id, *middle),
            (day, short_id, name, model, end),
            (short_id, name, end),
            (name, end),
        )

    def _short_time(self, call: Call, end: int) -> str:
        """Return the time of day of a call of today, else its date, up to the `end` of the full form."""
        at = iso(call.at_us)
        return at[11:19] if at[:10] == self._today else at[5:end].replace("T", " ")


def _distinct(ids: Sequence[str]) -> int:
    """Return how much of ids tells them apart."""
    lengths = range(_SHORT_ID, max(map(len, ids), default=0))
    return next((n for n in lengths if len({id[:n] for id in ids}) == len(ids)), _SHORT_ID)


def _attempts(call: Call) -> str:
    return str(len(call.attempts))


def _tokens(call: Call) -> str:
    if call.usage is not None:
        return f"{call.usage.input_tokens}+{call.usage.output_tokens}"
    return "0" if call.cost_nanousd == 0 else "?"


def _tags(call: Call) -> str:
    return one_line(", ".join(f"{key}={value}" for key, value in call.tags.items())) or NONE


def _notes(call: Call) -> str:
    """Return how the answer came to be, where a model did not simply give it."""
    notes = (
        "replayed" if call.replayed is not None else None,
        counted(call.repairs, "repair"),
        counted(reasks(call), "re-ask"),
        None if call.agreement is None else f"{call.agreement:.0%} agree",
    )
    return ", ".join([note for note in notes if note])


# --- fingerprints -----------------------------------------------------------------------------------------------------


def print_fingerprints(console: Console, changes: Sequence[FingerprintChanged]) -> None:
    """Print how providers changed what they serve."""
    at = Column[FingerprintChanged]("time", lambda change: iso(change.at_us)[:19].replace("T", " "))
    model = Column[FingerprintChanged]("model", lambda change: one_line(change.model), floor=6, enough=16)
    provider = Column[FingerprintChanged]("provider", lambda change: one_line(change.provider))
    before = Column[FingerprintChanged]("before", lambda change: one_line(change.before), floor=8)
    after = Column[FingerprintChanged]("after", lambda change: one_line(change.after), floor=8)
    Table([(at, model, provider, before, after), (at, model, before, after), (model, before, after)], least=1).print(
        console, changes
    )


# --- sums -------------------------------------------------------------------------------------------------------------


def print_totals(console: Console, calls: Sequence[Total], attempts: Sequence[AttemptTotal]) -> None:
    """Print the sums over calls, then those over attempts."""
    Table(_call_layouts(), least=3).print(console, calls)
    if attempts:
        console.print("\nattempts by model", style="bold" if console.is_terminal else "")
        Table(_attempt_layouts(attempts), least=2).print(console, attempts)


def _call_layouts() -> Sequence[Sequence[Column[Total]]]:
    name = Column[Total]("name", lambda total: one_line(total.name) or UNKNOWN, floor=9, enough=16)
    model = Column[Total]("model", lambda total: one_line(total.model) or NONE, floor=8, enough=16)
    end = Column[Total]("outcome", _total_outcome)
    count = Column[Total]("calls", lambda total: str(total.calls), right=True)
    attempts = Column[Total]("attempts", lambda total: str(total.attempts), right=True)
    tokens = Column[Total]("tokens", lambda total: f"{total.input_tokens}+{total.output_tokens}", right=True)
    dollars = Column[Total]("cost $", lambda total: cost(known_cost(total)), right=True)
    unpriced = Column[Total]("of unknown cost", lambda total: str(total.unpriced), right=True)
    short_unpriced = Column[Total]("cost ?", lambda total: str(total.unpriced), right=True)
    mean = Column[Total]("mean", lambda total: seconds(round(total.duration_us / total.calls)), right=True)
    head = (name, model, end, count)
    return (
        (*head, attempts, tokens, dollars, unpriced, mean),
        (*head, attempts, tokens, dollars, short_unpriced, mean),
        (*head, tokens, dollars, short_unpriced, mean),
        (*head, dollars, short_unpriced, mean),
        (*head, dollars, mean),
        head,
        (name, end, count),
    )


def _total_outcome(total: Total) -> Line:
    return Line(one_line(ended(total.outcome, total.error)), style=COLOURS.get(total.outcome, ""))


def _attempt_layouts(totals: Sequence[AttemptTotal]) -> Sequence[Sequence[Column[AttemptTotal]]]:
    tried = dict.fromkeys([total.model for total in totals], 0)
    for total in totals:
        tried[total.model] += total.attempts

    def share(total: AttemptTotal) -> str:
        return f"{100 * total.attempts / tried[total.model]:.1f} %"

    model = Column[AttemptTotal]("model", lambda total: one_line(total.model), floor=8, enough=16)
    result = Column[AttemptTotal]("result", _attempt_result)
    count = Column[AttemptTotal]("attempts", lambda total: str(total.attempts), right=True)
    part = Column[AttemptTotal]("of model", share, right=True)
    tokens = Column[AttemptTotal]("tokens", lambda total: f"{total.input_tokens}+{total.output_tokens}", right=True)
    dollars = Column[AttemptTotal]("cost $", lambda total: cost(known_cost(total)), right=True)
    unpriced = Column[AttemptTotal]("of unknown cost", lambda total: str(total.unpriced), right=True)
    mean = Column[AttemptTotal]("mean", lambda total: seconds(round(total.duration_us / total.attempts)), right=True)
    return (
        (model, result, count, part, tokens, dollars, unpriced, mean),
        (model, result, count, part, tokens, dollars, mean),
        (model, result, count, part, mean),
        (model, result, count),
    )


def _attempt_result(total: AttemptTotal) -> Line:
    colour = "bright_black" if total.error == "cancelled" else "red" if total.error else "green"
    return Line(one_line(total.error) or "answered", style=colour)
