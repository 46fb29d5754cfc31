"""Keyrings for tests, with a clock of their own."""

import random
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from holdfast.errors import PrivacyError
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE, MasterKey

MASTER = MasterKey(random.Random(1).randbytes(32))
OTHER = MasterKey(random.Random(2).randbytes(32))
ADA, BOB = "ad" * 16, "b0" * 16
START_S = 1_800_000_000


class Ticking:
    """A clock that goes on by a second whenever it is asked."""

    def __init__(self) -> None:
        self._seconds = count(START_S)

    def now(self) -> float:
        return float(next(self._seconds))

    monotonic = now


def keyring(directory: Path, master: MasterKey | None = MASTER, *, read_only: bool = False) -> Keyring:
    """Open the keyring of a directory."""
    return Keyring(directory / KEYRING_FILE, master, Ticking(), read_only=read_only)


class Shelf:
    """A store in memory: what subjects have, by their hash. Fails as long as `broken` is set."""

    def __init__(self, name: str, things: Mapping[str, int] | None = None) -> None:
        self.name = name
        self.things = dict(things or {})
        self.broken = False
        self.asked: list[str] = []

    def erase(self, subject: str) -> int:
        if self.broken:
            raise PrivacyError(f"{self.name} is out of reach.")
        self.asked.append(subject)
        return self.things.pop(subject, 0)

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        for number in range(self.things.get(subject, 0)):
            yield {"number": number}
