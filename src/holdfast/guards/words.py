"""The words of a text in any script, folded, and where they are: for texts to be compared word by word.

Case, the ways to write a character (NFC, NFKC), invisible characters, punctuation and markdown make no difference.
Accents do, and so do look-alikes. Scripts that put no space between words give every character as a word, so that a
phrase in them is found wherever it is.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import cache
from typing import Final

_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1100-\u11ff\uac00-\ud7ff"  # Hangul, which has spaces, but one word in many forms
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Han
)
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_IS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_WORD: Final = re.compile("[A-Za-z0-9]+")
_ASCII: Final = bytes(
    ord(chr(code).lower()) if code > 127 or chr(code).isalnum() else ord(" ") for code in range(128)
) + bytes(range(128, 256))
_CACHED: Final = 8192
_PIECE: Final = 256
_CUT: Final = re.compile(r"[\s\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uac00-\ud7a3]")


class _Folds(dict[int, str]):
    """What each character beyond ASCII becomes: letters, nothing, or a space."""

    def __missing__(self, code: int) -> str:
        folded = _fold(chr(code))
        if len(self) < _CACHED:
            self[code] = folded
        return folded


def _fold(character: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
    if _IS_UNSPACED.match(folded) and not _INVISIBLE.match(character):
        return f" {' '.join(folded)} "
    if unicodedata.category(character) == "Cf" or _INVISIBLE.match(character):
        return ""
    return "".join([c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in folded])


_FOLDS: Final = _Folds()


def words(text: str) -> list[str]:
    """Return the words of a text, folded, as often as they occur.

    >>> words("Où est **mon** colis_42?  東京")
    ['où', 'est', 'mon', 'colis', '42', '東', '京']
    """
    if not text.isascii():
        text = _BEYOND_ASCII.sub(lambda run: run[0].translate(_FOLDS), unicodedata.normalize("NFC", text))
    return text.encode("utf-8", "surrogatepass").translate(_ASCII).decode("utf-8", "surrogatepass").split()


def places(text: str, wanted: Collection[int]) -> dict[int, tuple[int, int]]:
    """Return where words of a text start and end, by their index in `words(text)`."""
    found: dict[int, tuple[int, int]] = {}
    missing = sorted(wanted, reverse=True)
    first = 0
    for start, end in _pieces(text):
        if not missing:
            break
        piece = text[start:end]
        after = first + len(words(piece))
        if missing[-1] < after:
            spans = _places(piece)
            while missing and missing[-1] < after:
                index = missing.pop()
                low, high = spans[index - first]
                found[index] = (start + low, start + high)
        first = after
    return found


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text where no word goes on and no character joins the one before."""
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + _PIECE)
        end = cut.start() if cut else len(text)
        yield start, end
        start = end


def _places(text: str) -> list[tuple[int, int]]:
    if text.isascii():
        return [match.span() for match in _WORD.finditer(text)]
    found: list[tuple[int, int]] = []
    within = False
    for start, end, folded in _folded(text):
        for kind in folded:
            if kind == " ":
                within = False
            elif within:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
                within = True
    return found


def _folded(text: str) -> Iterator[tuple[int, int, str]]:
    """Iterate over characters, each with the marks and syllables that join it, and what they become."""
    normal = unicodedata.is_normalized("NFC", text)
    pattern = _character() if normal else _cluster()
    for match in pattern.finditer(text):
        piece = match[0]
        if piece.isascii():
            yield match.start(), match.end(), piece if piece.isalnum() else " "
        else:
            composed = piece if normal else unicodedata.normalize("NFC", piece)
            yield match.start(), match.end(), _ascii(composed.translate(_FOLDS))


def _ascii(folded: str) -> str:
    return folded if folded.isalpha() else "".join([c if not c.isascii() or c.isalnum() else " " for c in folded])


@cache
def _character() -> re.Pattern[str]:
    """Find a character, or several of ASCII that are all of a word or all between words."""
    return re.compile(r"(?s)[A-Za-z0-9]+|.")


@cache
def _cluster() -> re.Pattern[str]:
    """Find a character with those after it that may join it."""
    joining = [c for c in map(chr, range(0x300, 0x1F000)) if unicodedata.category(c)[0] == "M"]
    return re.compile(f"(?s).[{''.join(joining)}\u1160-\u11ff]*")
