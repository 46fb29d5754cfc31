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


def new_id() -> str:
    """Return a ULID: 26 characters, 48 bits of milliseconds then 80 random bits (github.com/ulid/spec)."""
    value = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10))
    return "".join([_CROCKFORD[value >> shift & 31] for shift in range(125, -5, -5)])
