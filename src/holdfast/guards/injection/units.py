"""A text in sentences and words, as the classifier sees it."""

import functools
import re
import tomllib
import unicodedata
from importlib.resources import files
from operator import add
from typing import Final

from msgspec import Struct

STEM: Final = 6
"""Letters of a word that are looked at, so that one entry stands for all its forms."""
_UNIT: Final = re.compile(r"(?s).{1,40}[^.!?\n。！？]{0,300}[.!?\n。！？]*")
"""A sentence; a shorter one goes with the next, and one that doesn't end is cut, so that there can't be too many."""
_TO_SPACE: Final = str.maketrans({c: " " for c in map(chr, range(128)) if not c.isalnum()})
_UNSPACED: Final = re.compile("[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7ff\uf900-\ufaff]+")
_CAPITALS: Final = re.compile(r"[A-ZÄÖÜ]{2,}(?:[^A-Za-z0-9\n]+[A-ZÄÖÜ]{2,}\b){3}")


class Unit(Struct, frozen=True, gc=False):
    """A sentence at `[start, end)` of a text, its words lower-case and cut to their stems, and what they are about."""

    start: int
    end: int
    stems: list[str]
    concepts: frozenset[str]


def units(text: str) -> list[Unit]:
    """Return the sentences of a text that was normalised before."""
    lower = _lower(text)
    ascii_only = text.isascii()
    spaced = lower.translate(_TO_SPACE) if ascii_only else _not_word().sub(" ", _without_punctuation(lower))
    unspaced = not ascii_only and _UNSPACED.search(text) is not None
    found, about = [], lexicon()
    known = _known().intersection
    for match in _UNIT.finditer(text):
        start, end = match.span()
        words = spaced[start:end].split()
        if unspaced:
            words = _paired(words)
        stems = [word[:STEM] for word in words]
        concepts = {about[stem] for stem in known(stems)}
        if len(concepts) > 1 and _CAPITALS.search(text, start, end):
            concepts.add("shout")
        found.append(Unit(start, end, stems, frozenset(concepts)))
    return found


def _without_punctuation(text: str) -> str:
    """Return a text with spaces for what is commonest of `_not_word`, which is faster to replace one by one."""
    for mark in ".,!?:;'\"()-/\n":
        text = text.replace(mark, " ")
    return text


def _lower(text: str) -> str:
    """Return a text in lower case that is as long as before: only one letter would become two."""
    return text.replace("\u0130", "I").lower()


def _paired(words: list[str]) -> list[str]:
    """Return every two neighbouring characters of words of scripts that put no space between words."""
    found = []
    for word in words:
        if word.isascii() or not _UNSPACED.search(word):
            found.append(word)
            continue
        for run in re.split(f"({_UNSPACED.pattern})", word):
            found += map(add, run, run[1:]) if _UNSPACED.match(run) else [run] * bool(run)
    return found


@functools.cache
def _not_word() -> re.Pattern[str]:
    """Find what is neither a letter or digit nor a mark that belongs to one, such as the vowels of Hindi."""
    marks = [c for c in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(c)[0] == "M"]
    return re.compile(f"[^\\w {''.join(marks)}]|_")


@functools.cache
def lexicon() -> dict[str, str]:
    """Return what stems are about. A word of two lists belongs to the first."""
    raw = (files(__package__) / "lexicon.toml").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for concept, listed in tomllib.loads(raw).items():
        for word in _lower(unicodedata.normalize("NFKC", listed)).split():
            found.setdefault(word[:STEM], concept)
    return found


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(lexicon())
