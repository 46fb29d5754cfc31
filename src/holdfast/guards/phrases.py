"""Phrases in a text, found word by word, and regular expressions that take time linear in the text."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from holdfast.guards.normal import normal
from holdfast.guards.words import words

MAX_WORDS: Final = 16
"""The longest phrase."""
MAX_PATTERN: Final = 1024
"""The longest pattern, in characters."""
_SIZE: Final = 2**16
"""Bytes that a pattern may take compiled. Where its states don't fit the cache, this bounds the time of a character."""
_CACHE: Final = 2**18

Range = tuple[int, int]


class Phrases:
    """A list of phrases. Their number does not matter to the time that it takes to find them, only their lengths do."""

    def __init__(self, phrases: Iterable[str]) -> None:
        """Raise ValueError if one has no words, or more than 16."""
        self._known = {_split(phrase) for phrase in phrases}
        self._lengths: dict[str, list[int]] = {}
        """How long those are that begin with a word, longest first."""
        for first, length in sorted({(phrase[0], -len(phrase)) for phrase in self._known}):
            self._lengths.setdefault(first, []).append(-length)

    def __bool__(self) -> bool:
        return bool(self._known)

    def find(self, found: Sequence[str]) -> Iterator[Range]:
        """Yield the ranges of words that are a phrase, the longest one at each word."""
        if self._lengths.keys().isdisjoint(found):
            return
        starts = self._lengths
        for at, word in enumerate(found):
            if word in starts:
                for length in starts[word]:
                    phrase = tuple(found[at : at + length])
                    if phrase in self._known:
                        yield at, at + len(phrase)
                        break


def _split(phrase: str) -> tuple[str, ...]:
    split = tuple(words(phrase))
    if not split:
        raise ValueError(f"{phrase!r} has no letters or digits")
    if len(split) > MAX_WORDS:
        raise ValueError(f"{phrase!r} has {len(split)} words, and a phrase may have {MAX_WORDS}: use a part of it")
    return split


def spared(hits: Iterable[Range], spares: Iterable[Range]) -> list[Range]:
    """Return the hits that are not within one of the spares."""
    ends: dict[int, int] = {}
    for start, end in spares:
        for at in range(start, end):
            ends[at] = max(ends.get(at, 0), end)
    return [(start, end) for start, end in hits if ends.get(start, 0) < end]


class Pattern:
    """A regular expression, in the dialect of JSON Schema, that matches somewhere in a text or not, whatever the case.

    A text is matched in NFKC, without invisible characters and look-alikes.
    """

    def __init__(self, source: str) -> None:
        """Raise ValueError if it is no regular expression that is matched in linear time, or the engine is missing."""
        rust = _engine()
        if len(source) > MAX_PATTERN:
            raise ValueError(f"a pattern has {len(source):,} characters, and may have {MAX_PATTERN:,}")
        options = rust.RegexOptions(size_limit=_SIZE, dfa_size_limit=_CACHE)
        try:
            for written in (
                source,
                f"(?i:{source})",
            ):  # alone first: "a)|(b" must not become valid by what is around it
                self._validator: Any = rust.Draft202012Validator({"pattern": written}, pattern_options=options)
        except (rust.ValidationError, ValueError):
            raise ValueError(
                f"{source!r} is no regular expression that is matched in linear time: look-around, back-references "
                "and long counted repetitions are not"
            ) from None

    def matches(self, text: str) -> bool:
        try:
            return bool(self._validator.is_valid(normal(text, 0).text))
        except ValueError:  # half of a surrogate pair
            return bool(self._validator.is_valid(normal(text.encode("utf-8", "replace").decode(), 0).text))


def _engine() -> Any:
    try:
        import jsonschema_rs
    except ImportError:
        raise ValueError('patterns need the package "jsonschema-rs": pip install "holdfast[contracts]"') from None
    return jsonschema_rs
