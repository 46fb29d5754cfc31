"""The log in one SQLite file, which several processes may append to at once."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from holdfast.database import Durability, transaction
from holdfast.errors import LogError
from holdfast.events import AnyEvent, Call, Correction, FingerprintChanged, Snapshot
from holdfast.log import rows
from holdfast.log.base import AttemptTotal, Filter, Pause, Total, UnknownCall, no_pause
from holdfast.log.connection import open_reader, open_writer, translated
from holdfast.log.expiry import expire
from holdfast.log.recorder import (
    SUM_COLUMNS,
    Recorder,
    Storable,
    as_is,
    count,
    insert_fingerprints,
    insert_snapshots,
)
from holdfast.log.totals import ATTEMPT_KEYS, ATTEMPT_SUMS, KEYS, MINUTE_US, attempt_total, total

_PAGE = 500
_REFUSALS = (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError)
"""What the database says of values, not of itself."""


def _sums(table: str, keys: Sequence[str], sums: Sequence[str]) -> str:
    named = ", ".join(keys)
    return (
        f"SELECT {named}, {', '.join(f'sum({column})' for column in sums)} FROM {table}"  # noqa: S608 names
        f" WHERE minute >= ? AND minute <= ? GROUP BY {named}"
    )


_TOTALS = _sums("totals", KEYS, SUM_COLUMNS)
_ATTEMPT_TOTALS = _sums("attempt_totals", ATTEMPT_KEYS, ATTEMPT_SUMS)


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
        self._lock = threading.RLock()
        self._closed = False
        self._recorder = Recorder()
        self._readers.append(open_reader(self.path))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Open a log that exists for reading alone. The file is neither made nor migrated."""
        return cls(path, read_only=True)

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, batch: Sequence[AnyEvent], pause: Pause = no_pause) -> None:
        try:
            self._append(batch, pause)
        except LogError as error:
            if not isinstance(error.__cause__, _REFUSALS):
                raise
            self._append_new(batch, pause)
        except (UnicodeEncodeError, OverflowError):
            self._append_new(batch, pause)

    def _append(self, batch: Sequence[AnyEvent], pause: Pause) -> None:
        calls = [event for event in batch if isinstance(event, Call)]
        with self._lock:
            prepared = self._recorder.prepare(calls, pause)
            with self._writing() as db:
                self._recorder.record(db, prepared, pause, as_is)
                self._finish(db, calls, batch, pause, as_is)

    def _append_new(self, batch: Sequence[AnyEvent], pause: Pause) -> None:
        """Append what is not there yet, each value as near as the database can hold it."""
        calls = [event for event in batch if isinstance(event, Call)]
        try:
            with self._writing() as db:
                known = {row["id"] for row in db.execute(_IDS, (rows.json_text([call.id for call in calls]),))}
                new = list({call.id: call for call in reversed(calls) if call.id not in known}.values())[::-1]
                self._recorder.record(db, self._recorder.prepare(new, pause), pause, rows.storable)
                self._finish(db, new, batch, pause, rows.storable)
        except LogError as error:
            if isinstance(error.__cause__, _REFUSALS):
                raise ValueError(f"an event is not what the log can hold: {error.__cause__}") from error
            raise

    def _finish(
        self,
        db: sqlite3.Connection,
        calls: Sequence[Call],
        batch: Sequence[AnyEvent],
        pause: Pause,
        storable: Storable,
    ) -> None:
        """Count the calls that were recorded, and record what else is in the batch."""
        pause()
        count(db, calls, storable)
        for event in batch:
            if isinstance(event, Correction):
                self._recorder.correct(db, event, storable)
        insert_snapshots(db, [event for event in batch if isinstance(event, Snapshot)], storable)
        insert_fingerprints(db, [event for event in batch if isinstance(event, FingerprintChanged)], storable)
        pause()  # the commit comes

    def erase(self, subject: str) -> int:
        """Delete every call of a subject (its keyed hash) and return how many there were; no trace stays in the file.

        Raises:
            LogError: as every method; also when a reader held on to the deleted pages. Erase again then.
        """
        calls = "(SELECT seq FROM call_rows WHERE subject = ?)"
        blocks = "(SELECT block FROM call_rows WHERE subject = ?)"
        with self._writing() as db:
            db.execute(f"DELETE FROM body_blocks WHERE number IN {blocks}", (subject,))  # noqa: S608 a constant
            db.execute(f"DELETE FROM other_attempts WHERE call IN {calls}", (subject,))  # noqa: S608 a constant
            erased = db.execute("DELETE FROM call_rows WHERE subject = ?", (subject,)).rowcount
        with self._lock, translated(self.path):
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise LogError(f"{self.path}: calls were erased, but a reader still holds a copy: erase again.")
        return erased

    def expire(self, before_us: int, limit: int) -> int:
        with self._writing() as db:
            return expire(db, before_us, limit)

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Call | None:
        with self._reading() as db:
            row = db.execute("SELECT * FROM calls WHERE id = ?", (id,)).fetchone()
            if row is None:
                return None
            attempts = db.execute("SELECT * FROM other_attempts WHERE call = ? ORDER BY n", (row["seq"],)).fetchall()
            body = db.execute("SELECT codec, data FROM body_blocks WHERE number = ?", (row["block"],)).fetchone()
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

    def fingerprints(
        self, *, model: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Sequence[FingerprintChanged]:
        with self._reading() as db:
            found = db.execute(_FINGERPRINTS, (since_us, model, -1 if limit is None else limit))
            return [rows.fingerprint_of(row) for row in found]

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
                self._recorder.forget()
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


_FINGERPRINTS = (
    "SELECT * FROM fingerprint_changes WHERE at_us >= coalesce(?1, 0) AND (?2 IS NULL OR model = ?2)"
    ' ORDER BY at_us DESC, model DESC, provider DESC, "before" DESC, "after" DESC LIMIT ?3'
)
_IDS = "SELECT id FROM calls WHERE id IN (SELECT value FROM json_each(?))"
_ATTEMPTS = "SELECT * FROM other_attempts WHERE call IN (SELECT value FROM json_each(?)) ORDER BY call, n"


Condition = tuple[str, Sequence[object]]


def _conditions(filter: Filter, db: sqlite3.Connection) -> list[Condition]:
    names = ("name", "model", "outcome", "error", "session", "subject", "contract")
    equal = {name: getattr(filter, name) for name in names}
    conditions: list[Condition] = [(f"{name} = ?", (value,)) for name, value in equal.items() if value is not None]
    if filter.since_us is not None:
        conditions.append(("at_us >= ?", (filter.since_us,)))
    if filter.until_us is not None:
        conditions.append(("at_us < ?", (filter.until_us,)))
    if filter.tag is not None:
        conditions.append(("EXISTS (SELECT 1 FROM json_each(tags) WHERE key = ? AND value = ?)", filter.tag))
    if filter.repaired is not None:
        conditions.append(("repairs > 0" if filter.repaired else "repairs = 0", ()))
    if filter.replayed is not None:
        conditions.append(("replayed IS NOT NULL" if filter.replayed else "replayed IS NULL", ()))
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
