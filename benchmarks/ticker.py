"""A steady pulse for event loops, whose own timers count in whole milliseconds."""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

FINEST_NS = 50_000
"""The kernel is asked no more often than this; what fell due in between is then called together."""


class Ticker:
    """Calls back `rate` times a second with the time each call was due, in monotonic nanoseconds."""

    def __init__(self, rate: float, callback: Callable[[int], None]) -> None:
        self.interval = round(1e9 / rate)
        self.callback = callback
        self.next = time.monotonic_ns() + self.interval
        self.fd = _periodic_timer(max(self.interval, FINEST_NS))
        asyncio.get_running_loop().add_reader(self.fd, self._fire)

    def _fire(self) -> None:
        os.read(self.fd, 8)
        now = time.monotonic_ns()
        while self.next <= now and self.fd >= 0:
            self.callback(self.next)
            self.next += self.interval

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)
        self.fd = -1


def _periodic_timer(interval_ns: int) -> int:
    """Return a descriptor that becomes readable every `interval_ns` (timerfd, which Python has only from 3.13)."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    seconds, nanoseconds = divmod(interval_ns, 10**9)
    spec = (ctypes.c_long * 4)(seconds, nanoseconds, seconds, nanoseconds)
    if fd < 0 or libc.timerfd_settime(fd, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "no timer")
    return int(fd)
