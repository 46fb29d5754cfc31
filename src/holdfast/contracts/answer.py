"""An answer and its contract: it meets it as it is, or after repairs that need no model, or it does not.

Of an answer that begins with JSON, that is the answer: where it is complete and does not meet the contract, nothing
that follows stands for it, so that a stream can be given up at the first such mistake. Below prose, the last value that
fits is meant.
"""

import re
from typing import Any, Final

import msgspec

from holdfast.contracts.base import Checked, Contract, Violation
from holdfast.contracts.forms.model import ModelForm
from holdfast.contracts.forms.schema import JsonForm, decode
from holdfast.contracts.ledger import Refused, Repaired
from holdfast.contracts.repairs.lossy import DROPS
from holdfast.contracts.repairs.repair import repair, value_at_head
from holdfast.contracts.streaming.watch import Watch
from holdfast.events import Repair

MISSING: Final = msgspec.UNSET
"""The data of an answer that is no JSON."""
HEAVY: Final = 64 * 2**10
"""Characters of an answer from which on `meet` may take more than some milliseconds."""
HEAVY_GRAMMAR: Final = 2 * 2**10
HEAVY_WORK: Final = 2_000_000
"""Evaluations of its schema from which on a check alone may take as long."""

_FENCED = re.compile(r"\s*+(```|~~~)(?:[ \t]?[A-Za-z][\w+-]*+[ \t]*+(?=\n))?+\s*+(.*?)\s*+\1\s*+", re.DOTALL)
_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»", "**": "**"}
_CUT: Final = Violation("", "the answer ended at a limit before it was complete", "cut")


class Met(msgspec.Struct, frozen=True):
    """An answer that meets its contract: the text, byte for byte what came where that was valid, and its value."""

    text: str
    value: Any
    """As `Checked.value`."""
    ledger: tuple[Repair, ...] = ()


class Unmet(msgspec.Struct, frozen=True):
    """An answer that does not meet its contract.

    `text` is what came, after the repairs that were possible; `data` its decoded JSON, MISSING where it is none.
    """

    text: str
    violations: tuple[Violation, ...]
    data: Any = MISSING
    ledger: tuple[Repair, ...] = ()
    """Those repairs."""


def meet(contract: Contract, text: str, *, cut: bool = False) -> Met | Unmet:
    """Return the answer that a text is, repaired where that is needed, or how it fails.

    It never raises, may be called by any number of threads, and its time is bounded.

    Args:
        cut: whether the model stopped at a limit, so that nothing is taken for complete that does not end by itself.
    """
    checked = contract.check(text)
    if checked.ok:
        if cut and not _ends_by_itself(contract, checked.value):
            return Unmet(text, (_CUT,))
        return Met(text, checked.value)
    if contract.is_json:
        return _mended(contract, text, checked, cut)
    if cut:
        return Unmet(text, (_CUT,))
    return _unwrapped(contract, text) or Unmet(text, checked.violations)


def heavy(contract: Contract, text: str) -> bool:
    """Return whether meeting the contract may take more than some milliseconds, so that a thread should do it."""
    constraint = contract.constraint
    if constraint is not None and constraint.kind == "grammar":
        return len(text) > HEAVY_GRAMMAR
    form = contract.form.json if isinstance(contract.form, ModelForm) else contract.form
    weight = form.weight if isinstance(form, JsonForm) else 1
    return len(text) > HEAVY or weight * len(text) > HEAVY_WORK


def _ends_by_itself(contract: Contract, value: Any) -> bool:
    """Whether nothing that comes after a valid answer could be part of it. A number could go on."""
    return contract.is_json and (isinstance(value, bool) or not isinstance(value, int | float))


# --- JSON -------------------------------------------------------------------------------------------------------------


def _mended(contract: Contract, text: str, checked: Checked, cut: bool) -> Met | Unmet:
    result = repair(text, contract.shape, contract.allow)
    if isinstance(result, Refused):
        return Unmet(text, (_refusal(result),) if _is_no_json(checked) else checked.violations, _data(text))
    if cut and "complete" not in contract.allow and any(map(_closes, result.ledger)):
        return Unmet(text, (_CUT,))
    if instead := _first(contract, text, result):
        return instead
    if result.ledger:
        checked = contract.check(result.text)
    if not checked.ok:
        return Unmet(result.text, checked.violations, _data(result.text), result.ledger)
    if cut and not _ends_by_itself(contract, checked.value):
        return Unmet(result.text, (_CUT,), ledger=result.ledger)
    return Met(result.text, checked.value, result.ledger)


def _closes(entry: Repair) -> bool:
    """Whether a repair closed brackets, or took out a member together with brackets that had been closed."""
    return entry.kind == "closed" or (entry.kind in DROPS and bool(entry.after))


def _first(contract: Contract, text: str, chosen: Repaired) -> Unmet | None:
    """Return why the value with which an answer begins is to be met, where another was chosen.

    Where it is complete it has to meet the contract; where it is broken, another stands for it only if a stream would
    not have been given up for what can be read of it.
    """
    if not chosen.ledger or chosen.ledger[0].kind not in ("passed_over", "prose") or "merge" in contract.allow:
        return None
    head = value_at_head(text, contract.shape, contract.allow)
    if isinstance(head, Refused):
        objection = Watch(contract).feed(text)
        return Unmet(text, (objection,)) if objection else None
    checked = contract.check(head.text) if head else None
    return (
        Unmet(head.text, checked.violations, _data(head.text), head.ledger)
        if head and checked and not checked.ok
        else None
    )


def _refusal(refused: Refused) -> Violation:
    keyword = {"cut": "cut", "too_deep": "limit", "too_long": "limit", "too_many": "limit"}.get(refused.reason, "json")
    return Violation("", f"no JSON that can be repaired: {refused.message} (at character {refused.offset})", keyword)


def _is_no_json(checked: Checked) -> bool:
    return any(violation.keyword == "json" for violation in checked.violations)


def _data(text: str) -> Any:
    try:
        return decode(text)
    except ValueError:
        return MISSING


# --- text -------------------------------------------------------------------------------------------------------------


def _unwrapped(contract: Contract, text: str) -> Met | None:
    """Take off what stands around an answer that is no JSON, as far as it needs to be, if it then passes."""
    constraint = contract.constraint
    if constraint is None:
        return None
    choices: tuple[str, ...] = constraint.value if constraint.kind == "choice" else ()
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    steps: list[tuple[str, int, int]] = [("space", start, end)]
    if (fenced := _FENCED.fullmatch(text)) and fenced[1] not in fenced[2]:
        steps.append(("fence", *fenced.span(2)))
    if choices and (within := _unquoted(text, *steps[-1][1:])):
        steps.append(("quotes", *within))
    for number, (_, start, end) in enumerate(steps):
        if start < end and (met := _passing(contract, text, steps[: number + 1], None)):
            return met
    start, end = steps[-1][1:]
    same = [choice for choice in choices if choice.casefold() == text[start:end].casefold()]
    return _passing(contract, text, steps, same[0]) if len(same) == 1 else None


def _passing(contract: Contract, text: str, steps: list[tuple[str, int, int]], instead: str | None) -> Met | None:
    """Return the answer that is left after some steps, with another in its place perhaps, if it passes."""
    start, end = steps[-1][1:]
    checked = contract.check(text[start:end] if instead is None else instead)
    if not checked.ok:
        return None
    heads, tails, outer = [], [], (0, len(text))
    for kind, *inner in steps:
        if outer[0] < inner[0]:
            heads.append(Repair(kind, outer[0], text[outer[0] : inner[0]], ""))
        if inner[1] < outer[1]:
            tails.append(Repair(kind, inner[1], text[inner[1] : outer[1]], ""))
        outer = (inner[0], inner[1])
    if instead is not None and instead != text[start:end]:
        heads.append(Repair("enum_case", start, text[start:end], instead))
    return Met(text[start:end] if instead is None else instead, checked.value, (*heads, *reversed(tails)))


def _unquoted(text: str, start: int, end: int) -> tuple[int, int] | None:
    for opening, closing in _QUOTES.items():
        size = len(opening)
        if end - start > 2 * size and text.startswith(opening, start) and text.endswith(closing, start + size, end):
            inner = text[start + size : end - size]
            left = len(inner) - len(inner.lstrip())
            return (start + size + left, start + size + len(inner.rstrip())) if inner.strip() else None
    return None
