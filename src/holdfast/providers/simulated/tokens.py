"""What the simulator takes for a token: a word with the white space before it. Ideographs and kana are words alone."""

import hashlib
import itertools
import re

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"\s*[{_ALONE}]|\s*[^\s{_ALONE}]+|\s+\Z")
_LEXICON = re.findall(
    r"\w+",
    "kelp anchors where water moves and rock holds still so every strand leans with the tide but none of them leaves "
    "because a small grip kept well is worth more than strength spent late",
)


def tokenize(text: str) -> list[str]:
    """Split a text into tokens, which joined give the text.

    >>> tokenize("Two  words.")
    ['Two', '  words.']
    """
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """Return the number of tokens in a text."""
    return len(_TOKEN.findall(text))


def prose(words: int) -> str:
    """Return a text of exactly so many tokens, always the same.

    >>> prose(3)
    'kelp anchors where'
    """
    return " ".join(itertools.islice(itertools.cycle(_LEXICON), words))


def fraction(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
