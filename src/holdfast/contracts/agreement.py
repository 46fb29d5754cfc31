"""Which answers to one question say the same, and which of them most agree on.

To ask several times and take what most answers say is self-consistency (X. Wang et al., 2022,
https://arxiv.org/abs/2203.11171).
"""

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from holdfast.pointers import NOWHERE, at

MOST_VALUES: Final = 10_000
"""Values of two answers that are compared one by one. What is longer is the same only to the letter."""
MOST_CHARACTERS: Final = 100_000
"""The same of a text."""
MOST_FIELDS: Final = 256
"""Fields, at any depth, of an answer that is voted on field by field. One with more is voted on as a whole."""
MOST_DEPTH: Final = 8
"""How deep objects in objects are voted on field by field."""


class _Sign:
    """Stands for something that no answer can say."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


FAILED: Final = _Sign("FAILED")
"""A sample that brought no answer: a vote for nothing."""
ABSENT: Final = NOWHERE
"""What an object says of a field that it does not have."""
_OBJECT: Final = _Sign("OBJECT")


# --- equality ---------------------------------------------------------------------------------------------------------


def same(a: Any, b: Any, tolerance: float = 1e-9, *, fold: bool = False) -> bool:
    """Whether two values of JSON say the same. Never raises.

    Numbers are the same up to a relative difference of `tolerance`, however they are written (1 and 1.0), but are no
    booleans. Texts are the same in Unicode's NFC with white space collapsed, with `fold` in any case too. The order of
    the keys of an object does not matter, that of a list does.

    >>> same({"n": 1, "s": "a  b"}, {"s": "a b", "n": 1.0})
    True
    >>> same([1, 2], [2, 1])
    False
    >>> same(1, True)
    False
    """
    left = MOST_VALUES
    pairs = [(a, b)]
    while pairs:
        if not left:
            return _to_the_letter(a, b)
        left -= 1
        one, other = pairs.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pairs += [(value, other[key]) for key, value in one.items()]
        elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif not _same_scalar(one, other, tolerance, fold):
            return False
    return True


def _same_scalar(a: Any, b: Any, tolerance: float, fold: bool) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        short = max(len(a), len(b)) <= MOST_CHARACTERS
        return a == b or (short and plain(a, fold=fold) == plain(b, fold=fold))
    if _is_number(a) and _is_number(b):
        return _same_number(a, b, tolerance)
    return type(a) is type(b) and bool(a == b)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_number(a: float, b: float, tolerance: float) -> bool:
    try:
        return a == b or math.isclose(a, b, rel_tol=tolerance)
    except OverflowError:  # a whole number beyond the floats
        return False


def _to_the_letter(a: Any, b: Any) -> bool:
    try:
        return msgspec.json.encode(a, order="deterministic") == msgspec.json.encode(b, order="deterministic")
    except (TypeError, ValueError, RecursionError, OverflowError):
        return False


def plain(text: str, *, fold: bool = False) -> str:
    """Return a text as it is compared: in NFC, white space collapsed, with `fold` without the difference of cases.

    >>> plain(" Two\\n words ", fold=True)
    'two words'
    """
    text = unicodedata.normalize("NFC", text)
    if fold:
        text = unicodedata.normalize("NFC", text.casefold())
    return " ".join(text.split())


class Equality(msgspec.Struct, frozen=True):
    """When two answers of a kind say the same: JSON by its values, choices in any case, other texts by their words.

    With `on`, JSON pointers, only what stands there counts: so that a reasoning may differ where the answer does not.
    Answers that have nothing there are compared as a whole.
    """

    kind: Literal["json", "choice", "text"] = "text"
    tolerance: float = 1e-9
    on: tuple[str, ...] = ()

    def value(self, text: str) -> Any:
        """Return what a text stands for. One that is no JSON, where that was expected, stands for itself."""
        if self.kind != "json":
            return text
        try:
            return msgspec.json.decode(text)
        except (ValueError, RecursionError, OverflowError):
            return text

    def __call__(self, a: Any, b: Any) -> bool:
        fold = self.kind == "choice"
        ones, others = [at(a, place) for place in self.on], [at(b, place) for place in self.on]
        if all(one is ABSENT for one in (*ones, *others)):
            return same(a, b, self.tolerance, fold=fold)
        return all(same(*pair, self.tolerance, fold=fold) for pair in zip(ones, others, strict=True))


# --- voting -----------------------------------------------------------------------------------------------------------

State = Literal["open", "decided", "failed"]
"""Whether more answers could change who wins; if not, whether enough agree."""


class Result(msgspec.Struct, frozen=True):
    """What came of a vote. `agreement` is the share of the `samples` counted that agree with `value`; those that failed
    count too. Of a vote by fields it is the share of the field that is agreed on least.

    `sample` is the number of the answer, in the order of arrival, that may be given as it came; None where the value
    was put together from several.
    """

    value: Any
    sample: int | None
    agreement: float
    samples: int


class Ballot:
    """Counts the answers of `samples` samples in the order in which they arrive; `agree` is the share that must agree.

    An answer belongs to the first class whose first answer, its leader, says the same. So no class is wider than the
    tolerance of numbers around its leader, although that is no equivalence: of 1.0, 1.1 and 1.2 the middle one may be
    the same as both others, which are not the same. Only for answers that far apart, and for classes of equal size, of
    which the one that was there first wins, does the order matter.

    The state is "decided" as soon as no answer still to come could change the winner or its being agreed on, and
    "failed" as soon as none could be agreed on any more.

    With `fields`, each field of an object is voted on by itself, as is whether it is there, objects in objects too.
    """

    def __init__(self, samples: int, agree: float, equality: Equality, *, fields: bool = False) -> None:
        self._samples = samples
        self._need = max(1, math.ceil(agree * samples - 1e-9))
        self._equality = equality
        self._fields = fields
        self._answers: list[Any] = []
        self._tally = _Tally(equality, MOST_DEPTH if fields else 0)

    def add(self, answer: Any = FAILED) -> State:
        """Count the answer that came next: a value of JSON or a text, or FAILED. Raises nothing, whatever it is."""
        self._answers.append(answer)
        if answer is not FAILED:
            self._tally.add(answer, whole=not self._fields or not _few_fields(answer))
        return self.state

    @property
    def state(self) -> State:
        return self._tally.state(self._samples - len(self._answers), self._need)

    def result(self) -> Result | None:
        """Return what most answers agree on so far, None if there are none."""
        if self._tally.leader is None:
            return None
        counted, value = len(self._answers), self._tally.value()
        return Result(value, self._sample_of(value), self._tally.votes() / counted, counted)

    def _sample_of(self, value: Any) -> int | None:
        for number, answer in enumerate(self._answers):
            if answer is value:
                return number
        others = enumerate(self._answers)
        return next((number for number, answer in others if self._equality(answer, value)), None)


class _Class:
    __slots__ = ("leader", "votes")

    def __init__(self, leader: Any, votes: int) -> None:
        self.leader = leader
        self.votes = votes


class _Tally:
    """The votes on one place: on the whole answer, or on a field of objects, down to `depth` objects below it."""

    __slots__ = ("_absent", "_classes", "_depth", "_equality", "_fields")

    def __init__(self, equality: Equality, depth: int, absent: int = 0) -> None:
        self._equality = equality
        self._depth = depth
        self._classes = [_Class(ABSENT, absent)] if absent else []
        self._fields: dict[str, _Tally] = {}

    def add(self, value: Any, *, whole: bool = False) -> None:
        if whole or not self._depth or not isinstance(value, dict):
            self._vote(value)
            return
        before = self._vote(_OBJECT) - 1
        for key in value:
            if key not in self._fields:
                self._fields[key] = _Tally(self._equality, self._depth - 1, before)
        for key, tally in self._fields.items():
            tally.add(value.get(key, ABSENT))

    def _vote(self, value: Any) -> int:
        """Count a vote, and return how many there are for the same."""
        for known in self._classes:
            if known.leader is value or (not _signs(known.leader, value) and self._equality(known.leader, value)):
                known.votes += 1
                return known.votes
        self._classes.append(_Class(value, 1))
        return 1

    @property
    def leader(self) -> _Class | None:
        """The largest class, of several the one that was there first."""
        return max(self._classes, key=lambda one: one.votes, default=None)

    def state(self, left: int, need: int) -> State:
        """Return what `left` further answers could change, where `need` votes are needed."""
        leader = self.leader
        if (0 if leader is None else leader.votes) + left < need:
            return "failed"
        if leader is None or not self._stays(leader, left):
            return "open"
        states = {tally.state(left, need) for tally in self._fields.values()} if leader.leader is _OBJECT else set()
        if "failed" in states:
            return "failed"
        return "open" if "open" in states or leader.votes < need else "decided"

    def _stays(self, leader: _Class, left: int) -> bool:
        """Whether no class, of those there are or a new one, could come before the leader."""
        first = True  # those that were there before the leader win where they are as large
        for other in self._classes:
            if other is leader:
                first = False
            elif other.votes + left >= leader.votes + (0 if first else 1):
                return False
        return left <= leader.votes

    def value(self) -> Any:
        """Return what most say."""
        assert self.leader is not None
        if self.leader.leader is not _OBJECT:
            return self.leader.leader
        said = {key: tally.value() for key, tally in self._fields.items()}
        return {key: value for key, value in said.items() if value is not ABSENT}

    def votes(self) -> int:
        """Return for how much of it the fewest voted."""
        assert self.leader is not None
        below = self._fields.values() if self.leader.leader is _OBJECT else ()
        return min([self.leader.votes, *[tally.votes() for tally in below]])


def _signs(a: Any, b: Any) -> bool:
    return isinstance(a, _Sign) or isinstance(b, _Sign)


def _few_fields(answer: Any) -> bool:
    """Whether an answer is small enough to be voted on field by field."""
    fields = 0
    for value in _objects(answer, MOST_DEPTH):
        fields += len(value)
        if fields > MOST_FIELDS:
            return False
    return True


def _objects(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if depth and isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner, depth - 1)


__all__: Sequence[str] = ("ABSENT", "FAILED", "Ballot", "Equality", "Result", "State", "plain", "same")
