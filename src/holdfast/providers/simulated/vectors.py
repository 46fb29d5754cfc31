"""Embeddings without a model: texts that share words have similar vectors.

Each word adds +1 or -1 at eight places that its hash names (a count sketch: Charikar, Chen, Farach-Colton, 2002), the
sum is scaled to length 1.
"""

import functools
import hashlib
import math
import re

_WORD = re.compile(r"\w+")
_PLACES = 8


@functools.lru_cache(maxsize=65_536)
def _sketch(word: str) -> tuple[tuple[int, float], ...]:
    digest = hashlib.blake2b(word.encode(), digest_size=4 * _PLACES).digest()
    numbers = [int.from_bytes(digest[at : at + 4]) for at in range(0, len(digest), 4)]
    return tuple([(number >> 1, 1.0 if number & 1 else -1.0) for number in numbers])


def embed(text: str, dimensions: int) -> tuple[float, ...]:
    """Return the unit vector of a text: the same every time, whatever the case of its letters."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        for place, sign in _sketch(word):
            vector[place % dimensions] += sign
    length = math.sqrt(math.fsum([number * number for number in vector]))
    if not length:  # every place met its opposite
        vector[0] = length = 1.0
    return tuple([number / length for number in vector])
