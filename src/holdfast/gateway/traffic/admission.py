"""Who may go on, who waits, and who is sent away: a bounded number of calls at once, and a bounded queue before it."""

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Literal, Protocol, get_args

from holdfast.clock import Clock
from holdfast.errors import Saturated
from holdfast.gateway.traffic.cells import REFUSED

Priority = Literal["live", "batch"]
Refusal = Literal["log", "queue", "deadline", "displaced", "unauthenticated"]
"""Why a call was turned away: the log can take no more; the queue was full; no place came free before its deadline, or
would have; a live call needed its place in the queue; it brought no valid key."""

LOOK_SECONDS: Final = 0.01
"""How often those who wait look whether another worker has left a place."""
SHORTEST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 30.0
"""Bounds of what a refused call is told to wait, in seconds."""

_Queue = OrderedDict[asyncio.Future[None], None]
_REFUSED: Final[Mapping[Refusal, int]] = {reason: REFUSED + n for n, reason in enumerate(get_args(Refusal))}


class Cells(Protocol):
    """Counters of which each worker has its own, as a row of the board has them."""

    @property
    def own(self) -> memoryview:
        """This worker's, as 64-bit integers."""
        ...

    def total(self, cell: int) -> int:
        """Return the sum over all workers."""
        ...


class Refusals:
    """How many calls were turned away, by reason."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def count(self, reason: Refusal) -> None:
        """Count one that this worker turned away."""
        self._cells.own[_REFUSED[reason]] += 1

    def totals(self) -> Mapping[str, int]:
        """Return the counts of all workers."""
        return {reason: self._cells.total(cell) for reason, cell in _REFUSED.items()}


class Gate:
    """Lets in at most `limit` calls at once (None: any number); at most `queue` wait, live ones before batch.

    A call enters by `try_enter() or await enter(...)` and must `leave()` once. Not for threads: one event loop.
    `refusals` counts those that are sent away.
    """

    def __init__(
        self,
        limit: int | None,
        queue: int,
        clock: Clock,
        *,
        of: str = "the gateway",
        refusals: Refusals | None = None,
    ) -> None:
        self.inside = 0
        """How many calls are in."""
        self._of = of
        self._refusals = refusals
        self._clock = clock
        self._live: _Queue = OrderedDict()
        self._batch: _Queue = OrderedDict()
        self._pace = Pace()
        self.resize(limit, queue)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._live) + len(self._batch)

    @property
    def full(self) -> bool:
        """Whether who comes now has to wait."""
        return bool(self._live or self._batch) or not self._free()

    def resize(self, limit: int | None, queue: int) -> None:
        """Change the limits. Nobody who is in or waits is sent away."""
        self._limit = sys.maxsize if limit is None else limit
        self._queue = queue
        self._busy = max(1, self._limit // 2)
        self._let_in()

    def try_enter(self) -> bool:
        """Go in if there is a place, which there never is while somebody waits."""
        if self.inside < self._limit:
            self.inside += 1
            return True
        return False

    def leave(self) -> None:
        """Give the place back: to the live call that has waited longest, else to such a batch call."""
        self.inside = inside = self.inside - 1
        if inside + 1 >= self._busy:
            self._let_in()
            self._pace.left(self._clock.monotonic(), inside + 1, busy=self.inside >= self._busy)

    async def enter(self, priority: Priority, until: float) -> None:
        """Wait for a place until `until`, on the clock's monotonic time.

        Raises:
            Saturated: at once when the queue is full or the wait is likely to last beyond `until`; later when `until`
                has come, or when a live call needs a batch call's place in the queue.
        """
        self._let_in()
        if self.try_enter():
            return
        self._check_wait(priority, until)
        self._make_room(priority)
        loop = asyncio.get_running_loop()
        queue, ticket = self._live if priority == "live" else self._batch, loop.create_future()
        queue[ticket] = None
        end = loop.call_later(until - self._clock.monotonic(), self._give_up, ticket)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self.leave()  # it had been let in, but will not go
            raise
        finally:
            end.cancel()
            queue.pop(ticket, None)

    # --- what a gate shared by workers does in its own way ---

    def _free(self) -> bool:
        return self.inside < self._limit

    def _take(self) -> None:
        self.inside += 1

    # --- inside ---

    def _let_in(self) -> None:
        while (self._live or self._batch) and self._free():
            ticket, _ = (self._live or self._batch).popitem(last=False)
            if not ticket.done():
                self._take()
                ticket.set_result(None)

    def _check_wait(self, priority: Priority, until: float) -> None:
        rest = until - self._clock.monotonic()
        wait = self._expected(1 + (len(self._live) if priority == "live" else self.waiting))
        if rest <= 0 or wait > rest:
            raise self._refused("deadline", f"a place is likely in {wait:.3g} s, after the call's deadline")

    def _make_room(self, priority: Priority) -> None:
        if self.waiting < self._queue:
            return
        if priority == "batch" or not self._batch:
            raise self._refused("queue", f"its queue of {self._queue} is full")
        ticket, _ = self._batch.popitem()
        self._refuse(ticket, "displaced", "a live call needed this call's place in the queue")

    def _give_up(self, ticket: asyncio.Future[None]) -> None:
        self._refuse(ticket, "deadline", "none came free before the call's deadline")

    def _refuse(self, ticket: asyncio.Future[None], reason: Refusal, why: str) -> None:
        if not ticket.done():
            ticket.set_exception(self._refused(reason, why))

    def _refused(self, reason: Refusal, why: str) -> Saturated:
        if self._refusals is not None:
            self._refusals.count(reason)
        wait = min(max(self._expected(1 + self.waiting), SHORTEST_RETRY), LONGEST_RETRY)
        return Saturated(f"All {self._limit} places of {self._of} are taken, and {why}.", retry_after=wait)

    def _expected(self, position: int) -> float:
        return position * self._pace.seconds / self._limit


class SharedGate(Gate):
    """A gate whose limit holds for all workers together: each counts its own calls in a cell that the others read.

    Workers look before they count, so when several let in a call in the same microseconds there may be one too many
    for each of them; a lock would cost more than that does. A place that a call of another worker leaves is found by
    looking for it, which is done only while somebody waits. The queue is each worker's own.
    """

    def __init__(
        self, limit: int | None, queue: int, clock: Clock, cells: Cells, cell: int, *, alone: bool, of: str
    ) -> None:
        self._own = cells.own
        self._total = cells.total
        self._cell = cell
        self._alone = alone
        self._looking: asyncio.TimerHandle | None = None
        super().__init__(limit, queue, clock, of=of)

    def try_enter(self) -> bool:
        if self._live or self._batch or self._total(self._cell) >= self._limit:
            return False
        self._take()
        return True

    def leave(self) -> None:
        self._own[self._cell] -= 1
        super().leave()
        self._let_in()

    async def enter(self, priority: Priority, until: float) -> None:
        if self._looking is None and not self._alone:
            self._look_later()
        await super().enter(priority, until)

    def _free(self) -> bool:
        return self._total(self._cell) < self._limit

    def _take(self) -> None:
        self._own[self._cell] += 1
        self.inside += 1

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = None
        self._let_in()
        if self._live or self._batch:
            self._look_later()


class Pace:
    """How long calls stay, by Little's law: those inside, times the time between two that leave."""

    __slots__ = ("_last", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        """How long a call stays, about. 0.0 until it is known, so that nobody is refused on a guess."""
        self._last: float | None = None

    def left(self, now: float, inside: int, *, busy: bool) -> None:
        """Take note that one of `inside` calls leaves, and whether the time until the next one leaves will tell."""
        if self._last is not None:
            sample = (now - self._last) * inside
            self.seconds += (sample - self.seconds) / (inside + 8)
        self._last = now if busy else None
