"""The log in one SQLite file, which several processes may append to at once."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from operator import add
from pathlib import Path
from typing import Any, Self

from holdfast.errors import LogError
from holdfast.events import AnyEvent, Call, Snapshot
from holdfast.log import rows
from holdfast.log.base import AttemptTotal, Filter, Total, UnknownCall
from holdfast.log.connection import Durability, open_reader, open_writer, transaction, translated
from holdfast.log.profiles import Profiles
from holdfast.log.rows import Row
from holdfast.log.totals import (
    ATTEMPT_SUMS,
    MINUTE_US,
    SUMS,
    WIDTH,
    all_time,
    attempt_total,
    tally,
    tally_attempts,
    total,
)

_PAGE = 500
_CHUNK = 32
"""Rows a statement. A statement runs without the interpreter's lock, what is between two holds it: many rows make few
hand-overs, few rows keep the event loop from waiting long."""

_SUMS = (*SUMS, *(f"bucket_{n}" for n in range(WIDTH - len(SUMS))))


def _upsert(table: str, keys: int, sums: Sequence[str]) -> str:
    return (
        f"INSERT INTO {table} VALUES ({', '.join('?' * (1 + keys + len(sums)))}) ON CONFLICT DO UPDATE SET "  # noqa: S608 names
        + ", ".join(f"{column} = {column} + excluded.{column}" for column in sums)
    )


def _sums(table: str, keys: str, sums: Sequence[str]) -> str:
    return (
        f"SELECT {keys}, {', '.join(f'sum({column})' for column in sums)} FROM {table}"  # noqa: S608 names
        f" WHERE minute >= ? AND minute <= ? GROUP BY {keys}"
    )


_UPSERT = _upsert("totals", 4, _SUMS)
_TOTALS = _sums("totals", "name, model, outcome, error", _SUMS)
_ATTEMPTS_UPSERT = _upsert("attempt_totals", 2, ATTEMPT_SUMS)
_ATTEMPT_TOTALS = _sums("attempt_totals", "model, error", ATTEMPT_SUMS)


class SqliteLog:
    """A log in the file `path`. Every method may be called from any thread.

    With "sync" a batch is on disk when `append` returns; with "async" it is in the operating system's hands, so that
    it outlives the process, but not a power failure.

    Raises:
        LogError: the file is not a log, is damaged, is newer than this version, or can't be opened. It is unchanged.
    """

    def __init__(self, path: str | Path, durability: Durability = "async", *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._readers: list[sqlite3.Connection] = []
        self._writer = None if read_only else open_writer(self.path, durability)
        self._lock = threading.Lock()
        self._closed = False
        self._profiles = Profiles()
        self._readers.append(open_reader(self.path))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Open a log that exists for reading alone. The file is neither made nor migrated."""
        return cls(path, read_only=True)

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, batch: Sequence[AnyEvent]) -> None:
        calls = [event for event in batch if isinstance(event, Call)]
        snapshots = [event for event in batch if isinstance(event, Snapshot)]
        try:
            with self._writing() as db:
                _record(db, calls, self._profiles)
                _insert(db, "snapshots", rows.SNAPSHOTS, map(rows.snapshot_row, snapshots), "OR IGNORE")
        except LogError as error:
            if not isinstance(error.__cause__, sqlite3.IntegrityError):
                raise
            self._append_new(calls, snapshots)
        except (UnicodeEncodeError, OverflowError):
            self._append_new(calls, snapshots)

    def _append_new(self, calls: Sequence[Call], snapshots: Sequence[Snapshot]) -> None:
        """Append what is not there yet, each value as near as the database can hold it."""
        with self._writing() as db:
            known = {row["id"] for row in db.execute(_IDS, (rows.json_text([call.id for call in calls]),))}
            new = {call.id: call for call in reversed(calls) if call.id not in known}
            _record(db, list(reversed(new.values())), self._profiles, rows.storable)
            files = [rows.storable(rows.snapshot_row(snapshot)) for snapshot in snapshots]
            _insert(db, "snapshots", rows.SNAPSHOTS, files, "OR IGNORE")

    def erase(self, subject: str) -> int:
        """Delete every call of a subject (its keyed hash) and return how many there were; no trace stays in the file.

        Raises:
            LogError: as every method; also when a reader held on to the deleted pages. Erase again then.
        """
        calls = "(SELECT seq FROM call_rows WHERE subject = ?)"
        with self._writing() as db:
            db.execute(f"DELETE FROM bodies WHERE call IN {calls}", (subject,))  # noqa: S608 a constant
            db.execute(f"DELETE FROM other_attempts WHERE call IN {calls}", (subject,))  # noqa: S608 a constant
            erased = db.execute("DELETE FROM call_rows WHERE subject = ?", (subject,)).rowcount
        with self._lock, translated(self.path):
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise LogError(f"{self.path}: calls were erased, but a reader still holds a copy: erase again.")
        return erased

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Call | None:
        with self._reading() as db:
            row = db.execute("SELECT * FROM calls WHERE id = ?", (id,)).fetchone()
            if row is None:
                return None
            attempts = db.execute("SELECT * FROM other_attempts WHERE call = ? ORDER BY n", (row["seq"],)).fetchall()
            body = db.execute("SELECT * FROM bodies WHERE call = ?", (row["seq"],)).fetchone()
        return rows.call_of(row, attempts, body)

    def ids(self, prefix: str, limit: int) -> Sequence[str]:
        """Return ids that begin with `prefix`."""
        with self._reading() as db:
            found = db.execute(
                "SELECT id FROM calls WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (prefix, prefix + "\U0010ffff", limit),
            )
            return [row["id"] for row in found]

    def last(self) -> str | None:
        """Return the id of the call recorded last, None where there is none."""
        with self._reading() as db:
            row = db.execute("SELECT id FROM calls ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else row["id"]

    def snapshot(self, hash: str) -> Snapshot | None:
        with self._reading() as db:
            row = db.execute("SELECT * FROM snapshots WHERE hash = ?", (hash,)).fetchone()
        return None if row is None else rows.snapshot_of(row)

    def scan(self, filter: Filter) -> Iterator[Sequence[Call]]:
        """Iterate in batches, each a reading of its own, so that a slow consumer never holds up the writers.

        Newest first is by time of arrival; with `filter.after`, by order of recording.

        Raises:
            UnknownCall: the call of `filter.before` or `filter.after` is not in the log.
        """
        with self._reading() as db:
            conditions = _conditions(filter, db)
        order = "seq" if filter.after is not None else "at_us DESC, seq DESC"
        left = filter.limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            with self._reading() as db:
                found, attempts = _page(db, conditions, order, size)
            if found:
                yield [rows.call_of(row, attempts.get(row["seq"], ())) for row in found]
            if len(found) < size:
                return
            conditions = [*conditions, _later(found[-1], filter)]
            left = None if left is None else left - len(found)

    def totals(self, since_us: int | None = None) -> Sequence[Total]:
        return [total(row[:4], row[4:]) for row in self._summed(_TOTALS, since_us)]

    def attempt_totals(self, since_us: int | None = None) -> Sequence[AttemptTotal]:
        return [attempt_total(row[:2], row[2:]) for row in self._summed(_ATTEMPT_TOTALS, since_us)]

    def _summed(self, query: str, since_us: int | None) -> list[tuple[Any, ...]]:
        bounds = (0, 0) if since_us is None else (max(1, since_us // MINUTE_US), 2**62)
        with self._reading() as db:
            return [tuple(row) for row in db.execute(query, bounds)]

    def close(self) -> None:
        with self._lock, translated(self.path):
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self.path):
            self._check_open()
            if self._writer is None:
                raise LogError(f"{self.path}: the log is open for reading alone.")
            try:
                with transaction(self._writer):
                    yield self._writer
            except BaseException:
                self._profiles.forget()
                raise

    def _check_open(self) -> None:
        if self._closed:
            raise LogError(f"{self.path}: the log is closed.")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._check_open()
        try:
            db = self._readers.pop()
        except IndexError:
            db = open_reader(self.path)
        try:
            with translated(self.path), transaction(db, "DEFERRED"):
                yield db
        finally:
            self._readers.append(db)
            if self._closed:
                self.close()


_UTF8 = ("request", "reply")
"""Columns of text that is given as bytes."""
_IDS = "SELECT id FROM calls WHERE id IN (SELECT value FROM json_each(?))"
_ATTEMPTS = "SELECT * FROM other_attempts WHERE call IN (SELECT value FROM json_each(?)) ORDER BY call, n"
_NEXT = "SELECT seq + 1 FROM sqlite_sequence WHERE name = 'call_rows'"


def _same(row: Row) -> Row:
    return row


def _record(
    db: sqlite3.Connection, calls: Sequence[Call], profiles: Profiles, storable: Callable[[Row], Row] = _same
) -> None:
    """Insert calls and add them to the totals, within a transaction."""
    if not calls:
        return
    first = next(iter(db.execute(_NEXT)), (1,))[0]
    kept = list(enumerate([call for call in calls if call.store != "none"], first))
    for start in range(0, len(kept), _CHUNK):
        _record_rows(db, kept[start : start + _CHUNK], profiles, storable)
    for statement, by_minute in ((_UPSERT, tally(calls)), (_ATTEMPTS_UPSERT, tally_attempts(calls))):
        sums = chain(by_minute.items(), all_time(by_minute).items())
        db.executemany(statement, [storable((*key, *values)) for key, values in sums])


def _record_rows(
    db: sqlite3.Connection, calls: Sequence[tuple[int, Call]], profiles: Profiles, storable: Callable[[Row], Row]
) -> None:
    """Insert calls, by their numbers, with their attempts and bodies."""
    told = [rows.is_told(call) for _, call in calls]
    numbers = [profiles.number(db, storable(rows.profile_row(call))) for _, call in calls]
    common = [
        rows.common_row(seq, number, call, is_told)
        for (seq, call), number, is_told in zip(calls, numbers, told, strict=True)
    ]
    rare = [rows.rare_row(call) for _, call in calls]
    others = [
        rows.attempt_row(seq, n, attempt)
        for (seq, call), is_told in zip(calls, told, strict=True)
        if not is_told
        for n, attempt in enumerate(call.attempts)
    ]
    bodies = [
        rows.body_row(seq, call)
        for seq, call in calls
        if call.store == "all" and (call.request is not None or call.reply is not None)
    ]
    if rare.count(rows.NO_RARE) == len(rare):
        call_rows, columns = common, rows.COMMON
    else:
        call_rows, columns = list(map(add, common, rare)), rows.COMMON + rows.RARE
    _insert(db, "call_rows", columns, map(storable, call_rows))
    _insert(db, "other_attempts", rows.OTHERS, map(storable, others))
    _insert(db, "bodies", rows.BODIES, map(storable, bodies))


def _insert(
    db: sqlite3.Connection, table: str, columns: tuple[str, ...], values: Sequence[Row] | Iterator[Row], how: str = ""
) -> None:
    """Insert rows, many a statement."""
    values = list(values)
    start, size = 0, _CHUNK
    while start < len(values):
        while size > len(values) - start:
            size //= 2
        db.execute(_insertion(table, columns, size, how), list(chain.from_iterable(values[start : start + size])))
        start += size


@cache
def _insertion(table: str, columns: tuple[str, ...], size: int, how: str) -> str:
    one = f"({', '.join(['CAST(? AS TEXT)' if column in _UTF8 else '?' for column in columns])})"
    return f"INSERT {how} INTO {table} ({', '.join(columns)}) VALUES {', '.join([one] * size)}"  # noqa: S608 names


Condition = tuple[str, Sequence[object]]


def _conditions(filter: Filter, db: sqlite3.Connection) -> list[Condition]:
    equal = {name: getattr(filter, name) for name in ("name", "model", "outcome", "error", "session", "subject")}
    conditions: list[Condition] = [(f"{name} = ?", (value,)) for name, value in equal.items() if value is not None]
    if filter.since_us is not None:
        conditions.append(("at_us >= ?", (filter.since_us,)))
    if filter.until_us is not None:
        conditions.append(("at_us < ?", (filter.until_us,)))
    if filter.tag is not None:
        conditions.append(("EXISTS (SELECT 1 FROM json_each(tags) WHERE key = ? AND value = ?)", filter.tag))
    if filter.after is not None:
        conditions.append(("seq > ?", (_place(db, filter.after)["seq"],)))
    if filter.before is not None:
        conditions.append(_later(_place(db, filter.before), filter))
    return conditions


def _later(row: sqlite3.Row, filter: Filter) -> Condition:
    """Return the condition for what comes later in the order of the scan than a row."""
    if filter.after is not None:
        return "seq > ?", (row["seq"],)
    return "(at_us, seq) < (?, ?)", (row["at_us"], row["seq"])


def _place(db: sqlite3.Connection, id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute("SELECT seq, at_us FROM calls WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise UnknownCall(id)
    return row


def _page(
    db: sqlite3.Connection, conditions: Sequence[Condition], order: str, size: int
) -> tuple[list[sqlite3.Row], Mapping[int, list[sqlite3.Row]]]:
    """Return rows of calls, and those of their other attempts by `seq`."""
    where = " AND ".join([text for text, _ in conditions]) or "1"
    values = [value for _, values in conditions for value in values]
    sql = f"SELECT * FROM calls WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608 the text is made above
    found = db.execute(sql, (*values, size)).fetchall()
    attempts: dict[int, list[sqlite3.Row]] = {}
    for row in db.execute(_ATTEMPTS, (rows.json_text([row["seq"] for row in found]),)):
        attempts.setdefault(row["call"], []).append(row)
    return found, attempts
