"""What an answer may not tell: the system prompt, canaries, secrets of the gateway, stand-ins of other sessions.

Deterministic, so it finds what is told verbatim or nearly: whatever the case, white space, punctuation, markdown or
invisible characters, and in base64, hexadecimal digits or escapes. What is translated, paraphrased, or spelt in a
cipher of its own is not found.
"""

import base64
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

from msgspec import Struct

from holdfast.guards.base import PASS, Context, Finding, Span, Verdict
from holdfast.guards.normal import normal
from holdfast.guards.words import places, words

SPAN: Final = 1024
"""What is told on more characters than this is not found."""
SHORTEST: Final = 8
"""Letters and digits that a canary or a secret has at least: shorter ones would be found by chance."""
_SHINGLE: Final = 4
_LEAST: Final = 6
_NEARLY: Final = 0.8
_ENCODED: Final = 60
"""Characters without white space that may hold some of a prompt, encoded."""
_ENCODED_WORD: Final = 16
"""Letters and digits of them in a row."""

StandIns = Callable[[str, Context], Iterable[Finding]]
"""Finds stand-ins that belong to another session than the context's."""


class Leaks:
    """Blocks answers that tell what they may not.

    - `prompt_words`: how many words of the system prompt an answer may not have, nearly in a row. Words count where
      four of them follow each other as in the prompt, and as many others may stand between. A shorter prompt may not
      be told to four fifths; one of less than six words is none to protect.
    - `secrets`: texts that may stand nowhere, in questions neither.
    - `stand_ins`: finds those of other sessions.
    """

    def __init__(
        self,
        name: str = "leaks",
        *,
        prompt_words: int = 12,
        secrets: Iterable[str] = (),
        stand_ins: StandIns | None = None,
    ) -> None:
        """Raise ValueError if a secret has less than 8 letters and digits, or `prompt_words` is less than 6."""
        if prompt_words < _LEAST:
            raise ValueError(f"prompt_words is {prompt_words}, and less than {_LEAST} are found in answers by chance")
        self.name = name
        self.span: Span = SPAN
        self._prompt_words = prompt_words
        self._secrets = tuple(map(_secret, secrets))
        self._stand_ins = stand_ins

    def check(self, text: str, context: Context) -> Verdict:
        found = sorted(self._found(text, context), key=lambda finding: (finding.start, finding.end))
        if not found:
            return PASS
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in found))
        return Verdict("block", f"tells {kinds}", max(finding.score for finding in found), findings=tuple(found))

    def _found(self, text: str, context: Context) -> Iterator[Finding]:
        said = Said(text)
        for secret in self._secrets:
            yield from said.find(secret, "a secret")
        if context.direction == "input":
            return
        for canary in context.canaries:
            if needle := Needle.of(canary):
                yield from said.find(needle, "a canary")
        if context.prompt:
            yield from _told(said, prompt_of(context.prompt), self._prompt_words)
        if self._stand_ins:
            yield from self._stand_ins(text, context)


def _secret(text: str) -> "Needle":
    needle = Needle.of(text)
    if needle is None:
        raise ValueError(f"a secret has less than {SHORTEST} letters and digits: it would be found by chance")
    return needle


# --- canaries and secrets ---------------------------------------------------------------------------------------------


class Needle(Struct, frozen=True, gc=False):
    """A text to be found however it is written. `spelt` are its letters and digits, both ways, and in hexadecimal
    digits; `encoded` is what of it is the same in base64 whatever stands before and after it."""

    spelt: tuple[str, ...]
    encoded: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Needle | None":
        """Return the needle for a text, None for one that would be found by chance."""
        return _needle(text)


@lru_cache(1024)
def _needle(text: str) -> Needle | None:
    letters = "".join(words(text))
    if len(letters) < SHORTEST:
        return None
    data = text.encode("utf-8", "surrogatepass")
    cores = [_core(b"0" * before + data, before) for before in range(3)]
    return Needle(
        (letters, letters[::-1], data.hex()),
        tuple(dict.fromkeys([*cores, *(core.replace("+", "-").replace("/", "_") for core in cores)])),
    )


def _core(data: bytes, before: int) -> str:
    """Return the characters of base64 that stand for bytes of the text alone, `before` others standing before them."""
    first, last = -(-before * 8 // 6), len(data) * 8 // 6
    return base64.b64encode(data).decode()[first:last]


class Said:
    """A text, its words, and its letters and digits in a row."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = words(text)
        self._letters = "".join(self.words)

    def find(self, needle: Needle, kind: str) -> Iterator[Finding]:
        """Yield where a needle is, however it is written."""
        yield from self._between([span for spelt in needle.spelt for span in _all(self._letters, spelt)], kind)
        for encoded in needle.encoded:
            for start, end in _all(self.text, encoded):
                yield Finding(kind, start, end)

    @property
    def may_hold_encoded(self) -> bool:
        """Whether some of a prompt may be encoded in it. Most texts have no word that is long enough."""
        if max(map(len, self.words), default=0) < _ENCODED_WORD:
            return False
        return max(map(len, self.text.split())) >= _ENCODED

    def _between(self, spans: Sequence[tuple[int, int]], kind: str) -> Iterator[Finding]:
        """Yield findings for ranges of the letters in a row."""
        if not spans:
            return
        starts = list(accumulate(map(len, self.words), initial=0))
        ranges = [(bisect_right(starts, start) - 1, bisect_right(starts, end - 1) - 1) for start, end in spans]
        where = places(self.text, {index for both in ranges for index in both})
        for first, last in ranges:
            start, end = where[first][0], where[last][1]
            if end - start <= SPAN:
                yield Finding(kind, start, end)


def _all(text: str, part: str) -> Iterator[tuple[int, int]]:
    at = text.find(part)
    while at >= 0:
        yield at, at + len(part)
        at = text.find(part, at + len(part))


# --- the system prompt ------------------------------------------------------------------------------------------------


class Prompt(Struct, frozen=True, gc=False):
    """The words of a system prompt, and each four of them that follow each other."""

    length: int
    vocabulary: frozenset[str]
    shingles: frozenset[tuple[str, ...]]


@lru_cache(256)
def prompt_of(text: str) -> Prompt:
    found = words(text)
    return Prompt(len(found), frozenset(found), frozenset(_shingles(found)))


def _shingles(found: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(found[at:] for at in range(_SHINGLE)), strict=False)


def _told(said: Said, prompt: Prompt, most: int) -> Iterator[Finding]:
    need = min(most, max(_LEAST, round(_NEARLY * prompt.length)))
    if prompt.length < need:
        return
    for start, end in _dense(said.text, said.words, prompt, need):
        yield Finding("the system prompt", start, end)
    if said.may_hold_encoded:
        decoded = normal(said.text)
        if decoded.layers:
            for start, end in _dense(decoded.text, words(decoded.text), prompt, need):
                yield Finding("the system prompt", *decoded.origin(start, end))


def _dense(text: str, words_found: Sequence[str], prompt: Prompt, need: int) -> list[tuple[int, int]]:
    """Return where `need` words of a prompt stand first, with no more others between them than there are of them."""
    covered = _covered(words_found, prompt)
    near = [
        (covered[at], covered[at + need - 1])
        for at in range(max(len(covered) - need + 1, 0))
        if covered[at + need - 1] - covered[at] < 2 * need
    ]
    for some in (near[: 4 * need], near):  # the first will do where a text repeats them
        where = places(text, {index for both in some for index in both})
        told = [(where[low][0], where[high][1]) for low, high in some]
        if found := _joined([(start, end) for start, end in told if end - start <= SPAN]):
            return found
    return []


def _covered(found: Sequence[str], prompt: Prompt) -> list[int]:
    """Return the indexes of the words that belong to a shingle of the prompt."""
    known = bytes(map(prompt.vocabulary.__contains__, found))
    run = b"\x01" * _SHINGLE
    covered: list[int] = []
    at = known.find(run)
    while at >= 0:
        if tuple(found[at : at + _SHINGLE]) in prompt.shingles:
            covered += range(max(at, covered[-1] + 1) if covered else at, at + _SHINGLE)
        at = known.find(run, at + 1)
    return covered


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that overlap, given by their starts in order."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
