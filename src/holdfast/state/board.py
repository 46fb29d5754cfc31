"""What the workers of a gateway share at speed: one memory-mapped file, a row for each name, a slot for each worker.

The file belongs to the process that creates it, the supervisor. Its lock on the file says that it lives.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import tempfile
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

ROWS: Final = 512
CELLS: Final = 64
"""Of a worker, in each row."""
LASTING: Final = 8
"""How many of them, the last ones, count what has happened: those outlive their worker."""
SHARED: Final = 8
"""Cells of a row that all workers write."""

_MAGIC = b"holdfst1"
_HEADER = struct.Struct("8sqq")
_NAMES_AT = 64
_ROWS_AT = _NAMES_AT + ROWS * 8
_OWNER_LOCK, _NAMES_LOCK, _ROW_LOCKS = 0, 1, 64
"""The bytes of the file whose locks mean something. What is stored there does not matter to a lock."""

logger = logging.getLogger(__name__)


class Row:
    """What the workers share under one name.

    Nothing here waits, and nothing is locked to write: cells are aligned and eight bytes wide, so the processor writes
    each in one piece, and a reader sees the old value or the new one. A worker's `own` cells have no other writer
    while it lives, so adding to them loses nothing; a `shared` cell holds what was written last.
    """

    __slots__ = ("_all", "_lock", "_locked", "_release", "own", "shared")

    def __init__(
        self,
        shared: "memoryview[float]",
        slots: "memoryview[int]",
        slot: int,
        lock: Callable[[], bool] = lambda: True,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.own = slots[slot * CELLS : (slot + 1) * CELLS]
        """This worker's cells: 64-bit integers."""
        self.shared = shared
        """Cells that any worker writes: 64-bit floating point numbers."""
        self._all = slots
        self._lock = lock
        self._release = release
        self._locked = False

    @classmethod
    def private(cls) -> Self:
        """Return a row that nobody shares."""
        return cls(memoryview(array("d", bytes(SHARED * 8))), memoryview(array("q", bytes(CELLS * 8))), 0)

    def total(self, cell: int) -> int:
        """Return the sum over all workers."""
        return sum(self._all[cell::CELLS])

    def slots(self, first: int, last: int) -> list[list[int]]:
        """Return the cells from `first` up to `last` of each worker, as they are now."""
        return [self._all[at + first : at + last].tolist() for at in range(0, len(self._all), CELLS)]

    @property
    def locked(self) -> bool:
        """Whether this worker holds the lock."""
        return self._locked

    def try_lock(self) -> bool:
        """Take the lock of the row, if no worker has it. Should this process die, it is free at once."""
        if self._locked or not self._lock():
            return False
        self._locked = True
        return True

    def unlock(self) -> None:
        """Give the lock back, if this worker has it."""
        if self._locked:
            self._locked = False
            self._release()


class Board:
    """The rows. In each process one Board at most may be open on a file: closing any descriptor of a file makes the
    kernel drop every lock that the process has on it.
    """

    def __init__(self, buffer: memoryview, slots: int, slot: int, file: int | None = None) -> None:
        self._buffer = buffer
        self._names = buffer[_NAMES_AT:_ROWS_AT].cast("Q")
        self._slots = slots
        self._slot = slot
        self._file = file
        self._owned: Path | None = None
        self._rows: dict[str, Row] = {}

    @classmethod
    def create(cls, path: Path | None, workers: int) -> Self:
        """Make the board of workers 0 to `workers` - 1, in a new file whose name begins with `path`.

        Its owner has a slot of its own. What gateways have left behind that are dead, beside it, is removed. With
        `path` None it is the board of one process, without a file.

        Raises:
            OSError: the file can't be made.
        """
        if path is None:
            return cls(memoryview(bytearray(_size(1))), 1, 0)
        _remove_stale(path)
        file, name = _new_file(path)
        try:
            _write(file, _HEADER.pack(_MAGIC, ROWS, workers + 1).ljust(_size(workers + 1), b"\0"))
            board = cls(_mapped(file), workers + 1, workers, file)
        except OSError:
            os.unlink(name)
            os.close(file)
            raise
        board._owned = Path(name)
        return board

    @classmethod
    def join(cls, path: Path, worker: int) -> Self:
        """Open the board of a gateway as one of its workers. To be done once in a process.

        Raises:
            OSError: the file can't be opened.
            ValueError: it is no such board, or has no place for this worker.
        """
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            head = os.pread(file, _HEADER.size, 0)
            magic, rows, slots = _HEADER.unpack(head) if len(head) == _HEADER.size else (b"", 0, 0)
            if (magic, rows) != (_MAGIC, ROWS) or os.fstat(file).st_size != _size(slots):
                raise ValueError(f"{path} is not the board of a gateway of this version")
            if not 0 <= worker < slots - 1:
                raise ValueError(f"{path} has no place for worker {worker}, but for {slots - 1} workers")
            return cls(_mapped(file), slots, worker, file)
        except BaseException:
            os.close(file)
            raise

    @property
    def path(self) -> Path | None:
        """The file, for its owner."""
        return self._owned

    def row(self, name: str) -> Row:
        """Return the row of this name: the same in every worker, and the same object each time."""
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = self._find(name)
        return row

    def clear_slot(self, worker: int) -> None:
        """Forget what a dead worker counted of itself, and keep what it counted of events. For the owner."""
        for index, name in enumerate(self._names):
            if name:
                _, slots = self._cells(index)
                own, heir = slots[worker * CELLS :][:CELLS], slots[self._slot * CELLS :][:CELLS]
                for cell in range(CELLS - LASTING, CELLS):
                    heir[cell] += own[cell]
                own[:] = _NOTHING

    def close(self) -> None:
        """Give up all locks, and remove the file if it is owned. Rows can still be used, by this process alone."""
        if self._owned is not None:
            self._owned.unlink(missing_ok=True)
            self._owned = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # --- inside ---

    def _find(self, name: str) -> Row:
        index = self._claim(_hash(name))
        if index is None:
            logger.warning("The board has no row left for %s: its state is not shared by the workers.", name)
            return Row.private()
        shared, slots = self._cells(index)
        if self._file is None:
            return Row(shared, slots, self._slot)
        at = _ROW_LOCKS + index
        return Row(shared, slots, self._slot, lambda: self._try_lock(at), lambda: self._unlock(at))

    def _claim(self, hash: int) -> int | None:
        """Return the row of a hash, a new one if need be; None if there is none."""
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _NAMES_LOCK)  # for microseconds, when a configuration is read
        try:
            for step in range(ROWS):
                index = (hash + step) % ROWS
                if self._names[index] in (0, hash):
                    self._names[index] = hash
                    return index
            return None
        finally:
            if self._file is not None:
                self._unlock(_NAMES_LOCK)

    def _cells(self, index: int) -> "tuple[memoryview[float], memoryview[int]]":
        size = _row_size(self._slots)
        row = self._buffer[_ROWS_AT + index * size :][:size]
        return row[: SHARED * 8].cast("d"), row[SHARED * 8 :].cast("q")

    def _try_lock(self, at: int) -> bool:
        return self._file is None or _try_lock(self._file, at)

    def _unlock(self, at: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, at)


_NOTHING = memoryview(array("q", bytes(CELLS * 8)))


def _row_size(slots: int) -> int:
    return (SHARED + slots * CELLS) * 8


def _size(slots: int) -> int:
    return _ROWS_AT + ROWS * _row_size(slots)


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) or 1


def _mapped(file: int) -> memoryview:
    # Until Python 3.13 the map keeps a copy of the descriptor. It lives as long as a row does, so locks are safe.
    return memoryview(mmap.mmap(file, 0))


def _write(file: int, content: bytes) -> None:
    """Write all of it, so that a disk without room is an error now, and not the end of a worker later."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _try_lock(file: int, at: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _new_file(path: Path) -> tuple[int, str]:
    """Return a new file with its owner's lock. Another gateway may take it for stale before it is locked."""
    while True:
        file, name = tempfile.mkstemp(".board", f"{path.name}.{os.getpid()}.", path.parent)
        if _try_lock(file, _OWNER_LOCK) and os.fstat(file).st_nlink:
            return file, name
        os.close(file)
        with suppress(FileNotFoundError):
            os.unlink(name)


def _remove_stale(path: Path) -> None:
    for left in path.parent.glob(f"{path.name}.*.board"):
        try:
            file = os.open(left, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # removed by another, or another's
        try:
            if _try_lock(file, _OWNER_LOCK):
                left.unlink(missing_ok=True)
        finally:
            os.close(file)
