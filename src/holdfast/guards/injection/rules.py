"""Deterministic signs of an injection, beside the classifier: they hold for attacks that it was not trained on."""

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from holdfast.guards.injection.units import Unit

_SETS: Final = {
    "override": (
        frozenset(("all", "forget", "orders", "prior")),
        frozenset(("forget", "orders", "prior", "say")),
        frozenset(("forget", "orders", "prior", "show")),
        frozenset(("forget", "orders", "prior", "you")),
        frozenset(("forget", "orders", "prior", "new")),
        frozenset(("all", "forget", "orders", "say")),
        frozenset(("all", "forget", "prior", "say")),
        frozenset(("forget", "orders", "new", "you")),
        frozenset(("forget", "orders", "you", "say")),
        frozenset(("forget", "orders", "you", "show")),
        frozenset(("all", "forget", "orders", "you")),
    ),
    "leak": (
        frozenset(("show", "orders", "hidden", "you")),
        frozenset(("show", "orders", "prior", "you")),
        frozenset(("show", "hidden", "prior", "you")),
    ),
}
"""What one sentence is about, all of it, to be a sign."""

_FORGED: Final = re.compile(
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>"
    r"|\[/?(?:INST|SYSTEM|SYS)\]|<</?SYS>>"
    r"|</?(?:system|assistant|instructions?|system_prompt)>"
    r"|^[ \t]*(?:system|assistant|human)[ \t]*:[ \t]*\S",
    re.IGNORECASE | re.MULTILINE,
)
_FORGED_SIGNS: Final = (
    "<|", "[inst", "[/inst", "[sys", "<<sys", "<system", "</system", "<instr", "</instr", "<assistant", "</assistant",
    "system:", "system :", "assistant:", "assistant :", "human:", "human :",
)  # fmt: skip
_SPACED: Final = re.compile(r"(?<!\S)(?:[^\W\d_][ .·_-]){9,}[^\W\d_](?!\S)")
_PICTURE: Final = re.compile(r"!\[[^\]\n]{0,200}\]\(https?://[^)\s]{0,500}[?&=][^)\s]{0,500}[{\[<%$][^)\n]{0,200}\)")

_SHORT_WORDS: Final = 3
"""Characters a word below which a sentence may be of single letters."""


class Sign(Struct, frozen=True, gc=False):
    """A sign at `[start, end)` of a normalised text."""

    kind: str
    start: int
    end: int


def of_units(units: list[Unit], text: str) -> Iterator[Sign]:
    """Find sentences that tell the model to forget what it was told, or to show it, and words letter by letter."""
    for unit in units:
        if unit.end - unit.start < _SHORT_WORDS * len(unit.stems) and (
            spaced := _SPACED.search(text, unit.start, unit.end)
        ):
            yield Sign("spaced_letters", *spaced.span())
        if len(unit.concepts) < 3:
            continue
        for kind, sets in _SETS.items():
            if any(one <= unit.concepts for one in sets):
                yield Sign(kind, unit.start, unit.end)


def of_text(text: str) -> Iterator[Sign]:
    """Find forged turns of a conversation, and pictures that carry data away."""
    lower = text.lower()
    if any(sign in lower for sign in _FORGED_SIGNS):
        yield from (Sign("forged_turn", *match.span()) for match in _FORGED.finditer(text))
    if "](" in text:
        yield from (Sign("carries_data", *match.span()) for match in _PICTURE.finditer(text))
