"""Audit trails for tests: small ones through the front door, large ones faster than the disk would allow."""

from pathlib import Path

from holdfast.privacy.audit.chain import SIGNED, ZERO, entry_line, head_line, read_entry
from holdfast.privacy.audit.trail import AUDIT_FILE, HEAD_FILE, Trail
from holdfast.privacy.signing import Signer

SIGNER = Signer(b"s" * 32)
START = 1_760_000_000.0


class TickingClock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self._now = START

    def monotonic(self) -> float:
        return self.now()

    def now(self) -> float:
        self._now += 1.0
        return self._now


def trail_in(directory: Path, signer: Signer | None = SIGNER) -> Trail:
    return Trail(directory, signer, TickingClock())


def filled(directory: Path, entries: int, signer: Signer | None = SIGNER) -> Trail:
    """Return a trail with some entries, the first of which says that it is signed, if it is."""
    trail = trail_in(directory, signer)
    for n in range(entries - (signer is not None)):
        trail.append("os:root", "key.create", key=f"hf_{n:08d}", tenant="acme")
    return trail


def large(directory: Path, entries: int) -> Trail:
    """Return a signed trail with many entries, written at once."""
    lines, before = [], ZERO
    for n in range(1, entries + 1):
        action, details = ("key.create", {"key": f"hf_{n:08d}"}) if n > 1 else (SIGNED, {"key": SIGNER.public})
        lines.append(entry_line(n, START + n, "os:root", action, details, before))
        before = lines[-1][-66:-2].decode()
    assert read_entry(lines[-1]).hash == before
    text = b"\n".join(lines) + b"\n"
    (directory / AUDIT_FILE).write_bytes(text)
    (directory / HEAD_FILE).write_bytes(head_line(entries, len(text), lines[-1], SIGNER))
    return trail_in(directory)
