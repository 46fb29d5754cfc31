"""Reads an audit trail against its head, and against heads that were kept elsewhere: all that is wrong with it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

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
    read_entry,
)

MOST = 10_000
"""Findings in the lines: what has more is no trail."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong. `line` counts from 1 in the trail; None is the head, or the trail as a whole."""

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class Report(msgspec.Struct, frozen=True):
    """What verification found. `entries` counts the lines that are sound; `key` is what the head is signed with."""

    entries: int
    key: str | None
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def inspect(
    lines: Iterable[bytes], head: Head | Damaged | None, kept: Sequence[Head] = (), public: str | None = None
) -> Report:
    """Return all that is wrong with the lines of a trail, each with its line feed.

    `head` is what lies beside it: Damaged if it can't be read, None if there is none. `public` is the key of this
    installation, None if that is not at hand.
    """
    inspection = _Inspection(kept)
    inspection.findings += islice(inspection.read(lines), MOST)
    if len(inspection.findings) == MOST:
        inspection.findings.append(Finding(None, f"there may be more: only the first {MOST} findings are told."))
    else:
        inspection.findings += list(inspection.head(head, public))
        inspection.findings += list(inspection.kept())
    key = head.key if isinstance(head, Head) else None
    return Report(inspection.sound, key, tuple(inspection.findings), tuple(inspection.warnings))


class _Inspection:
    """What is known after the lines read so far."""

    def __init__(self, kept: Sequence[Head]) -> None:
        self.findings: list[Finding] = []
        self.warnings: list[str] = []
        self.sound = 0
        self._kept: Mapping[int, list[Head]] = _by_number(kept)
        self._met: set[int] = set()
        self._size = 0
        self._line = 0
        self._last: Entry | None = None
        self._last_line = b""
        self._damaged = 0
        """How many lines in a row are none, up to here."""
        self._cut = b""
        """What follows the last line feed."""
        self._key: str | None = None
        """What heads are signed with, by what the trail says."""

    # --- the lines ---

    def read(self, lines: Iterable[bytes]) -> Iterator[Finding]:
        """Read the trail."""
        for raw in lines:
            self._size += len(raw)
            if not raw.endswith(b"\n"):
                self._cut = raw
                return
            self._line += 1
            line = raw[:-1]
            try:
                entry = read_entry(line)
            except Damaged as damage:
                self._damaged += 1
                yield Finding(self._line, f"this is not what was written: {damage}.")
                continue
            yield from self._sequence(entry)
            yield from self._remark(entry)
            yield from self._compare(entry, line)
            self._last, self._last_line, self._damaged = entry, line, 0
            self.sound += 1

    def _sequence(self, entry: Entry) -> Iterator[Finding]:
        """Check that an entry follows the one before it."""
        before = self._last.n if self._last else 0
        first, between = before + 1 + self._damaged, entry.n - before - 1
        if between < 0:
            yield Finding(self._line, f"entry {entry.n} comes after entry {before}: entries were swapped or repeated.")
        elif between > self._damaged:
            yield Finding(self._line, f"{_entries(first, entry.n - 1)} missing before this one.")
        elif not self._damaged and entry.prev != (self._last.hash if self._last else ZERO):
            yield Finding(self._line, "this entry does not follow the one before it: one of them was replaced.")

    def _remark(self, entry: Entry) -> Iterator[Finding]:
        """Take note of what the trail says of itself."""
        if entry.action == RESUMED:
            reason = entry.details.get("reason", "it was damaged")
            yield Finding(self._line, f"the trail went on here after damage: {reason}. Entries before may be missing.")
        elif entry.action == UNSIGNED:
            yield Finding(self._line, "heads are not signed any more from here on: `cryptography` was not installed.")
            self._key = None
        elif entry.action == SUCCEEDED:
            yield from self._succession(entry)
        elif entry.action == SIGNED:
            if self._key is not None:
                yield Finding(
                    self._line,
                    "heads began to be signed anew here, as the one before was not signed by this installation: "
                    "its head was replaced, or its master key.",
                )
            elif self._last is not None:
                self.warnings.append(
                    f"Up to line {self._line} nothing was signed: "
                    "whoever could write to the folder could have written all of it anew."
                )
            self._key = str(entry.details.get("key"))

    def _succession(self, entry: Entry) -> Iterator[Finding]:
        """Check that the key of the heads names the next one."""
        state = check_succession(entry)
        if state == "forged" or entry.details.get("by") != self._key:
            yield Finding(self._line, "heads are signed with another key from here on, for which none before vouches.")
        elif state == "unknown":
            self.warnings.append(
                f"Whether the change of the key in line {self._line} is right was not checked: "
                'pip install "holdfast[custody]".'
            )
        self._key = str(entry.details.get("key"))

    def _compare(self, entry: Entry, line: bytes) -> Iterator[Finding]:
        """Check an entry against the heads kept elsewhere that end with it."""
        for head in self._kept.get(entry.n, ()):
            self._met.add(entry.n)
            if head.line.encode() != line:
                yield Finding(
                    self._line, f"the head that was kept has another entry {entry.n}: the trail was rewritten."
                )

    # --- the head ---

    def head(self, head: Head | Damaged | None, public: str | None) -> Iterator[Finding]:
        """Check the end of the trail against the head beside it."""
        if head is None or isinstance(head, Damaged):
            wrong = "is gone" if head is None else f"is not what was written: {head}"
            yield Finding(None, f"audit.head {wrong}. Entries may be missing at the end.")
            if self._cut:
                yield Finding(self._line + 1, "this is not what was written: it is cut.")
            return
        yield from self._end(head)
        yield from self._signature(head, public)

    def _end(self, head: Head) -> Iterator[Finding]:
        last, line = self._last.n if self._last else 0, self._line + 1
        whole = head.line.encode() + b"\n"
        pending = last == head.entries - 1 and not self._damaged and whole.startswith(self._cut)
        if pending and self._size == head.size - len(whole) + len(self._cut):
            state = "is cut" if self._cut else "is missing"
            yield Finding(line, f"entry {head.entries} {state}. audit.head holds it, and the next entry puts it back.")
            for _ in self._remark(head.last):
                pass  # it is told once the entry is back
            return
        if self._cut:
            yield Finding(line, "this is not what was written: it is cut.")
        if last < head.entries and not (self._damaged and last + self._damaged == head.entries):
            missing = _entries(last + 1 + self._damaged, head.entries)
            yield Finding(line, f"{missing} missing at the end: audit.head says there are {head.entries}.")
        elif last > head.entries:
            told = f"audit.head says there are {head.entries} entries: "
            yield Finding(self._line, f"{told}what comes after was not written by Holdfast, or the head was replaced.")
        elif last == head.entries and head.line.encode() != self._last_line:
            yield Finding(self._line, "audit.head holds another last entry: one of them was replaced.")
        elif self._size != head.size and not self.findings:
            told = f"the trail has {self._size} bytes, audit.head says {head.size}"
            yield Finding(None, f"{told}: something was put in or taken out.")

    def _signature(self, head: Head, public: str | None) -> Iterator[Finding]:
        state = head.check()
        if state == "forged":
            yield Finding(None, "audit.head: its signature is wrong.")
        elif state == "unknown":
            self.warnings.append('The signature was not checked: pip install "holdfast[custody]".')
        if head.key != self._key and (self._key is not None or not self.findings):
            yield Finding(None, f"audit.head is {_signed(head.key)}, by the trail it should be {_signed(self._key)}.")
        elif head.key is None and public is not None:
            yield Finding(None, "audit.head is not signed, though this installation signs heads since it started last.")
        elif head.key is None:
            self.warnings.append(
                'Heads are not signed, as `cryptography` is not installed (pip install "holdfast[custody]"): '
                "whoever can write to the folder can write all of it anew."
            )
        elif public is None:
            self.warnings.append(f"The master key is not at hand: compare the key with yours: {head.key}.")
        elif head.key != public:
            yield Finding(None, f"audit.head is {_signed(head.key)}, but the key of this installation is {public}.")

    # --- heads kept elsewhere ---

    def kept(self) -> Iterator[Finding]:
        """Check that every head kept elsewhere was met."""
        for n, heads in sorted(self._kept.items()):
            if any(head.check() == "forged" for head in heads):
                yield Finding(None, f"the head that was kept of entry {n}: its signature is wrong.")
            if n not in self._met:
                yield Finding(None, f"the head that was kept has an entry {n}, the trail has none: it was rolled back.")


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines from what `readline(LARGEST)` returns, a longer one cut short."""
    start = b""
    for chunk in chunks:
        if start:
            if chunk.endswith(b"\n"):
                yield start + b"\n"
                start = b""
        elif chunk.endswith(b"\n") or len(chunk) < LARGEST:
            yield chunk
        else:
            start = chunk
    if start:
        yield start


def _by_number(heads: Sequence[Head]) -> Mapping[int, list[Head]]:
    found: dict[int, list[Head]] = {}
    for head in heads:
        found.setdefault(head.entries, []).append(head)
    return found


def _entries(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _signed(key: str | None) -> str:
    return "not signed" if key is None else f"signed with the key {key}"
