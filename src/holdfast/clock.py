"""Time and identity, injected so that tests can own them."""

import os
import time
from collections.abc import Callable
from typing import Protocol

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Clock(Protocol):
    """Tells the time. Deadlines use `monotonic`, records use `now`."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)


NewId = Callable[[], str]
"""Makes the id of a call: unique, and sortable by time of creation."""


class UlidFactory:
    """Makes ULIDs: 26 characters, 48 bits of milliseconds then 80 random bits (github.com/ulid/spec).

    `random` returns that many random bytes; it is asked for many at once, because the system call is slow.
    """

    def __init__(self, clock: Clock, random: Callable[[int], bytes] = os.urandom) -> None:
        self._now = clock.now
        self._random = random
        self._ms = -1
        self._time = ""  # in Crockford's base 32, like what is random
        self._pool = ""
        self._used = 0

    def __call__(self) -> str:
        ms = int(self._now() * 1000)
        if ms != self._ms:
            self._ms, self._time = ms, "".join([_CROCKFORD[ms >> shift & 31] for shift in _SHIFTS])
        used = self._used
        if used == len(self._pool):
            self._pool, used = self._random(_POOL).translate(_DIGITS).decode("ascii"), 0
        self._used = used + _RANDOM
        return self._time + self._pool[used : used + _RANDOM]


_RANDOM = 16
"""The digits that are random: one for 5 bits of a byte of randomness."""
_POOL = _RANDOM * 512
_DIGITS = _CROCKFORD.encode() * 8
_SHIFTS = tuple(range(45, -5, -5))
