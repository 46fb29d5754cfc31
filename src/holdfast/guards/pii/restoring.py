"""Put the originals back where their stand-ins are, in a text, in JSON, and in a stream of either.

In JSON a stand-in is found whichever way its characters are escaped, and its original is escaped as JSON wants it.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_START = re.compile(r"(?<![0-9])[0-9]|(?<![0-9A-Za-z])[A-Za-z]|[+(]|[^\x00-\x7f]")
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_CUT_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)\Z")
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_DIGITS = frozenset("0123456789")
_ALNUM = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Match(NamedTuple):
    """A stand-in at `text[start:end]`."""

    start: int
    end: int
    standin: str


class Decoded:
    """A text, or JSON with its escapes undone, and where each of its characters is in what was given."""

    def __init__(self, raw: str, in_json: bool) -> None:
        self.raw = raw
        self.text = raw
        self._escapes: list[int] = []
        self._longer: list[int] = [0]
        if in_json and "\\" in raw:
            self._undo()

    def _undo(self) -> None:
        parts, at, length = [], 0, 0
        for match in _ESCAPE.finditer(self.raw):
            plain = self.raw[at : match.start()]
            parts += [plain, chr(int(match[1], 16)) if match[1] else _SHORT.get(match[2], match[2])]
            length += len(plain) + 1
            self._escapes.append(length - 1)
            self._longer.append(self._longer[-1] + match.end() - match.start() - 1)
            at = match.end()
        self.text = "".join([*parts, self.raw[at:]])

    def at(self, position: int) -> int:
        """Return where in the raw text the character at a position of `text` starts."""
        return position + self._longer[bisect_left(self._escapes, position)]


def escaped(text: str) -> str:
    """Return a text as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def fits(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` stands by itself: no digit goes on with digits, no word with letters or digits."""
    if start and text[start - 1] in _kin(text[start]):
        return False
    return end >= len(text) or text[end] not in _kin(text[end - 1])


def _kin(char: str) -> frozenset[str]:
    return _DIGITS if char in _DIGITS else _ALNUM if char in _ALNUM else frozenset()


class Table:
    """What stands for what, made ready for finding it: in time linear in the text, however many there are."""

    def __init__(self, originals: Mapping[str, str]) -> None:
        self.originals = originals
        self._width = min(map(len, originals), default=0)
        self.longest = max(map(len, originals), default=0)
        self._by_start: dict[str, list[str]] = {}
        for standin in sorted(originals, key=len, reverse=True):
            self._by_start.setdefault(standin[: self._width], []).append(standin)
        self._prefixes: frozenset[str] | None = None

    @property
    def prefixes(self) -> frozenset[str]:
        """All that a stand-in may have begun with when a piece of a stream ends."""
        if self._prefixes is None:
            self._prefixes = frozenset(
                standin[:length] for standin in self.originals for length in range(1, len(standin) + 1)
            )
        return self._prefixes

    def find(self, text: str, whole: bool = True) -> Iterator[Match]:
        """Iterate over the stand-ins in a text, the leftmost first and of those the longest.

        One at the end of a text that is not `whole` is not certain yet, and is none.
        """
        if not self.originals:
            return
        done, by_start, width = 0, self._by_start, self._width
        for start in _START.finditer(text):
            at = start.start()
            candidates = by_start.get(text[at : at + width])
            if candidates is None or at < done:
                continue
            for standin in candidates:
                end = at + len(standin)
                if text.startswith(standin, at) and fits(text, at, end) and (whole or end < len(text)):
                    yield Match(at, end, standin)
                    done = end
                    break


class Restorer:
    """Restores a text that comes in pieces: whatever the pieces, what comes out is the restored text.

    It holds back no more than what may be the beginning of a stand-in.
    """

    def __init__(self, table: Table, in_json: bool = False) -> None:
        self._table = table
        self._json = in_json
        self.held = ""
        """What was fed and is not certain yet."""
        self._previous = ""

    def feed(self, text: str) -> str:
        """Take the next piece and return what is certain."""
        return self._restore(self.held + text, whole=False)

    def end(self) -> str:
        """Return the rest."""
        return self.end_with("")

    def end_with(self, text: str) -> str:
        """Take the last piece and return the rest."""
        return self._restore(self.held + text, whole=True)

    def _restore(self, raw: str, whole: bool) -> str:
        cut = _CUT_ESCAPE.search(raw[-64:]) if self._json and not whole else None
        usable = raw[: len(raw) - len(cut[1])] if cut else raw
        decoded = Decoded(usable, self._json)
        text, skip = self._previous + decoded.text, len(self._previous)
        matches = [match for match in self._table.find(text, whole) if match.start >= skip]
        hold = len(text) if whole else self._hold(text, skip, matches)
        released, at = [], 0
        for match in matches:
            if match.start >= hold:
                break
            start, end = decoded.at(match.start - skip), decoded.at(match.end - skip)
            original = self._table.originals[match.standin]
            released += [usable[at:start], escaped(original) if self._json else original]
            at = end
        stop = decoded.at(hold - skip)
        released.append(usable[at:stop])
        self.held = raw[stop:]
        self._previous = text[hold - 1 : hold]
        return "".join(released)

    def _hold(self, text: str, skip: int, matches: list[Match]) -> int:
        """Return from where on the text may be the beginning of a stand-in."""
        covered = iter([*matches, Match(len(text), len(text), "")])
        match = next(covered)
        prefixes = self._table.prefixes
        for at in range(max(len(text) - self._table.longest, skip), len(text)):
            while match.end <= at < len(text) and match.standin:
                match = next(covered)
            if not (match.start < at < match.end) and text[at:] in prefixes:
                return at
        return len(text)
