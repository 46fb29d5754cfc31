"""The words of a text in any script, for texts to be compared by them."""

import functools
import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from typing import Final

MAX_TEXT: Final = 16_384
"""Characters of a text that are looked at."""

_UNSPACED: Final = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u1100-\u11ff\uac00-\ud7ff"  # Hangul, which has spaces, but one word in many forms
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_BY_SCRIPT: Final = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")


def normal(text: str) -> str:
    """Return a text without what is no matter of its words: case, kinds of white space, ways to write a character."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def clipped(text: str, most: int = MAX_TEXT) -> str:
    """Return a text whole, or of a longer one the first and the last half of `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} {text[-most // 2 :]}"


def words(text: str) -> list[str]:
    """Return the words of a text, folded, as often as they occur.

    Scripts that put no space between words give every two neighbouring characters instead, as is usual for Chinese,
    Japanese and Korean.

    >>> words("Où est mon colis_42 ?  東京都 日本")
    ['où', 'est', 'mon', 'colis', '42', '東京', '京都', '日本']
    """
    text = clipped(text)
    found = _runs()(normal(text).replace("_", " "))
    if text.isascii():
        return found
    return [word for run in found for word in ((run,) if run.isascii() else _split(run))]


def _split(run: str) -> list[str]:
    """Split what has no space in it where the script changes, and into pairs of characters where it knows no spaces."""
    parts: list[str] = []
    for part in _BY_SCRIPT.findall(run):
        if len(part) > 1 and _IS_UNSPACED.match(part):
            parts += [first + second for first, second in pairwise(part)]
        else:
            parts.append(part)
    return parts


@functools.cache
def _runs() -> Callable[[str], list[str]]:
    """Find letters and digits with the marks that belong to them, which are no part of `\\w`: the vowels of Hindi."""
    marks = [character for character in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(character)[0] == "M"]
    return re.compile(f"[\\w{''.join(marks)}]+").findall
