"""The deletion of calls that have become too old, a few at a time."""

import sqlite3
from collections.abc import Iterator, Sequence

from holdfast.log.base import BEGINNING, EVERYTHING, Cursor, Expired, Features
from holdfast.log.recorder import LARGE
from holdfast.log.rows import json_text

WALK = 8
"""How many calls are looked at, at most, for each that may be deleted."""

_OLDEST = (
    "SELECT seq, at_us, block, {chosen} AS chosen FROM call_rows"
    " WHERE at_us < ? AND (at_us, seq) > (?, ?) ORDER BY at_us, seq LIMIT ?"
)
_EVERYTHING = _OLDEST.format(chosen="? IS NOT NULL")
_NAMED = "(SELECT value FROM json_each(?))"
_ONLY = _OLDEST.format(chosen="profile IN (SELECT number FROM profiles WHERE feature IN " + _NAMED + ")")  # noqa: S608 a constant
_BUT = _OLDEST.format(
    chosen="profile IN (SELECT number FROM profiles WHERE feature IS NULL OR feature NOT IN " + _NAMED + ")"  # noqa: S608 a constant
)
_NEIGHBOURS = "SELECT DISTINCT block FROM call_rows WHERE seq BETWEEN ? AND ? AND block IS NOT NULL"
_DELETE_ATTEMPTS = "DELETE FROM other_attempts WHERE call IN (SELECT value FROM json_each(?))"
_DELETE_CALLS = "DELETE FROM call_rows WHERE seq IN (SELECT value FROM json_each(?))"
_DELETE_BLOCKS = "DELETE FROM body_blocks WHERE number IN (SELECT value FROM json_each(?))"


def expire(
    db: sqlite3.Connection,
    before_us: int,
    limit: int,
    features: Features = EVERYTHING,
    start: Cursor = BEGINNING,
) -> Expired:
    """Delete up to `limit` of the oldest calls that arrived before a time, within a transaction of the caller.

    A block of bodies goes with the last of its calls. Where it is calls to some features alone, those to others are
    passed over, but not many at once.
    """
    walk = limit if features == EVERYTHING else WALK * limit
    query, names = (_BUT, features.but) if features.only is None else (_ONLY, features.only - features.but)
    query = _EVERYTHING if features == EVERYTHING else query
    seen = db.execute(query, (json_text(sorted(names)), before_us, *start, walk)).fetchall()
    chosen = [row for row in seen if row["chosen"]]
    _delete(db, chosen[:limit])
    if len(chosen) > limit:
        last = chosen[limit - 1]
    elif len(seen) == walk:
        last = seen[-1]
    else:
        return Expired(len(chosen), None)
    return Expired(min(len(chosen), limit), (last["at_us"], last["seq"]))


def _delete(db: sqlite3.Connection, found: Sequence[sqlite3.Row]) -> None:
    numbers = sorted([row["seq"] for row in found])
    db.execute(_DELETE_ATTEMPTS, (json_text(numbers),))
    db.execute(_DELETE_CALLS, (json_text(numbers),))
    blocks = {row["block"] for row in found} - {None}
    for first, last in _reaches(numbers):
        blocks -= {row["block"] for row in db.execute(_NEIGHBOURS, (first, last))}
    db.execute(_DELETE_BLOCKS, (json_text(sorted(blocks)),))


def _reaches(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Return the ranges of numbers that calls may have whose bodies lie in a block with those of `numbers`, sorted."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] - numbers[end - 1] > 2 * LARGE:
            yield numbers[start] - LARGE, numbers[end - 1] + LARGE
            start = end
