"""Watches an answer while it comes: whether it can still meet its contract, and what is known of it so far.

Not strict, the final check is `meet`, which repairs: only what no repair and no continuation can mend is objected to.
Strict, the text goes to the caller as it is, so that anything is objected to that `Contract.check` will refuse. Either
way nothing is objected to that passes in the end, and how a text is split into pieces makes no difference.
"""

import re
from typing import Any, Final

import msgspec

from holdfast.contracts.base import MAX_TEXT, Contract, Violation, too_long
from holdfast.contracts.repairs.candidates import FENCE
from holdfast.contracts.repairs.repair import MAX_LENGTH
from holdfast.contracts.streaming.fields import Fields, Objection
from holdfast.contracts.streaming.prefixes import Watcher, watchers_of_text
from holdfast.pointers import step

MOST_POINTERS: Final = 4096
_MAX_FENCE: Final = 200
_BRACKET: Final = re.compile(r"[{\[]")
_JSON: Final = frozenset('"[tfn-0123456789')
"""What JSON begins with that is no object."""
_TOO_LONG_TO_REPAIR: Final = Violation(
    "", f"the answer is no JSON as it is, and longer than {MAX_LENGTH:,} characters", "limit"
)


class Partial(msgspec.Struct, frozen=True):
    """An answer as far as it is known."""

    value: Any
    """A JSON value, or the text where the answer is none. None: nothing is known. It goes on growing while the answer
    does, so it is to be encoded or copied at once."""
    complete: tuple[str, ...] = ()
    """JSON pointers of what is complete, in order: "" for the whole. Those beyond some thousands are not told."""


def complete_of(value: Any) -> tuple[str, ...]:
    """Return what `Partial.complete` has of a whole value: at most `MOST_POINTERS` places, and the whole."""
    found: list[str] = []
    _list(value, "", found)
    return (*found[:MOST_POINTERS], "")


def _list(value: Any, path: str, found: list[str]) -> None:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        if len(found) >= MOST_POINTERS:
            return
        below = f"{path}/{step(key)}"
        _list(member, below, found)
        found.append(below)


class Watch:
    """Watches one answer. It is for one thread."""

    def __init__(self, contract: Contract, *, strict: bool = False) -> None:
        self._json = _JsonAnswer(contract, strict=strict) if contract.is_json else None
        self._text: list[str] | None = None if self._json else []
        self._watchers: list[Watcher] = [self._json] if self._json else []
        self._watchers += watchers_of_text(contract, strict=strict)
        self._length = 0
        self._violation: Violation | None = None
        self.stopped: int | None = None
        """How many characters it took to know that the contract can't be met, None: it can."""

    def feed(self, text: str) -> Violation | None:
        """Take what comes next; return the first reason why the answer can't meet its contract any more.

        It never raises. Once there is a reason, it stays, and nothing more is looked at.
        """
        if self._violation is None and text:
            self._feed(text)
        return self._violation

    def partial(self) -> Partial:
        if self._json is not None:
            return Partial(self._json.known(), self._json.complete)
        if not self._text:
            return Partial(None)
        self._text = ["".join(self._text)]
        return Partial(self._text[0])

    def _feed(self, text: str) -> None:
        if over := max(self._length + len(text) - MAX_TEXT, 0):
            text = text[: len(text) - over]
        self._length += len(text)
        if self._text is not None:
            self._text.append(text)
        for watcher in self._watchers:
            try:
                watcher.feed(text)
            except Objection as objection:
                if self.stopped is None or objection.at < self.stopped:
                    self.stopped, self._violation = objection.at, objection.violation
        if over and self._violation is None:
            self.stopped, self._violation = MAX_TEXT + 1, too_long(MAX_TEXT + 1)


class _JsonAnswer:
    """An answer that is to be JSON: what stands before it, and the JSON itself."""

    def __init__(self, contract: Contract, *, strict: bool) -> None:
        self._contract = contract
        self._fields: Fields | None = Fields(contract, strict=True) if strict else None
        self._is_prose = False
        self._impure_at: int | None = None
        self._head = ""
        self._length = 0

    def feed(self, text: str) -> None:
        before, self._length = self._length, self._length + len(text)
        if self._fields is not None:
            self._fields.feed(text)
        elif not self._is_prose:
            self._begin(text, before)
        if self._length > MAX_LENGTH and (at := self._impure_at or (self._fields and self._fields.impure_at)):
            raise Objection(_TOO_LONG_TO_REPAIR, max(at, MAX_LENGTH + 1))

    def _begin(self, text: str, before: int) -> None:
        """Look for the bracket with which the answer begins, in a code fence perhaps. Anything else is prose."""
        begun = (self._head + text).lstrip()
        if not begun:
            return
        first = before + len(text) - len(begun)
        if begun[0] in "`~":
            self._impure_at = first + 1
            self._begin_fenced(begun, first)
        elif begun[0] == "{" or (begun[0] == "[" and self._contract.shape.allows("array")):
            self._read(begun, first)
        else:
            self._is_prose = True
            self._impure_at = None if begun[0] in _JSON else first + 1

    def _begin_fenced(self, begun: str, first: int) -> None:
        bracket = _BRACKET.search(begun, 0, _MAX_FENCE)
        if bracket is None:
            self._head = begun
            self._is_prose = len(begun) >= _MAX_FENCE
        elif FENCE.fullmatch(begun, 0, bracket.start()) and (bracket[0] == "{" or self._contract.shape.allows("array")):
            self._read(begun[bracket.start() :], first + bracket.start())
        else:
            self._is_prose = True

    def _read(self, text: str, before: int) -> None:
        self._head = ""
        self._fields = Fields(self._contract, strict=False, base=before)
        self._fields.feed(text)

    def known(self) -> Any:
        return self._fields.known() if self._fields else None

    @property
    def complete(self) -> tuple[str, ...]:
        return tuple(self._fields.complete) if self._fields else ()
