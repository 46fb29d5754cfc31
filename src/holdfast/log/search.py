"""Looking for a text in bodies: no index holds them, so that calls are read one after the other, within bounds."""

import time
from collections.abc import Iterator
from typing import Any, Final

from holdfast.events import Call
from holdfast.log.base import MOST_MATCHES, Filter, Found, Match, Pause, Place, bodiless
from holdfast.log.bodies import Entry
from holdfast.log.view import call_json
from holdfast.pointers import step

MOST_PLACES: Final = 20
"""Places that are told of one call."""
_AROUND: Final = 60
"""Characters of an excerpt on either side of the text."""
_EVERY: Final = 8
"""Calls between two pauses."""


class Seeker:
    """Is shown calls in the order of a search, and keeps those that match, until it is `done`.

    Raises:
        ValueError: the text is empty.
    """

    def __init__(self, text: str, filter: Filter, most_calls: int, most_seconds: float, pause: Pause) -> None:
        if not text:
            raise ValueError("the text to look for is empty")
        self._text = text.casefold()
        self._most_matches = MOST_MATCHES if filter.limit is None else filter.limit
        self._most_calls = most_calls
        self._until = time.monotonic() + most_seconds
        self._pause = pause
        self._matches: list[Match] = []
        self._looked = self._withheld = 0

    @property
    def done(self) -> bool:
        """Whether all was found that was asked for, or enough was looked at."""
        return (
            len(self._matches) >= self._most_matches
            or self._looked >= self._most_calls
            or time.monotonic() >= self._until
        )

    def may_match(self, entry: Entry) -> bool:
        """Whether the text can be in bodies that are encoded: most calls need not be decoded.

        What is encoded around a text never hides its beginning, as that is no continuation of a character.
        """
        return any(self._text in bytes(raw).decode("utf-8", "replace").casefold() for raw in entry)

    def look(self, call: Call | None) -> None:
        """Look at a call with its bodies; None is one that was found not to match."""
        self._looked += 1
        if call is not None:
            self._withheld += call.withheld is not None
            if places := _places(call, self._text):
                self._matches.append(Match(bodiless(call), places))
        if self._looked % _EVERY == 0:
            self._pause()

    def skip(self) -> None:
        """Count a call whose bodies can't be read."""
        self._withheld += 1
        self.look(None)

    def found(self, next: str | None) -> Found:
        """Return what was found, and the call to go on from."""
        return Found(tuple(self._matches), self._looked, self._withheld, next)


def _places(call: Call, text: str) -> list[Place]:
    shown = call_json(call)
    said: dict[str, Any] = {name: shown.get(name) for name in ("request", "reply", "ledger", "message")}
    said["attempts"] = [{"message": attempt.message} for attempt in call.attempts]
    places: list[Place] = []
    for pointer, value in _strings(said):
        folded = value.casefold()
        if (start := folded.find(text)) >= 0:
            same = len(folded) == len(value)
            places.append(Place(pointer, _excerpt(value if same else folded, start, len(text))))
            if len(places) == MOST_PLACES:
                break
    return places


def _strings(value: Any) -> Iterator[tuple[str, str]]:
    """Yield every string within a JSON value with its pointer, in their order. Names are none."""
    left: list[tuple[str, Any]] = [("", value)]
    while left:
        pointer, value = left.pop()
        if isinstance(value, str):
            yield pointer, value
        elif isinstance(value, dict):
            left += [(f"{pointer}/{step(key)}", item) for key, item in reversed(value.items())]
        elif isinstance(value, list | tuple):
            left += [(f"{pointer}/{n}", item) for n, item in reversed(list(enumerate(value)))]


def _excerpt(text: str, start: int, length: int) -> str:
    first, end = max(0, start - _AROUND), start + length + _AROUND
    return ("…" if first else "") + text[first:end] + ("…" if end < len(text) else "")
