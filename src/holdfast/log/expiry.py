"""The deletion of calls that have become too old, a few at a time."""

import sqlite3
from collections.abc import Iterator, Sequence

from holdfast.log.recorder import LARGE
from holdfast.log.rows import json_text

_OLDEST = "SELECT seq, block FROM call_rows WHERE at_us < ? ORDER BY at_us LIMIT ?"
_NEIGHBOURS = "SELECT DISTINCT block FROM call_rows WHERE seq BETWEEN ? AND ? AND block IS NOT NULL"
_DELETE_ATTEMPTS = "DELETE FROM other_attempts WHERE call IN (SELECT value FROM json_each(?))"
_DELETE_CALLS = "DELETE FROM call_rows WHERE seq IN (SELECT value FROM json_each(?))"
_DELETE_BLOCKS = "DELETE FROM body_blocks WHERE number IN (SELECT value FROM json_each(?))"


def expire(db: sqlite3.Connection, before_us: int, limit: int) -> int:
    """Delete up to `limit` of the oldest calls that arrived before a time, within a transaction of the caller.

    A block of bodies goes with the last of its calls.
    """
    found = db.execute(_OLDEST, (before_us, limit)).fetchall()
    numbers = sorted([row["seq"] for row in found])
    db.execute(_DELETE_ATTEMPTS, (json_text(numbers),))
    db.execute(_DELETE_CALLS, (json_text(numbers),))
    blocks = {row["block"] for row in found} - {None}
    for first, last in _reaches(numbers):
        blocks -= {row["block"] for row in db.execute(_NEIGHBOURS, (first, last))}
    db.execute(_DELETE_BLOCKS, (json_text(sorted(blocks)),))
    return len(found)


def _reaches(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Return the ranges of numbers that calls may have whose bodies lie in a block with those of `numbers`, sorted."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] - numbers[end - 1] > 2 * LARGE:
            yield numbers[start] - LARGE, numbers[end - 1] + LARGE
            start = end
