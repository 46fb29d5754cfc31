"""The patterns of `corpus.toml`, filled in: attacks and harmless texts that the classifier is trained on."""

import random
import re
import tomllib
from importlib.resources import files
from typing import Any, Final, Literal

from msgspec import Struct

_SLOT: Final = re.compile(r"\{([^{}]*)\}")
ENGLISH, OTHERS = 8, 5
"""How often a pattern is filled in."""

Source = Literal["attack", "planted", "harmless", "passage"]
"""What a row is: an attack wherever it stands; a request that attacks only by where it stands, in a text that was given
to be read; a harmless request; a text that asks for nothing."""


class Row(Struct, frozen=True, gc=False):
    """A text to train on. `family` is the kind of attack, `origin` the file."""

    text: str
    source: Source
    family: str = ""
    origin: str = ""
    language: str = ""


def corpus(seed: int = 1) -> list[Row]:
    """Return the patterns filled in, the same for a seed."""
    raw = (files(__package__) / "corpus.toml").read_text(encoding="utf-8")
    rows: list[Row] = []
    for language, given in tomllib.loads(raw).items():
        lists: dict[str, list[str]] = given.get("lists", {})
        for source, family, pattern, times in _patterns(given, ENGLISH if language == "en" else OTHERS):
            chance = random.Random(f"{seed} {pattern}")  # noqa: S311 - no secret
            texts = {_filled(pattern, lists, chance) for _ in range(times)}
            rows += [Row(text, source, family, "corpus", language) for text in sorted(texts)]
    return rows


def _patterns(given: dict[str, Any], times: int) -> list[tuple[Source, str, str, int]]:
    """Return each pattern with its source, its family and how often it is filled in."""
    found: list[tuple[Source, str, str, int]] = []
    for family, patterns in given.get("attacks", {}).items():
        found += [("attack", family, pattern, times) for pattern in patterns]
    for family, patterns in given.get("planted", {}).items():
        found += [("planted", family, pattern, times) for pattern in patterns]
    found += [("harmless", "", pattern, times) for pattern in given.get("harmless", ())]
    found += [("harmless", "", pattern, 5 * times) for pattern in given.get("trigger", ())]
    found += [("passage", "", pattern, times) for pattern in given.get("plain", ())]
    return found


def _filled(pattern: str, lists: dict[str, list[str]], chance: random.Random) -> str:
    def choose(match: re.Match[str]) -> str:
        chosen = chance.choice(match[1].split("|"))
        return chance.choice(lists[chosen[1:]]) if chosen.startswith("$") else chosen

    while _SLOT.search(pattern):
        pattern = _SLOT.sub(choose, pattern)
    return pattern
