"""Keys and what was spent, as tables or as JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from msgspec import Struct
from rich.console import Console
from rich.text import Text as Line

from holdfast.cli.listing import NONE
from holdfast.cli.table import Column, Table
from holdfast.cli.timeline import cost, one_line
from holdfast.log.base import Spend
from holdfast.log.view import iso, known_cost, usd
from holdfast.state.keys import Key
from holdfast.state.limits import Limit, amount

_COLOURS = {"active": "green", "expired": "bright_black", "revoked": "red"}


class Row(Struct, frozen=True):
    """A key as it is at a time, with what was spent of each of its limits in the window of that time."""

    key: Key
    spent: Mapping[Limit, int]
    now_us: int

    @property
    def state(self) -> str:
        """Whether it is valid, or why it is not."""
        standing = self.key.standing(self.now_us)
        return "active" if standing == "valid" else standing


def key_facts(key: Key) -> dict[str, Any]:
    """Return what is told of a key anywhere: neither its token nor the hash of it."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "role": key.role,
        "features": list(key.features),
        "limits": [limit.text for limit in key.limits],
        "expires": _iso(key.expires_us),
    }


def key_json(row: Row) -> dict[str, Any]:
    """Return a key as plain JSON values: money as a decimal string in US dollars, what is counted as integers."""
    key = row.key
    told = {"created": iso(key.created_us), "revoked": _iso(key.revoked_us), "successor": key.successor}
    limits = [_limit_json(limit, row.spent.get(limit, 0), row.now_us) for limit in key.limits]
    return {**key_facts(key), **told, "limits": limits, "state": row.state}


def overlap_told(key: Key) -> str:
    """Say of a key that was rotated which key takes its place, and until when it is valid itself."""
    return f"{key.id}, which {key.successor} replaces, is still valid until {_minute(key.expires_us)} UTC"


def _limit_json(limit: Limit, spent: int, now_us: int) -> dict[str, Any]:
    ends = limit.window.ends(now_us / 1e6)
    unit = "usd" if limit.unit == "nanousd" else limit.unit
    cap, used = (usd(limit.cap), usd(spent)) if unit == "usd" else (limit.cap, spent)
    resets = None if ends is None else iso(round(ends * 1e6))
    return {"name": limit.name, "unit": unit, "cap": cap, "window": limit.window, "spent": used, "resets": resets}


def print_keys(console: Console, found: Sequence[Row]) -> None:
    """Print keys, one a line; in a narrow terminal, one limit a line."""
    id = Column[Row]("key", lambda row: row.key.id)
    tenant = Column[Row]("tenant", lambda row: row.key.tenant, floor=8, enough=16)
    role = Column[Row]("role", lambda row: row.key.role)
    features = Column[Row]("features", lambda row: one_line(", ".join(row.key.features)) or "all", floor=8, enough=20)
    limits = Column[Row]("limits", _limits)
    spent = Column[Row]("spent", _spent)
    spent_of = Column[Row]("spent of limits", _spent_of, floor=15, breaks=True)
    created = Column[Row]("created", lambda row: _minute(row.key.created_us))
    expires = Column[Row]("expires", lambda row: _minute(row.key.expires_us))
    state = Column[Row]("state", _state, breaks=True)
    head = (id, tenant, role)
    layouts = (
        (*head, features, limits, spent, created, expires, state),
        (*head, features, limits, spent, expires, state),
        (*head, features, spent_of, expires, state),
        (*head, spent_of, expires, state),
        (*head, spent_of, state),
        (*head, state),
        (id, state),
    )
    Table(layouts, least=4).print(console, found)


def _limits(row: Row) -> str:
    return ", ".join([limit.text for limit in row.key.limits]) or NONE


def _spent(row: Row) -> str:
    return ", ".join([amount(row.spent.get(limit, 0), limit.unit) for limit in row.key.limits]) or NONE


def _spent_of(row: Row) -> str:
    spent = {limit: amount(row.spent.get(limit, 0), limit.unit).partition(" ")[0] for limit in row.key.limits}
    return ", ".join([f"{count} of {limit.text}" for limit, count in spent.items()]) or NONE


def _state(row: Row) -> Line:
    if row.key.successor is None or row.state != "active":
        return Line(row.state, style=_COLOURS[row.state])
    return Line(f"until {_minute(row.key.expires_us)}, replaced by {row.key.successor}", style="yellow")


def _minute(at_us: int | None) -> str:
    return NONE if at_us is None else iso(at_us)[:16].replace("T", " ")


def _iso(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)


# --- limits -----------------------------------------------------------------------------------------------------------


class Use(Struct, frozen=True):
    """What was used of a limit in the window that is now."""

    limit: Limit
    used: int
    now_us: int


def use_json(use: Use) -> dict[str, Any]:
    """Return what was used of a limit as plain JSON values."""
    return {"scope": use.limit.scope, "of": use.limit.of} | _limit_json(use.limit, use.used, use.now_us)


def print_uses(console: Console, found: Sequence[Use]) -> None:
    """Print limits, one a line, with what was used of them."""
    scope = Column[Use]("scope", lambda use: use.limit.scope)
    of = Column[Use]("of", lambda use: one_line(use.limit.of), floor=11)
    limit = Column[Use]("limit", lambda use: use.limit.text)
    used = Column[Use]("used", _used, right=True)
    resets = Column[Use]("resets", _resets)
    Table([(scope, of, limit, used, resets), (of, limit, used)], least=0).print(console, found)


def _used(use: Use) -> Line:
    return Line(amount(use.used, use.limit.unit), style="red" if use.used >= use.limit.cap else "")


def _resets(use: Use) -> str:
    ends = use.limit.window.ends(use.now_us / 1e6)
    return "never" if ends is None else _minute(round(ends * 1e6))


# --- spend ------------------------------------------------------------------------------------------------------------

_FIRST_DAY = date(1970, 1, 1)


class Sum(Struct, frozen=True):
    """What was spent by one tenant, feature, ...: `by` is its place in the grouping that was asked for."""

    by: Mapping[str, str]
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_nanousd: int
    unpriced: int


SPEND_BY: Mapping[str, Callable[[Spend], str]] = {
    "tenant": lambda spend: spend.tenant,
    "key": lambda spend: spend.key,
    "feature": lambda spend: spend.name,
    "model": lambda spend: spend.model,
    "day": lambda spend: (_FIRST_DAY + timedelta(days=spend.day)).isoformat(),
}


def summed(spends: Iterable[Spend], by: Sequence[str]) -> Sequence[Sum]:
    """Add up what is alike in every one of `by`, in the order of these."""
    groups: dict[tuple[str, ...], list[Spend]] = {}
    for spend in spends:
        groups.setdefault(tuple([SPEND_BY[name](spend) for name in by]), []).append(spend)
    return [
        Sum(
            dict(zip(by, group, strict=True)),
            *(sum([getattr(spend, field) for spend in found]) for field in Sum.__struct_fields__[1:]),
        )
        for group, found in sorted(groups.items())
    ]


def spend_json(total: Sum) -> dict[str, Any]:
    """Return a sum as plain JSON values."""
    sums = {field: getattr(total, field) for field in Sum.__struct_fields__[1:]}
    return {**total.by, **sums, "cost_usd": usd(known_cost(total))}


def print_spend(console: Console, found: Sequence[Sum], by: Sequence[str]) -> None:
    """Print sums, one a line."""
    head = tuple([_group(name) for name in by])
    attempts = Column[Sum]("attempts", lambda total: str(total.attempts), right=True)
    tokens = Column[Sum]("tokens", lambda total: f"{total.input_tokens}+{total.output_tokens}", right=True)
    dollars = Column[Sum]("cost $", lambda total: cost(known_cost(total)), right=True)
    unpriced = Column[Sum]("of unknown cost", lambda total: str(total.unpriced), right=True)
    layouts = ((*head, attempts, tokens, dollars, unpriced), (*head, attempts, dollars), (*head, dollars))
    Table(layouts, least=2).print(console, found)


def _group(name: str) -> Column[Sum]:
    return Column[Sum](
        name, lambda total: one_line(total.by[name]) or NONE, floor=10 if name == "day" else 8, enough=16
    )
