"""The workers that hold leases: each has a file in `leases/`, locked while it lives, mapped into its memory.

The file tells of each lease how much of it was used. It is written before anything is sent, so that whoever finds the
lock free knows what the dead worker used; after a power failure the file may be older than that, so it tells nothing.
"""

import fcntl
import logging
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import compress
from pathlib import Path
from typing import Final, NamedTuple, Self

RUNNING: Final = "running"
"""The folder, in the state directory, of holders that only say that they run: every worker has one."""
SLOT: Final = 2
"""The cells of a lease: its number (0: none), and what was used of it."""

_MAGIC = b"holdlse1"
_HEADER = struct.Struct("8s16s")
_CELL = 8
_CHUNK = 64 * 2**10
"""Bytes by which the file grows: a multiple of what any system maps."""
_CELLS = _CHUNK // _CELL
_FIRST = 32 // _CELL
"""The first cell after the header."""
_WANTED = 24 // _CELL
"""The cell of the number of a lease that others wait for. It is in the header, and 0 if there is none."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a holder writes what it used of a lease."""

    cells: "memoryview[int]"
    at: int
    """The cell of the lease's number, which the one of its use follows."""


class Holder:
    """A worker's presence. Not for several threads at once.

    Raises:
        OSError: from `create` and `place`. The file can't be made or grow; nothing has changed.
    """

    def __init__(self, file: int, path: Path) -> None:
        self._file: int | None = file
        self._path = path
        self._free: list[Place] = []
        self._size = 0
        self._header = self._grow()

    @classmethod
    def create(cls, directory: Path, new_id: Callable[[], str]) -> Self:
        """Make a file for this worker, and lock it. Another worker may take it for a dead one's before that."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = directory / new_id()
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if _try_lock(file) and os.fstat(file).st_nlink:
                    return cls(file, path)
                os.close(file)
            except OSError:
                path.unlink(missing_ok=True)
                os.close(file)
                raise

    @property
    def id(self) -> str:
        """The name of the file. None is ever used again."""
        return self._path.name

    def place(self, number: int) -> Place:
        """Return where the use of a lease is written, which is 0 until then. To be done before the lease is drawn."""
        if not self._free:
            self._grow()
        cells, at = place = self._free.pop()
        cells[at + 1] = 0
        cells[at] = number
        return place

    def release(self, place: Place) -> None:
        """Let another lease have the place. To be done after the lease was closed."""
        place.cells[place.at] = 0
        self._free.append(place)

    def wanted(self) -> int:
        """Return the number of a lease that others wait for, once; 0 if there is none."""
        number = self._header[_WANTED]
        if number:
            self._header[_WANTED] = 0
        return number

    def close(self, *, remove: bool) -> None:
        """Unlock the file. It is to be removed if it holds nothing of use to who might recover leases."""
        if self._file is None:
            return
        if remove:
            self._path.unlink(missing_ok=True)
        fcntl.flock(self._file, fcntl.LOCK_UN)  # the maps have copies of the descriptor, which would keep the lock
        os.close(self._file)
        self._file = None

    def _grow(self) -> "memoryview[int]":
        assert self._file is not None
        header = b"" if self._size else _HEADER.pack(_MAGIC, _boot_id() or bytes(16))
        _write(self._file, header.ljust(_CHUNK, b"\0"), self._size)
        cells = memoryview(mmap.mmap(self._file, _CHUNK, offset=self._size)).cast("q")
        first = 0 if self._size else _FIRST
        self._size += _CHUNK
        self._free = [Place(cells, at) for at in reversed(range(first, _CELLS, SLOT))]
        return cells


class Dead(NamedTuple):
    """A holder that has died: what it used of its leases, by their numbers; None if nobody can tell."""

    id: str
    used: Mapping[int, int] | None


class Holders:
    """All holders of a folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.live = 1
        """How many lived when last looked."""

    def dead(self) -> Iterator[Dead]:
        """Yield each holder that is dead. No other process gets it meanwhile; once the next is asked for, it is gone.

        Raises:
            OSError: the folder or a file in it can't be read.
        """
        live = 0
        for path in self.files():
            try:
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # gone meanwhile
            try:
                if not _try_lock(file):
                    live += 1
                elif os.fstat(file).st_nlink:
                    yield Dead(path.name, _used(file))
                    path.unlink(missing_ok=True)
            finally:
                os.close(file)
        self.live = max(1, live)

    def used(self, id: str) -> Mapping[int, int] | None:
        """Return what a holder, alive or dead, has used of its leases so far; nothing if it is gone, None where that
        can't be told.

        Raises:
            OSError: its file can't be read.
        """
        try:
            file = os.open(self._directory / id, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        try:
            return _used(file)
        finally:
            os.close(file)

    def want(self, id: str, number: int) -> None:
        """Let a holder know that others wait for what is free of a lease. Of several, it may see the last alone.

        Raises:
            OSError: its file can't be written.
        """
        try:
            file = os.open(self._directory / id, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it is gone, and has given all back
        try:
            os.pwrite(file, number.to_bytes(_CELL, sys.byteorder), _WANTED * _CELL)
        finally:
            os.close(file)

    def exists(self, id: str) -> bool:
        """Whether there is a file of this holder."""
        return (self._directory / id).exists()

    def files(self) -> list[Path]:
        """Return the files that there are."""
        try:
            return sorted(self._directory.iterdir())
        except FileNotFoundError:
            return []


def _used(file: int) -> Mapping[int, int] | None:
    """Read what a holder used, None where that can't be relied on."""
    content = bytearray()
    while part := os.pread(file, 2**20, len(content)):
        content += part
    if len(content) < _CHUNK or _HEADER.unpack_from(content) != (_MAGIC, _boot_id()):
        return None
    cells = array("q", bytes(content[: len(content) // _CHUNK * _CHUNK]))  # what is beyond was not in use yet
    numbers, used = cells[_FIRST::SLOT], cells[_FIRST + 1 :: SLOT]
    return dict(compress(zip(numbers, used, strict=True), numbers))


@cache
def _boot_id() -> bytes | None:
    """Return what is another after each start of the machine. Where nothing tells, nothing is known of the dead."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text("ascii").strip().replace("-", ""))
    except (OSError, ValueError):
        return None


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: int, content: bytes, at: int) -> None:
    """Write all of it, so that a disk without room is an error now, and not the end of the worker later."""
    done = 0
    while done < len(content):
        done += os.pwrite(file, content[done:], at + done)


def living(directory: Path) -> set[str]:
    """Return the ids of the holders of a folder that live, and remove what the dead have left.

    Only for a folder whose holders hold nothing that would have to be recovered.

    Raises:
        OSError: the folder or a file in it can't be read.
    """
    holders = Holders(directory)
    dead = {id for id, _ in holders.dead()}
    return {path.name for path in holders.files()} - dead
