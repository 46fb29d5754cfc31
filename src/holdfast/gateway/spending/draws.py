"""How a worker's leases are kept filled while calls wait: all that is wanted is drawn at once, in a thread."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from holdfast.clock import Clock
from holdfast.errors import LimitExceeded, Saturated, StateError
from holdfast.state.leases import Change, Lease, Leases
from holdfast.state.limits import Limit, Meter, amount
from holdfast.state.spending import Grant, Order

KNOWN: Final = 0.1
"""Seconds for which a worker believes what it was last told of a limit, or that the state is out of order."""
AGAIN: Final = 0.05
"""...and as long where others hold some of it free, which they may have given back by then."""
AHEAD: Final = 4
"""How many times what was used between two looks is drawn ahead."""
PLENTY: Final = 400
"""All workers together may hold one part in so many of what is left beyond what they need, as long as they use it."""
RETRY_SECONDS: Final = 1.0
"""After which a call may come again that an outage of the state, or what others hold, turned away."""

_NEVER: Final = float("-inf")
_TIME: Final = "%Y-%m-%d %H:%M:%S UTC"
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Account:
    """What one worker has and knows of one meter."""

    __slots__ = ("__weakref__", "_cap", "_start", "_until", "idle", "lease", "left", "meter", "others")

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.lease: Lease | None = None
        self.left = 0
        """How much anybody could still draw when last told..."""
        self.idle = 0
        """...how much more others held free, if that was too little..."""
        self.others = 0
        """...and how much others had used or set aside."""
        self._start = self._cap = -1
        self._until = _NEVER

    def current(self, now: float) -> Lease | None:
        """Return the lease of the window that is now."""
        lease = self.lease
        return lease if lease is not None and lease.starts <= now < lease.ends else None

    def learn(self, order: Order, grant: Grant, monotonic: float) -> None:
        """Take note of how much of a cap is left in a window. Only where that was too little is it also known what
        others hold, so that calls may be refused for a while.
        """
        self.left = max(0, grant.left)
        if grant.drawn < order.needed:
            self._start, self._cap = order.start, order.cap
            self._until = monotonic + (AGAIN if grant.idle else KNOWN)
            self.idle = max(0, min(grant.idle, grant.left + grant.idle))
            self.others = sum(held.granted for held in grant.others) - grant.idle
        elif (order.start, order.cap) != (self._start, self._cap):
            self._until = _NEVER

    def known(self, start: int, cap: int, monotonic: float) -> float | None:
        """Return until when it is known how much of a cap is left in a window, None if it is not, or not any more."""
        return self._until if (start, cap) == (self._start, self._cap) and monotonic < self._until else None


class Lack(NamedTuple):
    """An attempt may use so much under a limit, which is more than the worker holds."""

    account: Account
    limit: Limit
    amount: int


class Ask:
    """What those who wait need of one account."""

    __slots__ = ("cap", "least", "needed")

    def __init__(self, lack: Lack) -> None:
        self.cap = lack.limit.cap
        self.least = self.needed = lack.amount

    def join(self, lack: Lack) -> None:
        """Ask for another one too."""
        self.cap = min(self.cap, lack.limit.cap)
        self.least = min(self.least, lack.amount)
        self.needed += lack.amount


class Draws:
    """The leases of one worker, on one event loop."""

    def __init__(self, leases: Leases, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.clock = clock
        self._sleep = sleep
        self._leases = leases
        self._thread = ThreadPoolExecutor(1, "holdfast-limits")
        self._accounts: WeakValueDictionary[Meter, Account] = WeakValueDictionary()
        self._held: dict[Lease, Account] = {}
        """Every lease that may be open in the state. An account has its current one, others are to be closed."""
        self._number = 0
        self._asks: dict[Account, Ask] = {}
        self._asked: asyncio.Future[bool] | None = None
        """Of those who ask: done when they were answered, with whether the state could be used."""
        self._running: asyncio.Future[bool] | None = None
        self._looking = False
        self._wanted: set[int] = set()
        """The numbers of leases that other workers wait for."""
        self._down_until = _NEVER
        self._outage = False
        self._closed = False

    def account(self, meter: Meter) -> Account:
        """Return the account of a meter: the same as long as anybody uses it."""
        account = self._accounts.get(meter)
        if account is None:
            account = self._accounts[meter] = Account(meter)
        return account

    async def draw(self, lacks: Sequence[Lack], until: float, patient: float) -> None:
        """Draw what is lacking, together with what others lack, or wait for a moment if other workers hold it free and
        it is not `patient` yet (on the clock's monotonic time). Afterwards, it may still be lacking.

        Raises:
            LimitExceeded: there is not as much left.
            Saturated: the state can't be used, or did not answer before `until` (on the clock's monotonic time).
        """
        now = self.clock.monotonic()
        if self._closed or now < self._down_until:
            raise _out_of_order()
        again = max([self._check(lack, now, patient) for lack in lacks], default=now)
        if again > now:
            await self._sleep(again - now)
            return
        asked = self._ask(lacks)
        self._start()
        if until > now:
            await asyncio.wait((asked,), timeout=until - now)
        if not asked.done():
            raise Saturated("The limits could not be checked before the call's deadline.", retry_after=RETRY_SECONDS)
        if not asked.result():
            raise _out_of_order()

    async def share(self) -> None:
        """Give back at once what is free of a lease that other workers wait for."""
        number = self._leases.wanted()
        if number and not self._closed:
            self._wanted.add(number)
            self._start()
            await self._idle()

    async def tend(self) -> None:
        """Recover what the dead hold, and give back what is not needed. An outage of the state is logged."""
        if self._closed:
            return
        try:
            await self._in_thread(self._leases.recover)
        except StateError as error:
            self._failed(error)
        self._looking = True
        self._start()
        await self._idle()

    async def close(self) -> None:
        """Give all leases back. What is still under way counts with its worst case. It may be called twice."""
        if self._closed:
            return
        self._closed = True
        await self._idle()
        if self._asked is not None:
            self._asked.set_result(False)
        changes = [self._close(lease) for lease in self._held]
        try:
            if changes:
                await self._in_thread(partial(self._leases.exchange, changes))
        except StateError as error:
            logger.warning("Leases can't be given back: %s They will be recovered.", error)
        try:
            await self._in_thread(self._leases.close)
        except StateError as error:
            logger.warning("Whether all leases were given back is not known: %s They will be recovered.", error)
        self._thread.shutdown(wait=False)

    # --- what is asked ---

    def _check(self, lack: Lack, monotonic: float, patient: float) -> float:
        """Return when to ask for it: later, if there is as much left with what other workers hold free.

        Raises:
            LimitExceeded: it is known that there is not as much left.
        """
        account, limit, wanted = lack
        now = self.clock.now()
        if wanted > limit.cap:
            raise LimitExceeded(
                f"This call may use up to {amount(wanted, limit.unit)}, which is more than the limit ({limit.name})."
                f"{_shorter(limit)}",
                callers_fault=limit.cap > 0 or _is_the_callers(limit),
            )
        until = account.known(limit.window.start(now), limit.cap, monotonic)
        if until is None:
            return monotonic
        left, lease = account.left, account.current(now)
        if lease is not None and lease.cap <= limit.cap:
            left += max(0, lease.free)
        if wanted <= left:
            return monotonic
        idle = account.idle if wanted <= left + account.idle else 0
        if idle and until <= patient:
            return until
        under_way = account.others > 0 or (lease is not None and lease.open > 0)
        raise _exceeded(limit, wanted, left, now, idle=idle, under_way=under_way)

    def _ask(self, lacks: Sequence[Lack]) -> asyncio.Future[bool]:
        for lack in lacks:
            ask = self._asks.get(lack.account)
            if ask is None:
                self._asks[lack.account] = Ask(lack)
            else:
                ask.join(lack)
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
        return self._asked

    # --- one exchange with the state at a time ---

    def _start(self) -> None:
        """Begin an exchange, if there is anything to exchange and none is under way."""
        if self._running is not None or not (self._asks or self._looking or self._wanted):
            return
        changes = self._changes()
        if not changes:
            return
        loop = asyncio.get_running_loop()
        self._running, self._asked = self._asked or loop.create_future(), None
        job = loop.run_in_executor(self._thread, self._leases.exchange, changes)
        job.add_done_callback(partial(self._ended, changes))

    def _ended(self, changes: list[Change], job: asyncio.Future[list[Grant]]) -> None:
        error = job.exception()
        if error is None:
            self._outage = False
            for change, grant in zip(changes, job.result(), strict=True):
                self._apply(change, grant)
        else:
            self._failed(error)
        running, self._running = self._running, None
        assert running is not None
        running.set_result(error is None)
        if not self._closed:
            self._start()

    def _apply(self, change: Change, grant: Grant) -> None:
        lease, order = change
        if order.close:
            del self._held[lease]
            return
        lease.free += grant.drawn
        if grant.left >= 0:
            lease.cap = order.cap  # all that is drawn is within it
        account, now = self._held[lease], self.clock.monotonic()
        account.learn(order, grant, now)
        account.lease = lease
        if order.needed:
            lease.filled = lease.used, now

    def _failed(self, error: BaseException) -> None:
        """Take note of an outage. Whether anything was changed does not matter: every order says all of its lease."""
        if not isinstance(error, StateError):
            logger.error("Limits can't be drawn.", exc_info=error)
        elif not self._outage:
            logger.warning("Limits can't be drawn: %s", error)
        self._outage = True
        self._down_until = self.clock.monotonic() + KNOWN

    async def _idle(self) -> None:
        while self._running is not None:
            await asyncio.wait((self._running,))

    async def _in_thread(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    # --- what is exchanged ---

    def _changes(self) -> list[Change]:
        now = self.clock.now()
        changes = [self._fill(account, ask, now) for account, ask in self._asks.items()]
        self._asks = {}
        asking = {change.lease for change in changes}
        if self._wanted:
            wanted, self._wanted = self._wanted, set()
            given = [self._give(lease) for lease in self._held if lease.number in wanted and lease not in asking]
            changes += [change for change in given if change is not None]
            asking = {change.lease for change in changes}
        if self._looking:
            self._looking = False
            reviewed = [self._review(lease, now) for lease in self._held if lease not in asking]
            changes += [change for change in reviewed if change is not None]
        return changes

    def _fill(self, account: Account, ask: Ask, now: float) -> Change:
        """Draw what is asked for, and somewhat more for later."""
        lease = account.current(now)
        if lease is None:
            lease, more = self._new_lease(account, ask.cap, now), ask.cap
        else:
            more = AHEAD * max(lease.pace, lease.used - lease.before)
        kept = lease.free = 0 if lease.cap > ask.cap else max(0, lease.free)
        least, needed = max(0, ask.least - kept), max(0, ask.needed - kept)
        return Change(lease, _order(lease, ask.cap, least=least, needed=needed, most=more))

    def _new_lease(self, account: Account, cap: int, now: float) -> Lease:
        self._number += 1
        window = account.meter.window
        ends = window.ends(now)
        lease = Lease(self._number, account.meter, window.start(now), float("inf") if ends is None else ends, cap)
        self._held[lease] = account
        return lease

    def _review(self, lease: Lease, now: float) -> Change | None:
        """Give back what a lease does not need, or all of it if it is not used; book what was used beyond it."""
        account = self._held[lease]
        if lease.over:
            scope, of, unit, _ = lease.meter
            logger.warning("%s more was used than reserved by %s %s.", amount(lease.over, unit), scope, of)
            lease.over = 0
        quiet = lease.quiet
        if account.lease is lease and ((quiet and not lease.open) or account.current(now) is None):
            account.lease = None
        surplus = lease.look()
        if not quiet:
            surplus -= account.left // (PLENTY * self._leases.live)
        if account.lease is not lease:
            return None if lease.open else self._close(lease)
        if lease.free < 0:
            lease.free = 0
            return Change(lease, _order(lease, lease.cap))
        if surplus > 0:
            lease.free -= surplus
            return Change(lease, _order(lease, lease.cap))
        return None

    def _give(self, lease: Lease) -> Change | None:
        """Give back all that is free of a lease, unless it was drawn just now for a call that has yet to take it."""
        used, when = lease.filled
        fresh = used == lease.used and self.clock.monotonic() - when < AGAIN / 2
        if fresh or lease.free <= 0 or self._held[lease].lease is not lease:
            return None
        lease.free = 0
        return Change(lease, _order(lease, lease.cap))

    def _close(self, lease: Lease) -> Change:
        lease.free = 0
        return Change(lease, _order(lease, lease.cap, close=True))


def _order(lease: Lease, cap: int, *, least: int = 0, needed: int = 0, most: int = 0, close: bool = False) -> Order:
    keep = lease.used + lease.free
    return Order(lease.number, lease.meter, lease.starts, cap, keep, least, needed, most, close)


def _exceeded(limit: Limit, wanted: int, left: int, now: float, *, idle: int, under_way: bool) -> LimitExceeded:
    ends = limit.window.ends(now)
    seconds = None if ends is None else ends - now
    again = "never begins anew" if ends is None else f"begins anew at {datetime.fromtimestamp(ends, UTC):{_TIME}}"
    soon = ""
    if idle:
        soon = f" Other workers hold {amount(idle, limit.unit)} more that is free, and give it back when they can."
    elif under_way:
        soon = " Calls under way may leave more of it."
    if soon:
        seconds = RETRY_SECONDS if seconds is None else min(seconds, RETRY_SECONDS)
    return LimitExceeded(
        f"The limit is used up ({limit.name}): {amount(left, limit.unit)} left, this call may use up to "
        f"{amount(wanted, limit.unit)}. It {again}.{soon}",
        retry_after=seconds,
        callers_fault=_is_the_callers(limit),
    )


def _shorter(limit: Limit) -> str:
    """Say how a call takes less of a limit, where it can."""
    if limit.unit == "requests" or not limit.cap:
        return ""
    return " Set max_tokens, to less than now if it is set, or lower `max_output` of the model."


def _is_the_callers(limit: Limit) -> bool:
    return limit.scope != "feature"


def _out_of_order() -> Saturated:
    return Saturated("The limits can't be checked at the moment.", retry_after=RETRY_SECONDS)
