"""The audit trail: who did what, appended and never changed, so that any later change can be told.

Entries are lines of `audit.jsonl`, each naming the hash of the one before. Where the trail ends stands in `audit.head`,
signed by the installation. The head is replaced before its entry is appended, and holds that entry in full, so that
whatever kills the process in between, nothing is lost: the next append completes the trail.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from holdfast.clock import Clock
from holdfast.errors import PrivacyError
from holdfast.privacy.audit import inspection
from holdfast.privacy.audit.chain import (
    LARGEST,
    RESUMED,
    SIGNED,
    SUCCEEDED,
    UNSIGNED,
    ZERO,
    Damaged,
    Entry,
    Head,
    check_succession,
    entry_line,
    head_line,
    iso,
    read_entry,
    read_head,
    succession,
)
from holdfast.privacy.audit.inspection import Report
from holdfast.privacy.files import sync_directory, write_durably
from holdfast.privacy.signing import Signer

AUDIT_FILE = "audit.jsonl"
HEAD_FILE = "audit.head"
DRAFT_FILE = "audit.head.new"
ACTIONS = {
    "sign_in": "an account signed in",
    "sign_in_failed": "a wrong name or password",
    "sign_out": "an account signed out",
    "key.create": "a key was made",
    "key.rotate": "a key got a successor",
    "key.revoke": "a key was revoked",
    "account.create": "an account was made",
    "account.password": "its password was changed",
    "account.remove": "an account was removed",
    "config.start": "the gateway started with a configuration",
    "config.reload": "the gateway took a new configuration",
    "bodies.read": "bodies of calls were read in plain",
    "bodies.search": "bodies of calls were searched",
    "export": "the data of a subject was exported",
    "erase": "the data of a subject was erased",
    "keyring.rewrap": "the master key was changed",
    SIGNED: "heads are signed from here on",
    SUCCEEDED: "heads are signed with another key from here on, for which the one before vouches",
    UNSIGNED: "heads are not signed any more",
    RESUMED: "the trail went on after it was damaged",
}
"""What can be in the trail."""

LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.002
_READ_BYTES = 64 * 2**10
_ACTOR = "audit"
_LAST_US = 253_402_300_799_000_000

logger = logging.getLogger(__name__)


class _End(NamedTuple):
    """Where the next entry goes."""

    entries: int
    hash: str
    size: int


class Trail:
    """The trail in a directory. Any number of threads and processes may use it at once.

    Its methods block: on the disk, and while another process appends. They raise PrivacyError when the files can't be
    used. Without a `signer` heads are not signed, and verification can't tell whether it is this installation's key.
    """

    def __init__(self, directory: Path, signer: Signer | None, clock: Clock) -> None:
        self.path = directory / AUDIT_FILE
        self.head_path = directory / HEAD_FILE
        self._signer = signer
        self._clock = clock
        self._seen = (0, ZERO)
        """The last entry that was appended here, and its hash: files that end before it were rolled back."""

    # --- appending ---

    def append(self, actor: str, action: str, /, **details: Any) -> Entry:
        """Record that `actor` did something. When it returns, the entry is on disk.

        Details are names, numbers and lists of names; never a secret, nor what a person wrote. Long ones are cut.

        Raises:
            PrivacyError: the entry may not have been recorded: don't do what it stands for.
            ValueError: the action is none of `ACTIONS`, or a detail may not be in the trail.
        """
        if action not in ACTIONS:
            raise ValueError(f"the audit trail knows no action {action!r}; it knows {', '.join(ACTIONS)}")
        entry_line(0, 0, actor, action, details, ZERO)  # before anything is written
        with self._translated(), self._locked() as file:
            end = self._resume(file)
            _, entry = self._add(file, end, actor, action, details)
        return entry

    def succeed(self, actor: str, successor: Signer) -> bool:
        """Sign heads with another key from here on, and say so in an entry that the present one signs.

        Return False where they are signed so already. Raises PrivacyError.
        """
        if self._signer is None:
            raise PrivacyError(f"{self.path}: without the present key nothing can vouch for the next one.")
        with self._translated(), self._locked() as file:
            head = self._read_head()
            if isinstance(head, Head) and head.key == successor.public:
                return False
            if isinstance(head, Head) and head.key not in (None, self._signer.public):
                raise PrivacyError(f"{self.head_path}: it is signed with the key {head.key}, not with the present one.")
            end, present = self._resume(file), self._signer
            details = succession(present, successor.public, end.hash)
            try:
                self._signer = successor
                self._add(file, end, actor, SUCCEEDED, details)
            except BaseException:
                self._signer = present
                raise
        return True

    def _add(self, file: IO[bytes], end: _End, actor: str, action: str, details: dict[str, Any]) -> tuple[_End, Entry]:
        line = entry_line(end.entries + 1, self._clock.now(), actor, action, details, end.hash)
        entry, size = read_entry(line), end.size + len(line) + 1
        self._replace_head(head_line(entry.n, size, line, self._signer))
        write_durably(file, line + b"\n")
        self._seen = (entry.n, entry.hash)
        return _End(entry.n, entry.hash, size), entry

    def _replace_head(self, head: bytes) -> None:
        draft = self.head_path.with_name(DRAFT_FILE)
        try:
            with open(draft, "wb", buffering=0, opener=_for_the_owner) as file:
                write_durably(file, head)
            os.replace(draft, self.head_path)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        sync_directory(self.head_path.parent)

    # --- going on where the trail ends ---

    def _resume(self, file: IO[bytes]) -> _End:
        """Complete the last entry where that was cut off, and say so in the trail if anything else is wrong."""
        size = os.fstat(file.fileno()).st_size
        head = self._read_head()
        if isinstance(head, Head):
            end, damage = self._complete(file, head, size)
        elif head is None and size == 0:
            end, damage = _End(0, ZERO, 0), None
        else:
            end, damage = self._last(file, size), "the head was gone" if head is None else f"the head: {head}"
        if damage is None and (end.entries, end.hash) != self._seen and end.entries <= self._seen[0]:
            damage = f"the trail and its head were rolled back from entry {self._seen[0]} to {end.entries}"
        if damage is not None:
            logger.error("%s: the audit trail was damaged (%s). See holdfast audit verify.", self.path, damage)
            end, _ = self._add(file, end, _ACTOR, RESUMED, {"reason": damage})
        if change := self._change_of_signer(head if isinstance(head, Head) else None):
            end, _ = self._add(file, end, _ACTOR, *change)
        return end

    def _complete(self, file: IO[bytes], head: Head, size: int) -> tuple[_End, str | None]:
        last, line = head.last, head.line.encode() + b"\n"
        start = head.size - len(line)
        written = os.pread(file.fileno(), len(line), start) if 0 <= start <= size <= head.size else None
        if written is not None and line.startswith(written):
            if len(written) < len(line):
                write_durably(file, line[len(written) :])
            return _End(last.n, last.hash, head.size), None
        return _End(last.n, last.hash, _ended(file, size)), "the trail does not end as its head says"

    def _last(self, file: IO[bytes], size: int) -> _End:
        """Return the last sound entry of a trail without a head."""
        size = _ended(file, size)
        entry = next(_backwards(file, size), None)
        return _End(entry.n, entry.hash, size) if entry else _End(0, ZERO, size)

    def _change_of_signer(self, head: Head | None) -> tuple[str, dict[str, Any]] | None:
        if self._signer is None:
            return (UNSIGNED, {}) if head and head.key else None
        ours = head is not None and head.key == self._signer.public and head.check() == "signed"
        return None if ours else (SIGNED, {"key": self._signer.public})

    # --- reading ---

    def entries(self, *, action: str | None = None, actor: str | None = None, since_us: int = 0) -> Iterator[Entry]:
        """Iterate over the entries, newest first. Lines that are no entries are passed over: see `verify`."""
        since = iso(min(max(since_us, 0), _LAST_US) / 1e6)
        with self._translated(), self._snapshot() as (file, size, _):
            for entry in _backwards(file, size) if file else ():
                if entry.at < since:
                    continue  # and no end: the clock may have been set back
                if action in (None, entry.action) and actor in (None, entry.actor):
                    yield entry

    def signing_keys(self) -> frozenset[str]:
        """Return the public key of the installation, and those that it succeeded; none without a signer."""
        known = {self._signer.public} if self._signer else set()
        for entry in self.entries(action=SUCCEEDED):
            if entry.details.get("key") in known and check_succession(entry) == "signed":
                known.add(str(entry.details["by"]))
        return frozenset(known)

    def head(self) -> bytes | None:
        """Return the line that says where the trail ends, to be kept elsewhere; None where there is none."""
        with self._translated():
            return self._raw_head()

    def verify(self, kept: Sequence[Head] = ()) -> Report:
        """Read all of the trail and return what is wrong with it; `kept` are heads that were kept elsewhere.

        Raises:
            PrivacyError: there is neither a trail nor a head, or they can't be read.
        """
        public = self._signer.public if self._signer else None
        with self._translated(), self._snapshot() as (file, size, head):
            if head is None and size == 0 and not kept:
                raise PrivacyError(f"{self.path}: there is no audit trail here.")
            return inspection.inspect(_lines(file, size) if file else (), head, kept, public)

    @contextmanager
    def _snapshot(self) -> Iterator[tuple[IO[bytes] | None, int, Head | Damaged | None]]:
        """Open the trail to read as much of it as belongs to the head. What is appended later is not looked at."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            yield None, 0, self._read_head()
            return
        with file:
            self._wait_for_lock(file, fcntl.LOCK_SH)
            size, head = os.fstat(file.fileno()).st_size, self._read_head()
            fcntl.flock(file, fcntl.LOCK_UN)
            yield file, size, head

    def _read_head(self) -> Head | Damaged | None:
        raw = self._raw_head()
        try:
            return None if raw is None else read_head(raw)
        except Damaged as damage:
            return damage

    def _raw_head(self) -> bytes | None:
        try:
            with self.head_path.open("rb") as file:
                return file.read(4 * LARGEST)
        except FileNotFoundError:
            return None

    # --- the files ---

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """Open the trail to append to it, alone."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            with open(self.path, "a+b", buffering=0, opener=_for_the_owner) as file:
                self._wait_for_lock(file, fcntl.LOCK_EX)
                if self._is_there(file):
                    yield file
                    return

    def _is_there(self, file: IO[bytes]) -> bool:
        """Return whether an open file is the trail still, and was not taken away before it was locked."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _wait_for_lock(self, file: IO[bytes], kind: int) -> None:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise PrivacyError(f"{self.path}: another process holds it locked: end that process.") from None
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PrivacyError(f"{self.path}: the audit trail can't be used: {error.strerror or error}.") from error


def kept_heads(text: bytes, place: str) -> list[Head]:
    """Return the heads that were kept elsewhere, one a line.

    Raises:
        PrivacyError: a line is none, or there is none at all.
    """
    heads = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                heads.append(read_head(line.strip() + b"\n"))
            except Damaged as damage:
                raise PrivacyError(
                    f"{place}:{number}: this is not what holdfast audit head printed: {damage}."
                ) from None
    if not heads:
        raise PrivacyError(f"{place}: there is no head in it.")
    return heads


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ended(file: IO[bytes], size: int) -> int:
    """End the last line where that is cut off; return the size of the file."""
    if size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n":
        return size
    write_durably(file, b"\n")
    return size + 1


def _lines(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the lines in the first `size` bytes."""

    def chunks() -> Iterator[bytes]:
        left = size
        while left > 0 and (chunk := file.readline(min(left, LARGEST))):
            left -= len(chunk)
            yield chunk

    return inspection.lines_of(chunks())


def _backwards(file: IO[bytes], size: int) -> Iterator[Entry]:
    """Yield the entries in the first `size` bytes, the last one first."""
    rest = b""
    while size > 0:
        start = max(0, size - _READ_BYTES)
        first, *lines = (os.pread(file.fileno(), size - start, start) + rest).split(b"\n")
        size, rest = start, first[:LARGEST]
        for line in reversed(lines if start else [first, *lines]):
            with suppress(Damaged):
                yield read_entry(line)
