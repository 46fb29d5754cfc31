"""Texts that are near to another by the words that they share."""

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Set
from heapq import nlargest
from typing import Final

from holdfast.embed.words import words

K1: Final = 1.2
"""How soon more of the same word says no more."""
B: Final = 0.75
"""How much a long text is held to say less with a word."""
MAX_POSTINGS: Final = 2_000
"""Occurrences that one search reads to find candidates, the rarest words first."""
CANDIDATES: Final = 24
"""How many of those, beyond what is wanted, are then weighed by more common words too..."""
MORE_WORDS: Final = 16
"""...and by how many."""


class Bm25:
    """An inverted index, ranked by BM25. It may be used by any number of threads.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with 1 added to the odds in
    the weight of a word, so that none is negative. All that does not depend on the search is computed beforehand. The
    ranking is exact up to `MAX_POSTINGS`, so always for few texts; beyond, what shares only the most common words with
    the text is not seen.
    """

    __slots__ = ("_postings", "_size")

    def __init__(self, texts: Iterable[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        lengths = [count.total() for count in counts]
        mean = sum(lengths) / len(lengths) if any(lengths) else 1.0
        found: dict[str, list[tuple[int, int]]] = {}
        for number, count in enumerate(counts):
            for word, times in count.items():
                found.setdefault(word, []).append((number, times))
        norms = [K1 * (1 - B + B * length / mean) for length in lengths]
        self._size = len(counts)
        self._postings = {word: _Postings(postings, norms) for word, postings in found.items()}

    def nearest(self, text: str, most: int, without: Set[int] = frozenset()) -> list[int]:
        """Return the numbers of the nearest texts, the nearest first, at equal scores the one that came first.

        `without` are numbers that are not wanted. Texts that share no word come last; there are fewer than `most` only
        if there are no more texts.
        """
        known = [(len(self._postings[word].numbers), word) for word in set(words(text)) if word in self._postings]
        found = [self._postings[word] for _, word in sorted(known)]
        scores, read = _sums(found)
        for number in without & scores.keys():
            del scores[number]
        if read < len(found):
            scores = {number: scores[number] for number in _best(scores, most + CANDIDATES)}
            for postings in found[read : read + MORE_WORDS]:
                postings.add_to(scores)
        ranked = _best(scores, most)
        if len(ranked) < most:
            others = (number for number in range(self._size) if number not in scores and number not in without)
            ranked += [number for number, _ in zip(others, range(most - len(ranked)), strict=False)]
        return ranked


class _Postings:
    """The texts that have a word, and what it adds to the score of each."""

    __slots__ = ("gains", "numbers")

    def __init__(self, postings: list[tuple[int, int]], norms: list[float]) -> None:
        rest = len(norms) - len(postings)
        weight = math.log(1 + (rest + 0.5) / (len(postings) + 0.5))
        self.numbers = array("I", [number for number, _ in postings])
        self.gains = array("f", [weight * times * (K1 + 1) / (times + norms[number]) for number, times in postings])

    def add_to(self, scores: dict[int, float]) -> None:
        """Add to the scores of those that have one."""
        numbers, last = self.numbers, len(self.numbers)
        for number in scores:
            at = bisect_left(numbers, number)
            if at < last and numbers[at] == number:
                scores[number] += self.gains[at]


def _sums(found: list[_Postings]) -> tuple[dict[int, float], int]:
    """Return the scores by the first of some words, and by how many: as many as may be read."""
    scores: dict[int, float] = {}
    left = MAX_POSTINGS
    for read, postings in enumerate(found):
        left -= len(postings.numbers)
        if left < 0:
            return scores, read
        for number, gain in zip(postings.numbers, postings.gains, strict=True):
            scores[number] = scores.get(number, 0.0) + gain
    return scores, len(found)


def _best(scores: dict[int, float], most: int) -> list[int]:
    if not scores:
        return []
    least = nlargest(most, scores.values())[-1]
    best = sorted([(-score, number) for number, score in scores.items() if score >= least])
    return [number for _, number in best[:most]]
