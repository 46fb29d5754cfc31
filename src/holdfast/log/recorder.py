"""Calls put into the tables, in pieces of work so short that a neighbour on the same processor never waits long."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence, Set
from functools import cache
from itertools import chain
from operator import add

from holdfast.errors import PrivacyError
from holdfast.events import Call, Correction, FingerprintChanged, Snapshot
from holdfast.log import rows
from holdfast.log.base import Pause, kept, no_pause, silent, speaks
from holdfast.log.bodies import Block, Packed, Packer, seal, unseal
from holdfast.log.profiles import Profiles
from holdfast.log.rows import Row
from holdfast.log.totals import (
    ATTEMPT_KEYS,
    ATTEMPT_SUMS,
    KEYS,
    SPEND_KEYS,
    SPEND_SUMS,
    SUMS,
    WIDTH,
    all_time,
    tally,
    tally_attempts,
)
from holdfast.privacy.sealing.sealer import Sealer, owner_of

SMALL, LARGE = 32, 128
"""Calls a piece of work, and a statement, with pauses between and without. Each statement hands the interpreter's lock
over: few rows keep the event loop from waiting long, many make few hand-overs."""

Group = tuple[Sequence[Call], Packed]
"""Calls that are to be kept, with their bodies packed."""
Storable = Callable[[Row], Row]

SUM_COLUMNS = (*SUMS, *(f"bucket_{n}" for n in range(WIDTH - len(SUMS))))
_NEXT = "SELECT seq + 1 FROM sqlite_sequence WHERE name = ?"
_BLOCKS = ("number", "codec", "data")
_FIND = (
    "SELECT seq, block, place, subject, codec, data FROM call_rows LEFT JOIN body_blocks ON number = block WHERE id = ?"
)
_HOMELESS = (None, None)
_HOME = ("seq", "block", "place")
"""What stays when a call is corrected."""


def as_is(row: Row) -> Row:
    """Take a row for what the database can hold."""
    return row


class Recorder:
    """Writes to the tables, within transactions of its caller, who calls `forget` where one is rolled back.

    With a `sealer` that is `sealing`, bodies and messages are sealed. Not safe for threads.
    """

    def __init__(self, sealer: Sealer | None = None) -> None:
        self._profiles = Profiles()
        self._sealer = sealer if sealer is not None and sealer.sealing else None
        self._packer = Packer(messages=self._sealer is not None)

    def forget(self) -> None:
        """Forget what was learnt in a transaction that is void."""
        self._profiles.forget()

    def prepare(self, calls: Iterable[Call], pause: Pause) -> list[Group]:
        """Do all that needs no transaction: the bodies are packed, and the keys to seal them are at hand."""
        recorded = [kept(call) for call in calls if call.store != "none"]
        prepared: list[Group] = []
        size = LARGE if pause is no_pause else SMALL
        for start in range(0, len(recorded), size):
            if start:
                pause()
            group = recorded[start : start + size]
            packed = self._packer.pack(group)
            prepared.append((_silent(group, packed.spoken) if packed.spoken else group, packed))
        if self._sealer is not None:
            self._sealer.prepare({block.owner for _, packed in prepared for block in packed.blocks})
        return prepared

    def record(self, db: sqlite3.Connection, prepared: Sequence[Group], pause: Pause, storable: Storable) -> None:
        """Insert calls with their attempts and bodies."""
        seq, block = _next(db, "call_rows"), _next(db, "body_blocks")
        for calls, packed in prepared:
            pause()
            self._record_group(db, list(enumerate(calls, seq)), packed, block, storable)
            seq += len(calls)
            block += len(packed.blocks)

    def _record_group(
        self, db: sqlite3.Connection, calls: Sequence[tuple[int, Call]], packed: Packed, block: int, storable: Storable
    ) -> None:
        """Insert some of them, with blocks numbered from `block` on."""
        told = [rows.is_told(call) for _, call in calls]
        numbers = [self._profiles.number(db, storable(rows.profile_row(call))) for _, call in calls]
        insert(db, "body_blocks", _BLOCKS, [seal(self._sealer, n, data) for n, data in enumerate(packed.blocks, block)])
        homes = [_HOMELESS if place is None else (block + place[0], place[1]) for place in packed.places]
        call_rows = [
            rows.common_row(seq, number, home, call, is_told)
            for (seq, call), number, home, is_told in zip(calls, numbers, homes, told, strict=True)
        ]
        others = [
            rows.attempt_row(seq, n, attempt)
            for (seq, call), is_told in zip(calls, told, strict=True)
            if not is_told
            for n, attempt in enumerate(call.attempts)
        ]
        columns, values = rows.optional_rows([call for _, call in calls])
        if columns:
            call_rows = list(map(add, call_rows, values))
        insert(db, "call_rows", rows.COMMON + columns, map(storable, call_rows))
        insert(db, "other_attempts", rows.OTHERS, map(storable, others))

    def correct(self, db: sqlite3.Connection, correction: Correction, storable: Storable) -> None:
        """Have a call's row say what came after. Its number and its bodies stay, and the totals, which only grow."""
        call = kept(correction.call)
        found = db.execute(_FIND, (call.id,)).fetchone()
        if found is None:
            return
        if self._sealer is not None:
            self._correct_words(db, found, call, self._sealer)
            call = silent(call)
        _update(db, found["seq"], self._profiles.number(db, storable(rows.profile_row(call))), call, storable)

    def _correct_words(self, db: sqlite3.Connection, row: sqlite3.Row, call: Call, sealer: Sealer) -> None:
        """Have what is sealed of a call hold its messages. The other bodies of its block stay as they were."""
        owner, number = owner_of(row["subject"], call.tenant), row["block"]
        data: bytes | None = None
        if number is not None:
            data = _unsealed(sealer, number, owner, row)
            if data is None:
                return
        elif not speaks(call):
            return
        else:
            number = _next(db, "body_blocks")
            db.execute("UPDATE call_rows SET block = ?, place = 0 WHERE seq = ?", (number, row["seq"]))
        try:
            block = Block(owner, self._packer.replace(data, row["place"] or 0, call))
        except (ValueError, LookupError):
            return
        insert(db, "body_blocks", _BLOCKS, [seal(sealer, number, block)], "OR REPLACE")


def _unsealed(sealer: Sealer, number: int, owner: str, row: sqlite3.Row) -> bytes | None:
    """Return what a block holds, None where that can't be read any more."""
    try:
        data = unseal(sealer, number, owner, row["codec"], row["data"])
    except PrivacyError:
        return None
    return None if isinstance(data, str) else data


def _silent(calls: Sequence[Call], spoken: Set[int]) -> Sequence[Call]:
    """Return calls without those messages that are packed."""
    return [silent(call) if index in spoken else call for index, call in enumerate(calls)]


def _next(db: sqlite3.Connection, table: str) -> int:
    """Return the number of the next row of a table."""
    return int(next(iter(db.execute(_NEXT, (table,))), (1,))[0])


def _update(db: sqlite3.Connection, seq: int, profile: int, call: Call, storable: Storable) -> None:
    told = rows.is_told(call)
    row = storable(rows.common_row(seq, profile, _HOMELESS, call, told) + rows.optional_row(call))
    named = zip(rows.COMMON + rows.RARE + rows.CHECKED, row, strict=True)
    columns = {name: value for name, value in named if name not in _HOME}
    changes = ", ".join([f"{name} = ?" for name in columns])
    db.execute(f"UPDATE call_rows SET {changes} WHERE seq = ?", (*columns.values(), seq))  # noqa: S608 names
    db.execute("DELETE FROM other_attempts WHERE call = ?", (seq,))
    others = () if told else call.attempts
    insert(db, "other_attempts", rows.OTHERS, [storable(rows.attempt_row(seq, n, a)) for n, a in enumerate(others)])


# --- totals -----------------------------------------------------------------------------------------------------------


def _upsert(table: str, keys: Sequence[str], sums: Sequence[str], when: str = "minute") -> str:
    columns = (when, *keys, *sums)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 names
        " ON CONFLICT DO UPDATE SET " + ", ".join(f"{column} = {column} + excluded.{column}" for column in sums)
    )


_UPSERT = _upsert("totals", KEYS, SUM_COLUMNS)
_ATTEMPTS_UPSERT = _upsert("attempt_totals", ATTEMPT_KEYS, ATTEMPT_SUMS)
_SPEND_UPSERT = _upsert("spend", SPEND_KEYS, SPEND_SUMS, "day")


def count(db: sqlite3.Connection, calls: Sequence[Call], storable: Storable) -> None:
    """Add calls to the totals."""
    by_minute, (attempts, spent) = tally(calls), tally_attempts(calls)
    for statement, sums in (
        (_UPSERT, chain(by_minute.items(), all_time(by_minute).items())),
        (_ATTEMPTS_UPSERT, chain(attempts.items(), all_time(attempts).items())),
        (_SPEND_UPSERT, spent.items()),
    ):
        db.executemany(statement, [storable((*key, *values)) for key, values in sums])


# --- rows -------------------------------------------------------------------------------------------------------------


def insert_snapshots(db: sqlite3.Connection, snapshots: Sequence[Snapshot], storable: Storable) -> None:
    """Insert those that are not there yet."""
    insert(
        db, "snapshots", rows.SNAPSHOTS, [storable(rows.snapshot_row(snapshot)) for snapshot in snapshots], "OR IGNORE"
    )


def insert_fingerprints(db: sqlite3.Connection, changes: Sequence[FingerprintChanged], storable: Storable) -> None:
    """Insert those that are not there yet."""
    changed = [storable(rows.fingerprint_row(change)) for change in changes]
    insert(db, "fingerprint_changes", rows.FINGERPRINTS, changed, "OR IGNORE")


def insert(db: sqlite3.Connection, table: str, columns: tuple[str, ...], values: Iterable[Row], how: str = "") -> None:
    """Insert rows, many a statement."""
    values = list(values)
    start, size = 0, LARGE
    while start < len(values):
        while size > len(values) - start:
            size //= 2
        db.execute(_insertion(table, columns, size, how), list(chain.from_iterable(values[start : start + size])))
        start += size


@cache
def _insertion(table: str, columns: tuple[str, ...], size: int, how: str) -> str:
    one = f"({', '.join('?' * len(columns))})"
    names = ", ".join([f'"{column}"' for column in columns])
    return f"INSERT {how} INTO {table} ({names}) VALUES {', '.join([one] * size)}"  # noqa: S608 names
