"""Hide personal data behind stand-ins that keep its form, and restore it in what comes back.

A stand-in follows from a key, the session and the original by a keyed hash (HMAC-SHA-256), and encodes nothing: it can
be undone only by who has the original. Every request of a conversation carries the originals again, because the caller
was given restored answers; so any worker that has the key finds the same stand-ins and builds what it needs to restore
the answer from the request alone. Nothing is shared between workers, nothing is kept, and what one session hides never
appears in another. (A conversation that the provider keeps, so that a request does not repeat it, needs its `Hidden`
kept sealed in the session's store.)
"""

import hmac
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from msgspec import Struct

from holdfast.errors import HoldfastError
from holdfast.guards.base import Finding
from holdfast.guards.pii import detect, forms
from holdfast.guards.pii.restoring import Decoded, Restorer, Table, escaped

_ROUNDS = 16
_REFORMATTED = frozenset({"card", "iban", "national_number", "phone"})
"""Models tend to write these without their separators."""
_SHORTEST_REFORMATTED = 9


class NoStandin(HoldfastError):
    """No stand-ins could be found that can be told from the rest of the text. Mask or block instead."""


class Json(NamedTuple):
    """A text that is JSON, such as the arguments of a tool: its strings are hidden and restored by what they mean."""

    text: str


class Hidden(Struct, frozen=True, dict=True):
    """What stands for what. `originals` is by stand-in; it holds personal data: seal it wherever it is kept."""

    originals: dict[str, str] = {}

    @cached_property
    def _table(self) -> Table:
        return Table(self.originals)

    def restore(self, text: str, in_json: bool = False) -> str:
        """Return a text, or the text of JSON, with the originals in it."""
        return Restorer(self._table, in_json).end_with(text)

    def restorer(self, in_json: bool = False) -> Restorer:
        """Return what restores a text that comes in pieces."""
        return Restorer(self._table, in_json)


class _Place(NamedTuple):
    kind: str
    original: str
    start: int
    end: int


class Standins:
    """Finds and hides the personal data of one session. Pure: what it returns follows from what it is given."""

    def __init__(self, key: bytes, session: str, kinds: Collection[str] = detect.KINDS) -> None:
        self._key = hmac.digest(key, b"holdfast stand-ins\0" + session.encode("utf-8", "surrogatepass"), "sha256")
        self._kinds = frozenset(kinds)

    def hide(self, text: str, in_json: bool = False) -> tuple[str, Hidden]:
        """Return a text with stand-ins, and what restores it. See `hide_all`."""
        texts, hidden = self.hide_all([Json(text) if in_json else text])
        return texts[0], hidden

    def hide_all(self, texts: Sequence[str | Json]) -> tuple[list[str], Hidden]:
        """Return all the texts of one request with stand-ins, and what restores any answer to it.

        Give it all of a request at once: a stand-in differs from all that is in it, and one original has one stand-in.

        Raises:
            NoStandin: after many tries something of the text still looks like a stand-in.
        """
        decoded = [Decoded(text.text, True) if isinstance(text, Json) else Decoded(text, False) for text in texts]
        places = [self._places(text.text) for text in decoded]
        if not any(places):
            return [text.raw for text in decoded], Hidden()
        tries: dict[tuple[str, str], int] = {}
        for _ in range(_ROUNDS):
            chosen = self._choose(places, tries)
            table = Table(_originals(chosen))
            wrong = set()
            for text, here in zip(decoded, places, strict=True):
                wrong |= _unclear(text.text, here, chosen, table)
            if not wrong:
                break
            for again in _owners(wrong, chosen):
                tries[again] = tries.get(again, 0) + 1
        else:
            raise NoStandin
        hidden = [
            _spliced(text, here, chosen, isinstance(given, Json))
            for text, here, given in zip(decoded, places, texts, strict=True)
        ]
        return hidden, Hidden(dict(table.originals))

    def _places(self, text: str) -> list[_Place]:
        found: list[Finding] = detect.find(text)
        return [
            _Place(finding.kind, text[finding.start : finding.end], finding.start, finding.end)
            for finding in found
            if finding.kind in self._kinds
        ]

    def _choose(self, places: list[list[_Place]], tries: dict[tuple[str, str], int]) -> dict[tuple[str, str], str]:
        """Return the stand-in of each original, by kind and original: no two the same, and none an original."""
        originals = {place.original for here in places for place in here}
        taken, chosen = set(originals), dict[tuple[str, str], str]()
        for here in places:
            for place in here:
                if (place.kind, place.original) not in chosen:
                    standin = self._standin(place, tries, taken)
                    taken.add(standin)
                    chosen[place.kind, place.original] = standin
        return chosen

    def _standin(self, place: _Place, tries: dict[tuple[str, str], int], taken: set[str]) -> str:
        first = tries.get((place.kind, place.original), 0)
        value = f"{place.kind}\0{forms.canonical(place.kind, place.original)}".encode("utf-8", "surrogatepass")
        for n in range(first, first + 1000):
            seed = hmac.digest(self._key, n.to_bytes(4, "big") + value, "sha256")
            standin = forms.stand_in(place.kind, place.original, seed)
            if standin not in taken:
                return standin
        raise NoStandin


def _originals(chosen: dict[tuple[str, str], str]) -> dict[str, str]:
    """Return the originals by stand-in, and those without separators by stand-ins without."""
    originals = {standin: original for (_, original), standin in chosen.items()}
    for (kind, original), standin in chosen.items():
        if kind in _REFORMATTED:
            plain = _plain(standin)
            if len(plain) >= _SHORTEST_REFORMATTED:
                originals.setdefault(plain, _plain(original))
    return originals


def _plain(text: str) -> str:
    return "".join([char for char in text if char.isalnum() or char == "+"])


def _unclear(text: str, places: list[_Place], chosen: dict[tuple[str, str], str], table: Table) -> set[str]:
    """Return the stand-ins that would be restored where none was put."""
    parts, at, length, put = [], 0, 0, {}
    for place in places:
        standin = chosen[place.kind, place.original]
        length += place.start - at
        put[length] = standin
        length += len(standin)
        parts += [text[at : place.start], standin]
        at = place.end
    hidden = "".join([*parts, text[at:]])
    found = {match.start: match.standin for match in table.find(hidden)}
    wrong = {standin for start, standin in found.items() if put.get(start) != standin}
    return wrong or {standin for start, standin in put.items() if found.get(start) != standin}


def _owners(standins: set[str], chosen: dict[tuple[str, str], str]) -> list[tuple[str, str]]:
    return [owner for owner, standin in chosen.items() if standin in standins or _plain(standin) in standins]


def _spliced(text: Decoded, places: list[_Place], chosen: dict[tuple[str, str], str], in_json: bool) -> str:
    parts, at = [], 0
    for place in places:
        standin = chosen[place.kind, place.original]
        parts += [text.raw[at : text.at(place.start)], escaped(standin) if in_json else standin]
        at = text.at(place.end)
    return "".join([*parts, text.raw[at:]])
