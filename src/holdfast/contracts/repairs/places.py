"""Where each value of a JSON text stands, so that single values can be changed and the rest kept byte for byte."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from holdfast.contracts.repairs.source import MAX_STEPS

_TOKEN: Final = re.compile(r'\s*+("(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s,:\[\]{}"]++)')


class Place:
    """A value from `start` to `end`. `inner` are the keys or numbers of those in it, None for a scalar."""

    __slots__ = ("begins", "end", "inner", "is_object", "start")

    def __init__(self, begins: int, start: int, end: int, opening: str) -> None:
        self.begins, self.start, self.end = begins, start, end
        """`begins` is where its key does, if it has one."""
        self.is_object = opening == "{"
        self.inner: list[tuple[Any, Place]] | None = [] if opening in ("{", "[") else None

    def at(self, steps: Iterable[str]) -> "Place | None":
        """Return the place at a JSON pointer below it. Of a key that stands twice the last is meant."""
        place: Place | None = self
        for step in steps:
            inner = place.inner if place else None
            place = next((found for key, found in reversed(inner or ()) if str(key) == step), None)
        return place


def place_of(text: str) -> Place:
    """Return the place of the value of a text, which has to be JSON.

    Raises:
        ValueError: it has too many values to look at each.
    """
    root: Place | None = None
    stack: list[Place] = []
    key: tuple[str, int] | None = None
    count = 0
    for match in _TOKEN.finditer(text):
        start, end = match.span(1)
        char = text[start]
        if char in ",:":
            continue
        if char in "}]":
            stack.pop().end = end
        elif stack and stack[-1].is_object and key is None:
            key = msgspec.json.decode(match[1]), start
        else:
            if (count := count + 1) > MAX_STEPS:
                raise ValueError(f"it has more than {MAX_STEPS:,} values")
            place = Place(key[1] if key else start, start, end, char)
            if root is None:
                root = place
            elif (inner := stack[-1].inner) is not None:
                inner.append((key[0] if key else len(inner), place))
            key = None
            if place.inner is not None:
                stack.append(place)
    if root is None:
        raise ValueError("it holds no value")
    return root
