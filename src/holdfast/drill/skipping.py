"""An event loop whose time leaps over the waits: a silence of half a minute is over in an instant, and is still half a
minute to everything that runs on the loop.

Time passes as usual while there is work. Only when nothing is ready, and no thread is at work, the clock moves on to
the next timer. Deadlines, timeouts, back-off and the pace of the simulated providers all keep their true lengths.
"""

import asyncio
import os
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")

WORTH_A_LEAP = 0.0025
"""Seconds. Below it the loop waits as any: who comes back every millisecond waits for what the system does."""
SHARE_OF_WAIT = 0.002
SHORTEST_PATIENCE, LONGEST_PATIENCE = 0.0001, 0.03
"""How long the sockets are really waited for before a leap, in seconds: a share of it, since what is on its way over
loopback must not be overtaken, and a long leap overtakes more."""
TICK = 0.001
"""Seconds below which a selector can't wait, but rounds up."""


class SkippingLoop(asyncio.SelectorEventLoop):
    """See the module. `skipped` is how many seconds did not have to be waited for."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self._threads = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return time.monotonic() + self.skipped

    @property
    def at_work(self) -> bool:
        """Whether a thread is at work, whose end no leap may overtake."""
        return self._threads > 0

    def run_in_executor(
        self, executor: Executor | None, func: "Callable[[Unpack[Args]], T]", *args: "Unpack[Args]"
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= WORTH_A_LEAP or self._loop.at_work:
            return super().select(timeout)
        until = self._loop.time() + timeout
        ready = super().select(0) or self._patiently(timeout)
        if not ready:
            self._loop.skipped += max(0.0, until - self._loop.time())
        return ready

    def _patiently(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        patience = min(max(timeout * SHARE_OF_WAIT, SHORTEST_PATIENCE), LONGEST_PATIENCE)
        if patience >= TICK:
            return super().select(patience)
        until, ready = time.monotonic() + patience, super().select(0)
        while not ready and time.monotonic() < until:
            os.sched_yield()
            ready = super().select(0)
        return ready


class LoopClock:
    """The clock of the running loop. Implements `clock.Clock`."""

    def __init__(self, loop: SkippingLoop) -> None:
        self._loop = loop
        self.monotonic = loop.time

    def now(self) -> float:
        return time.time() + self._loop.skipped
