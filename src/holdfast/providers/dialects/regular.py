"""Regular expressions for servers: those that every engine reads alike, and their like in GBNF, llama.cpp's grammars.

What is not among them (classes of Unicode, boundaries of words, look-around, back-references) goes to no server.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from holdfast.privacy.memories import remembering

MAX_REPEATED: Final = 1_000
"""The highest count of a repetition: engines write it out."""
MAX_LENGTH: Final = 2_000
"""The longest expression, in characters."""
_MAX_NESTED: Final = 50

_SPACE: Final = "\\x09-\\x0D \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_SETS: Final = {"d": "0-9", "w": "0-9A-Z_a-z", "s": _SPACE}
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_COUNTED: Final = re.compile(r"\{(\d{1,4})(,(\d{1,4})?)?\}")
_GROUP: Final = re.compile(r"\((\?:|\?P?<[A-Za-z_]\w{0,63}>)?(?!\?)")
_SPECIAL: Final = frozenset("^$.*+?()[]{}|")
_ANY: Final = r"[^\x0A]"


class _NotSimple(Exception):
    pass


class _Read(NamedTuple):
    grammar: str
    """The expression in GBNF."""
    plain: str
    """The expression without the anchors at its ends."""
    anchored: bool
    """Whether it only ever matches from the start to the end."""


def plain(pattern: str) -> str | None:
    """Return an expression that matches the same whole texts without anchors, None if engines differ about it."""
    found = _read(pattern)
    return None if found is None else found.plain


def is_anchored(pattern: str) -> bool:
    """Whether every engine reads it alike, and it describes texts from their start to their end."""
    found = _read(pattern)
    return found is not None and found.anchored


def gbnf_of_pattern(pattern: str) -> str | None:
    """Return a grammar of the whole texts that an expression matches, None where there is none."""
    found = _read(pattern)
    return None if found is None else f"root ::= {found.grammar}"


def gbnf_of_choices(choices: Iterable[str]) -> str:
    """Return a grammar of some texts."""
    return "root ::= " + " | ".join(_literal(choice) for choice in choices)


def pattern_of_choices(choices: Iterable[str]) -> str:
    """Return a regular expression that matches some texts and nothing else."""
    return "|".join(re.sub(r"[\\.^$|?*+()\[\]{}]", r"\\\g<0>", choice) for choice in choices)


@remembering(256)
def _read(pattern: str) -> _Read | None:
    if len(pattern) > MAX_LENGTH:
        return None
    try:
        return _Reader(pattern).read()
    except _NotSimple:
        return None


class _Reader:
    """Reads an expression by recursive descent."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def read(self) -> _Read:
        grammars, plains, anchored = [], [], True
        while True:
            start = self._take("^")
            begin = self._at
            grammars.append(self._sequence(0))
            plains.append(self._text[begin : self._at])
            anchored = self._take("$") and start and anchored
            if not self._take("|"):
                break
        if self._at < len(self._text):
            raise _NotSimple
        return _Read(" | ".join(grammars), "|".join(plains), anchored)

    def _take(self, character: str) -> bool:
        found = self._text.startswith(character, self._at)
        self._at += found
        return found

    def _next(self) -> str:
        if self._at == len(self._text):
            raise _NotSimple
        self._at += 1
        return self._text[self._at - 1]

    def _alternatives(self, depth: int) -> str:
        parts = [self._sequence(depth)]
        while self._take("|"):
            parts.append(self._sequence(depth))
        return " | ".join(parts)

    def _sequence(self, depth: int) -> str:
        items: list[str] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)$":
            items.append(self._item(depth) + self._times())
        return " ".join(items) or '""'

    def _item(self, depth: int) -> str:
        group = _GROUP.match(self._text, self._at)
        if group is not None:
            if depth >= _MAX_NESTED:
                raise _NotSimple
            self._at = group.end()
            inner = self._alternatives(depth + 1)
            if not self._take(")"):
                raise _NotSimple
            return f"({inner})"
        character = self._next()
        if character == "[":
            return self._class()
        if character == ".":
            return _ANY
        if character == "\\":
            return self._escape()
        if character in _SPECIAL:
            raise _NotSimple
        return _literal(character)

    def _times(self) -> str:
        """Read how often the last item comes. Whether that is greedy makes no difference to whole texts."""
        counted = _COUNTED.match(self._text, self._at)
        if counted is not None:
            low, high = int(counted[1]), int(counted[3] or counted[1])
            if high > MAX_REPEATED or high < low:
                raise _NotSimple
            self._at = counted.end()
            times = counted[0]
        else:
            times = next((sign for sign in "*+?" if self._take(sign)), "")
        if times:
            self._take("?")
            if self._text.startswith(("*", "+", "?", "{"), self._at):
                raise _NotSimple
        return times

    def _escape(self) -> str:
        letter = self._next()
        if letter.lower() in _SETS:
            return f"[{'^' * letter.isupper()}{_SETS[letter.lower()]}]"
        return _literal(self._character(letter))

    def _character(self, letter: str) -> str:
        """Return the character that an escape stands for."""
        digits = {"x": 2, "u": 4}.get(letter)
        if digits is not None:
            code = self._text[self._at : self._at + digits]
            if not re.fullmatch(f"[0-9A-Fa-f]{{{digits}}}", code) or 0xD800 <= int(code, 16) < 0xE000:
                raise _NotSimple
            self._at += digits
            return chr(int(code, 16))
        if letter == "0" and self._text[self._at : self._at + 1].isdigit():
            raise _NotSimple
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter.isalnum() or not letter.isascii() or letter == "_":
            raise _NotSimple
        return letter

    def _class(self) -> str:
        parts = ["^"] if self._take("^") else []
        empty = len(parts)
        while not self._take("]"):
            parts.append(self._range())
        if len(parts) == empty:
            raise _NotSimple
        return f"[{''.join(parts)}]"

    def _range(self) -> str:
        first = self._member()
        if len(first) > 1 or not self._text.startswith("-", self._at) or self._text.startswith("-]", self._at):
            return first if len(first) > 1 else _in_class(first)
        self._at += 1
        last = self._member()
        if len(last) > 1 or last < first:
            raise _NotSimple
        return f"{_in_class(first)}-{_in_class(last)}"

    def _member(self) -> str:
        """Return a character, or the ranges of a set such as \\d."""
        character = self._next()
        if character == "\\":
            letter = self._next()
            return _SETS[letter] if letter in _SETS else self._character(letter)
        if character == "[" or (character in "&~-" and self._text.startswith(character, self._at)):
            raise _NotSimple  # some engines have operations on sets
        return character


def _literal(text: str) -> str:
    return '"' + "".join(_escaped(character, '"\\') for character in text) + '"'


def _in_class(character: str) -> str:
    return _escaped(character, "\\]^-[")


def _escaped(character: str, special: str) -> str:
    if character in special or character < " " or character == "\x7f":
        return f"\\x{ord(character):02X}"
    return character
