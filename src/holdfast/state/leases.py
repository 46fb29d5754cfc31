"""The leases of one worker: what it may use without asking anybody, and how it gets, returns and recovers them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from holdfast.clock import Clock, UlidFactory
from holdfast.database import translated
from holdfast.state.files import STATE
from holdfast.state.holders import Holder, Holders, Place
from holdfast.state.limits import Meter
from holdfast.state.spending import Grant, Held, Order, Spending

RECOVER_SECONDS = 0.25
"""How often a draw that finds nothing left looks for leases of the dead."""

logger = logging.getLogger(__name__)


class Lease:
    """A part of a window that this worker may use. Of `used` all is in the worker's file, and outlives it.

    `take` and `settle` belong to the thread of the event loop, and only there may `free` be changed.
    """

    __slots__ = (
        *("before", "cap", "cells", "ends", "filled", "free", "low", "meter", "number", "open", "over", "pace"),
        *("place", "starts", "used"),
    )

    def __init__(self, number: int, meter: Meter, starts: int, ends: float, cap: int) -> None:
        self.number = number
        self.meter = meter
        self.starts = starts
        self.ends = ends
        self.cap = cap
        """Under which it was drawn: under a lower one, it may be too much."""
        self.free = 0
        """Drawn, and not used. Negative if more was used than drawn."""
        self.used = 0
        """What was settled, and the worst case of what is under way."""
        self.open = 0
        """How many reservations are under way."""
        self.over = 0
        """What was used beyond its reservation."""
        self.low = 0
        """The least that was free since it was last looked at, when..."""
        self.before = 0
        """...so much was used..."""
        self.pace = 0
        """...which was so much more than the time before."""
        self.filled = (-1, 0.0)
        """What was used when more was drawn, and when that was, on the clock's monotonic time."""
        self.place: Place | None = None
        self.cells: memoryview[int] = memoryview(b"")
        """The cell of `used`, for who recovers it."""

    def take(self, amount: int) -> None:
        """Use so much, which must be free."""
        free = self.free - amount
        self.free = free
        if free < self.low:
            self.low = free
        self.open += 1
        self.used = self.cells[0] = self.used + amount

    def settle(self, rest: int) -> None:
        """End what was taken: `rest` of it was not used after all. Negative: so much more was."""
        self.open -= 1
        if rest:
            self.free += rest
            self.used = self.cells[0] = self.used - rest
            if rest < 0:
                self.over -= rest

    @property
    def quiet(self) -> bool:
        """Whether nothing was taken or settled since the last look."""
        return self.used == self.before and self.low >= self.free

    def look(self) -> int:
        """Return how much of what is free was not needed since the last look, nor will be at the same pace."""
        self.pace = max(0, self.used - self.before)
        surplus = min(self.low, self.free) - 2 * self.pace
        self.low, self.before = self.free, self.used
        return surplus


class Change(NamedTuple):
    """A lease, and what is to become of it. Who orders that it is to keep what is free has taken the rest from it."""

    lease: Lease
    order: Order


class Leases:
    """One worker's share of the spending. Methods block, and belong to one thread at a time.

    Raises:
        StateError: from every method. The state can't be used; nothing is lost, and it can be tried again.
    """

    def __init__(self, spending: Spending, clock: Clock) -> None:
        self._spending = spending
        self._clock = clock
        self._holders = Holders(spending.directory)
        self._holder: Holder | None = None
        self._recovered = -RECOVER_SECONDS

    @property
    def live(self) -> int:
        """How many workers drew when last looked."""
        return self._holders.live

    def exchange(self, changes: Sequence[Change]) -> list[Grant]:
        """Carry out changes. Where nothing is left to draw, what the dead left behind is recovered first, and those who
        live are asked for what they hold free, if it is enough.
        """
        grants = self._exchange(changes)
        short = [at for at, change in enumerate(changes) if grants[at].short_of(change.order)]
        if short and self._clock.monotonic() - self._recovered >= RECOVER_SECONDS and self.recover():
            for at, grant in zip(short, self._exchange([changes[at] for at in short]), strict=True):
                grants[at] = grant
        for lease, order in changes:
            if order.close:
                self._release(lease)
        used = cache(self._holders.used)
        with translated(self._spending.directory, STATE):
            return [self._ask(change.order, grant, used) for change, grant in zip(changes, grants, strict=True)]

    def wanted(self) -> int:
        """Return the number of a lease that other workers wait for, once; 0 if there is none. It does not block."""
        return 0 if self._holder is None else self._holder.wanted()

    def recover(self) -> int:
        """Give back what dead workers have not used, and return how many leases that were."""
        self._recovered = self._clock.monotonic()
        count = 0
        with translated(self._spending.directory, STATE):
            for id, used in self._holders.dead():
                leases = self._spending.recover(id, used)
                if leases:
                    logger.info("Recovered %d leases of worker %s, which has died.", leases, id)
                if leases and used is None:
                    logger.warning("What worker %s used before it died is not known: its leases count as used.", id)
                count += leases
        return count + self._recover_lost()

    def close(self) -> None:
        """End this worker's presence. What it could not give back, others recover."""
        holder, self._holder = self._holder, None
        if holder is None:
            return
        held = True
        try:
            held = holder.id in self._spending.holders()
        finally:
            with translated(self._spending.directory, STATE):
                holder.close(remove=not held)

    # --- inside ---

    def _exchange(self, changes: Sequence[Change]) -> list[Grant]:
        with translated(self._spending.directory, STATE):
            holder = self._holder or self._enter()
            for lease, order in changes:
                if lease.place is None and not order.close:
                    lease.place = place = holder.place(lease.number)
                    lease.cells = place.cells[place.at + 1 : place.at + 2]
        return self._spending.exchange(holder.id, [change.order for change in changes], self._holders.live)

    def _ask(self, order: Order, grant: Grant, used: Callable[[str], Mapping[int, int] | None]) -> Grant:
        """Say how much others hold free, and let them know if it is waited for."""
        if not grant.others:
            return grant
        free = {held: _free(held, used(held.holder)) for held in grant.others}
        idle = sum(free.values())
        if idle > 0 and grant.left + idle >= order.least:
            for held, amount in free.items():
                if amount > 0:
                    self._holders.want(held.holder, held.number)
        return grant._replace(idle=max(0, idle))

    def _enter(self) -> Holder:
        holder = self._holder = Holder.create(self._spending.directory, UlidFactory(self._clock))
        self.recover()
        return holder

    def _release(self, lease: Lease) -> None:
        if lease.place is not None and self._holder is not None:
            self._holder.release(lease.place)
            lease.place = None

    def _recover_lost(self) -> int:
        """Count leases as used whose holder has no file any more. A holder has its file before its first lease."""
        lost = [id for id in self._spending.holders() if not self._holders.exists(id)]
        for id in lost:
            if leases := self._spending.recover(id, None):
                logger.warning("The file of worker %s is lost: its %d leases count as used.", id, leases)
        return len(lost)


def _free(held: Held, used: Mapping[int, int] | None) -> int:
    """Return how much of a lease is free. One that its holder does not know any more was closed a moment ago."""
    return 0 if used is None else held.granted - used.get(held.number, 0)
