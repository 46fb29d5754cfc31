"""Vectors that are near to another by the angle between them, without a package for it."""

import math
from collections.abc import Sequence, Set
from heapq import nsmallest
from operator import mul
from typing import Final

MAX_BYTES: Final = 64 * 2**20
"""What the vectors of one index may take: 40,000 of 1,536 numbers."""
CANDIDATES: Final = 48
"""How many vectors, beyond what is wanted, are looked at exactly."""
_STEPS: Final = 127
_ZERO: Final = 128
_SMALLEST: Final = 1e-300


class Vectors:
    """Vectors of one length, each number in a byte, and found in two steps as is usual for quantized vectors.

    First by their signs: the bits in which two vectors differ tell of the angle between them (Charikar, "Similarity
    estimation techniques from rounding algorithms", 2002). Then those that differ least by the cosine, which is exact
    but for the rounding to bytes. Up to `CANDIDATES` vectors, that is all of them.
    """

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._norms: list[float] = []
        self._signs: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, vector: Sequence[float]) -> None:
        """Take in the next vector.

        Raises:
            ValueError: it has another length than those before, is not finite, or there is no room for it.
        """
        if self._rows and len(vector) != len(self._rows[0]):
            raise ValueError(f"a vector has {len(vector)} numbers, those before have {len(self._rows[0])}")
        if (len(self._rows) + 1) * len(vector) > MAX_BYTES:
            raise ValueError(f"the vectors take more than {MAX_BYTES >> 20} MiB")
        row = _rounded(vector)
        self._rows.append(bytes([number + _ZERO for number in row]))
        self._norms.append(_norm(row))
        self._signs.append(_signs(row))

    def nearest(self, vector: Sequence[float], most: int, without: Set[int] = frozenset()) -> list[int]:
        """Return the numbers of the nearest vectors, the nearest first, at equal angles the one that came first.

        `without` are numbers that are not wanted.

        Raises:
            ValueError: the vector has another length than the others, or is not finite.
        """
        if self._rows and len(vector) != len(self._rows[0]):
            raise ValueError(f"the vector has {len(vector)} numbers, the others have {len(self._rows[0])}")
        row = _rounded(vector)
        candidates = self._candidates(_signs(row), most + CANDIDATES + len(without))
        shift = sum(row) * _ZERO
        near = [
            ((shift - sum(map(mul, row, self._rows[number]))) / self._norms[number], number)
            for number in candidates
            if number not in without
        ]
        return [number for _, number in sorted(near)[:most]]

    def _candidates(self, signs: int, most: int) -> Sequence[int]:
        if len(self._rows) <= most:
            return range(len(self._rows))
        differing = [(signs ^ other).bit_count() for other in self._signs]
        return nsmallest(most, range(len(differing)), key=differing.__getitem__)


def _rounded(vector: Sequence[float]) -> list[int]:
    """Return a vector in whole numbers from -127 to 127, in the same direction. Raises ValueError."""
    if not all(map(math.isfinite, vector)):
        raise ValueError("a vector holds what is no finite number")
    largest = max(map(abs, vector), default=0.0)
    if largest < _SMALLEST:
        return [0] * len(vector)
    return [round(number / largest * _STEPS) for number in vector]


def _norm(row: list[int]) -> float:
    return math.sqrt(sum(map(mul, row, row))) or 1.0


def _signs(row: list[int]) -> int:
    """Return the signs of a vector as the bits of a number."""
    return int("".join(["1" if number > 0 else "0" for number in row]) or "0", 2)
