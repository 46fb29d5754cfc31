"""The log in one SQLite file, which several processes may append to at once."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from holdfast.database import Durability, transaction
from holdfast.errors import LogError
from holdfast.events import AnyEvent, Call, Correction, FingerprintChanged, Snapshot
from holdfast.log import erasing, rows
from holdfast.log.base import (
    BEGINNING,
    EVERYTHING,
    MOST_CALLS,
    MOST_SECONDS,
    AttemptTotal,
    Cursor,
    ErasedAt,
    Expired,
    Features,
    Filter,
    Found,
    Pause,
    Spend,
    Total,
    breathe,
    is_late,
    never_erased,
    no_pause,
)
from holdfast.log.blocks import Blocks
from holdfast.log.connection import open_reader, open_writer, translated
from holdfast.log.expiry import expire
from holdfast.log.pages import conditions_of, later, page, start_of
from holdfast.log.recorder import (
    SUM_COLUMNS,
    Recorder,
    Storable,
    as_is,
    count,
    insert_fingerprints,
    insert_snapshots,
)
from holdfast.log.search import Seeker
from holdfast.log.totals import (
    ATTEMPT_KEYS,
    ATTEMPT_SUMS,
    DAY_US,
    KEYS,
    MINUTE_US,
    SPEND_KEYS,
    SPEND_SUMS,
    attempt_total,
    spend,
    total,
)
from holdfast.log.view import export_json
from holdfast.privacy.sealing.sealer import Sealer

_PAGE = 500
_SEARCHED = 64
"""Calls whose bodies are read at once."""
_NOBODY = {None}
_subject_of = attrgetter("subject")
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

    With a `sealer`, bodies and messages are sealed, and opened again; without one they are in the clear, and those that
    were sealed stay closed. `erased_at` is asked of every subject before a call of it is recorded; `refresh` comes
    first, once a batch, and has it know of what other processes erased.

    Raises:
        LogError: the file is not a log, is damaged, is newer than this version, or can't be opened. It is unchanged.
    """

    name = "log"

    def __init__(
        self,
        path: str | Path,
        durability: Durability = "async",
        *,
        read_only: bool = False,
        sealer: Sealer | None = None,
        erased_at: ErasedAt = never_erased,
        refresh: Callable[[], None] = no_pause,
    ) -> None:
        self.path = Path(path)
        self._sealer = sealer
        self._erased_at = erased_at
        self._refresh = refresh
        self._searched: int | None = None
        """The file, opened to search it for traces. Closed last: closing it gives up SQLite's locks on it (fcntl)."""
        self._readers: list[sqlite3.Connection] = []
        self._writer = None if read_only else open_writer(self.path, durability)
        self._lock = threading.RLock()
        self._closed = False
        self._recorder = Recorder(sealer)
        self._readers.append(open_reader(self.path))

    @classmethod
    def read(cls, path: str | Path, sealer: Sealer | None = None) -> Self:
        """Open a log that exists for reading alone. The file is neither made nor migrated."""
        return cls(path, read_only=True, sealer=sealer)

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
            with translated(self.path):
                prepared = self._recorder.prepare(calls, pause)
            with self._writing() as db:
                timely = self._timely(calls)
                if len(timely) < len(calls):
                    prepared = self._recorder.prepare(timely, pause)
                self._recorder.record(db, prepared, pause, as_is)
                self._finish(db, calls, batch, pause, as_is)

    def _timely(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Return the calls without those that arrived before their subject was erased.

        Only within a transaction: an erasure is known before it deletes, and so it either waits for this, or is known.
        """
        if set(map(_subject_of, calls)) <= _NOBODY:
            return calls
        self._refresh()
        return [call for call in calls if call.subject is None or not is_late(call, self._erased_at)]

    def _append_new(self, batch: Sequence[AnyEvent], pause: Pause) -> None:
        """Append what is not there yet, each value as near as the database can hold it."""
        calls = [event for event in batch if isinstance(event, Call)]
        try:
            with self._writing() as db:
                known = {row["id"] for row in db.execute(_IDS, (rows.json_text([call.id for call in calls]),))}
                new = list({call.id: call for call in reversed(calls) if call.id not in known}.values())[::-1]
                prepared = self._recorder.prepare(self._timely(new), pause)
                self._recorder.record(db, prepared, pause, rows.storable)
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
        with self._writing() as db:
            erased, traces = erasing.erase(db, subject)
        self._checkpoint(db)
        for cure in erasing.CURES:
            if not self._holds(traces):
                break
            with self._lock, translated(self.path):
                for statement in cure:
                    db.execute(statement)
            self._checkpoint(db)
        return erased

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        with self._lock, translated(self.path):
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise LogError(f"{self.path}: calls were erased, but a reader still holds a copy: erase again.")

    def _holds(self, traces: Sequence[bytes]) -> bool:
        """Whether the file holds a trace of what was erased."""
        with translated(self.path):
            if self._searched is None:
                self._searched = os.open(self.path, os.O_RDONLY)
            return erasing.holds(self._searched, traces, breathe)

    def expire(self, before_us: int, limit: int, features: Features = EVERYTHING, start: Cursor = BEGINNING) -> Expired:
        with self._writing() as db:
            return expire(db, before_us, limit, features, start)

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Call | None:
        with self._reading() as db:
            row = db.execute("SELECT * FROM calls WHERE id = ?", (id,)).fetchone()
            if row is None:
                return None
            attempts = db.execute("SELECT * FROM other_attempts WHERE call = ? ORDER BY n", (row["seq"],)).fetchall()
            blocks = Blocks(db, (row,), self._sealer)
        return blocks.complete(row, rows.call_of(row, attempts))

    def names_subjects(self) -> bool:
        """Whether it tells of any call whose data it is."""
        with self._reading() as db:
            return db.execute("SELECT 1 FROM call_rows WHERE subject IS NOT NULL LIMIT 1").fetchone() is not None

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
            start = start_of(filter, db)
        conditions = conditions_of(filter)
        left = filter.limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            with self._reading() as db:
                found, attempts = page(db, conditions + start, filter, size)
            if found:
                yield [rows.call_of(row, attempts.get(row["seq"], ())) for row in found]
            if len(found) < size:
                return
            start = [later(found[-1], filter)]
            left = None if left is None else left - len(found)

    def search(
        self,
        text: str,
        filter: Filter,
        *,
        most_calls: int = MOST_CALLS,
        most_seconds: float = MOST_SECONDS,
        pause: Pause = breathe,
    ) -> Found:
        seeker = Seeker(text, filter, most_calls, most_seconds, pause)
        with self._reading() as db:
            start = start_of(filter, db)
        conditions = conditions_of(filter)
        while True:
            with self._reading() as db:
                found, attempts = page(db, conditions + start, filter, _SEARCHED)
                blocks = Blocks(db, found, self._sealer)
            for row in found:
                _show(seeker, row, attempts.get(row["seq"], ()), blocks)
                if seeker.done:
                    return seeker.found(row["id"])
            if len(found) < _SEARCHED:
                return seeker.found(None)
            start = [later(found[-1], filter)]

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        return export_json(self, subject)

    def spend(
        self,
        since_us: int | None = None,
        until_us: int | None = None,
        *,
        tenant: str | None = None,
        key: str | None = None,
        in_total: bool = False,
    ) -> Sequence[Spend]:
        bounds = (since_us or 0) // DAY_US, (_LAST_US if until_us is None else until_us) // DAY_US
        query = _SPENT_IN_TOTAL if in_total else _SPEND
        with self._reading() as db:
            return [spend(row[0], row[1:5], row[5:]) for row in db.execute(query, (*bounds, tenant, key))]

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
            if self._searched is not None:
                os.close(self._searched)
                self._searched = None

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


def _show(seeker: Seeker, row: sqlite3.Row, attempts: Sequence[sqlite3.Row], blocks: Blocks) -> None:
    """Have a search look at a call, decoded only where the text can be in it."""
    try:
        entry = blocks.entry(row)
        if entry is None or isinstance(entry, str) or seeker.may_match(entry) or _speaks(row, attempts):
            seeker.look(blocks.complete(row, rows.call_of(row, attempts)))
        else:
            seeker.look(None)
    except LogError:
        seeker.skip()


def _speaks(row: sqlite3.Row, attempts: Sequence[sqlite3.Row]) -> bool:
    return row["message"] is not None or any(attempt["message"] is not None for attempt in attempts)


_LAST_US = 2**63 - 1
_SPENT = " FROM spend WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR tenant = ?3) AND (?4 IS NULL OR key = ?4)"
_SPEND = f"SELECT day, {', '.join((*SPEND_KEYS, *SPEND_SUMS))}{_SPENT} ORDER BY day, tenant, key, name, model"
_SPENT_IN_TOTAL = (
    f"SELECT 0, tenant, '', name, model, {', '.join(f'sum({column})' for column in SPEND_SUMS)}{_SPENT}"
    " GROUP BY tenant, name, model ORDER BY tenant, name, model"
)
_FINGERPRINTS = (
    "SELECT * FROM fingerprint_changes WHERE at_us >= coalesce(?1, 0) AND (?2 IS NULL OR model = ?2)"
    ' ORDER BY at_us DESC, model DESC, provider DESC, "before" DESC, "after" DESC LIMIT ?3'
)
_IDS = "SELECT id FROM calls WHERE id IN (SELECT value FROM json_each(?))"
