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
        self._pool = b""
        self._used = 0

    def __call__(self) -> str:
        used = self._used
        if used == len(self._pool):
            self._pool, used = self._random(_POOL_BYTES), 0
        self._used = used + 10
        value = int(self._now() * 1000) << 80 | int.from_bytes(self._pool[used : used + 10])
        return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


_POOL_BYTES = 5120
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_SHIFTS = tuple(range(120, -10, -10))
