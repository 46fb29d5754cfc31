"""Limits on the way of a call: the worst case of an attempt is reserved before it is sent, and settled after it.

Both happen in memory, on leases: the parts of the limits that this worker has drawn from the state.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from holdfast.clock import Clock
from holdfast.errors import PriceUnknown, StateError
from holdfast.gateway.spending.draws import AGAIN, Draws, Lack
from holdfast.state.leases import Lease, Leases
from holdfast.state.limits import Limit, Meter, Unit
from holdfast.state.spending import Spending

PERIOD: Final = 0.5
"""Seconds between two looks at the leases. One that was not used for as long is given back."""
LOOKS: Final = 10
"""How many times in a period a worker looks whether others wait for what it holds free."""
PATIENCE: Final = 1.2
"""Seconds for which a call waits, at most, for what other workers hold free."""
ABSURD: Final = 2**50
"""What a provider says was used is not believed beyond this, which would be a million dollars."""

Limits = tuple[Limit, ...]

_INDEX: Final[dict[Unit, int]] = {"requests": 0, "tokens": 1, "nanousd": 2}
_MOST_PURSES: Final = 10_000


class Need(NamedTuple):
    """The worst case of an attempt. None: no bound of it is known, for the reason that `why` tells."""

    requests: int
    tokens: int | None
    nanousd: int | None
    why: str = "The price of the model is not known."


class Reservation:
    """What is set aside for one attempt. It has to be settled, whatever becomes of the attempt."""

    __slots__ = ("_need", "_taken")

    def __init__(self, taken: "list[tuple[Lease, int]]", need: Need) -> None:
        self._taken = taken
        self._need = need

    def settle(self, requests: int, tokens: int | None, nanousd: int | None) -> None:
        """Say what was used. None is not known: the worst case counts. Only the first time counts.

        It is booked in the windows that it was reserved in, whenever it comes, and also if it is more.
        """
        taken, self._taken = self._taken, []
        need = self._need
        rests = (_rest(need.requests, requests), _rest(need.tokens, tokens), _rest(need.nanousd, nanousd))
        for lease, unit in taken:
            lease.settle(rests[unit])


class Purse:
    """The limits that hold together for some calls."""

    __slots__ = ("_draws", "_entries", "_now", "limits", "measures")

    def __init__(self, draws: Draws, limits: Sequence[Limit]) -> None:
        self.limits = tuple(limits)
        self.measures = any(limit.unit != "requests" for limit in limits)
        """Whether a worst case in tokens or money is needed; otherwise `Need(1, 0, 0)` does."""
        self._draws = draws
        self._now = draws.clock.now
        self._entries = tuple((draws.account(limit.meter), limit.cap, _INDEX[limit.unit]) for limit in limits)

    def try_reserve(self, need: Need) -> Reservation | None:
        """Set the worst case of an attempt aside. Return None where more has to be drawn first.

        Raises:
            PriceUnknown: there is no worst case, and a limit needs one.
        """
        now = self._now()
        taken = []
        for account, cap, unit in self._entries:
            lease, most = account.lease, need[unit]
            if most is None:
                raise PriceUnknown(self._no_bound(need))
            if lease is None or not lease.starts <= now < lease.ends:
                return None
            if (lease.free < most or lease.cap > cap) and most:  # type: ignore[operator]
                return None
            taken.append((lease, unit))
        for lease, unit in taken:
            lease.take(need[unit])  # type: ignore[arg-type]
        return Reservation(taken, need)

    async def reserve(self, need: Need, until: float) -> Reservation:
        """Set the worst case of an attempt aside. Where more has to be drawn first, wait for it, at most until `until`
        on the clock's monotonic time; for what other workers have to give back first, at most for `PATIENCE`.

        Raises:
            LimitExceeded: one of the limits leaves less than that.
            PriceUnknown: there is no worst case, and a limit needs one.
            Saturated: the state can't be used, or not in time.
        """
        patient = min(until - AGAIN, self._draws.clock.monotonic() + PATIENCE)
        while (reservation := self.try_reserve(need)) is None:
            if lacks := self._lacks(need):  # none where the clock was set back in between
                await self._draws.draw(lacks, until, patient)
        return reservation

    def _lacks(self, need: Need) -> list[Lack]:
        now = self._now()
        lacks = []
        for (account, cap, unit), limit in zip(self._entries, self.limits, strict=True):
            lease, most = account.current(now), need[unit]
            if most is None:
                raise PriceUnknown(self._no_bound(need))
            assert isinstance(most, int)
            if lease is None or (most and (lease.free < most or lease.cap > cap)):
                lacks.append(Lack(account, limit, most))
        return lacks

    def _no_bound(self, need: Need) -> str:
        limit = next(limit for limit in self.limits if need[_INDEX[limit.unit]] is None)
        return f"What this call may use is not known, and a limit holds ({limit.name}). {need.why}"


class Budgets:
    """The limits of one worker, on one event loop. `sleep` is how a call waits for so many seconds."""

    def __init__(
        self,
        spending: Spending | None,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._draws = None if spending is None else Draws(Leases(spending, clock), clock, sleep)
        self._purses: dict[tuple[Limit, ...], Purse] = {}
        self._joint: dict[tuple[str | None, str | None], tuple[Limits, Limits, Limits, Purse]] = {}

    def purse(self, limits: Sequence[Limit]) -> Purse | None:
        """Return what holds for calls under these limits, None where there are none. It is cheap for a tuple.

        Raises:
            StateError: there is no state that could keep count.
        """
        if not limits:
            return None
        limits = tuple(limits)
        purse = self._purses.get(limits)
        if purse is None:
            if self._draws is None:
                raise StateError(f"A limit holds ({limits[0].name}), and there is no state to keep count in.")
            if len(self._purses) >= _MOST_PURSES:
                self._purses.clear()
            purse = self._purses[limits] = Purse(self._draws, _strictest(limits))
        return purse

    def joint(self, key: str | None, own: Limits, tenant: Limits, name: str | None, feature: Limits) -> Purse | None:
        """Return what holds for the calls of a key, of its tenant, and of a feature together; None if nothing does.

        As `purse`, but what was returned last for a key and a feature is found without a look at the limits.

        Raises:
            StateError: there is no state that could keep count.
        """
        if not (own or tenant or feature):
            return None
        last = self._joint.get((key, name))
        if last is not None and last[0] is own and last[1] is tenant and last[2] is feature:
            return last[3]
        purse = self.purse((*own, *tenant, *feature))
        assert purse is not None
        if len(self._joint) >= _MOST_PURSES:
            self._joint.clear()
        self._joint[key, name] = own, tenant, feature, purse
        return purse

    async def work(self) -> None:
        """Give back what is not used or others wait for, and recover what dead workers hold, until cancelled."""
        while True:
            looks = LOOKS if self._purses else 1
            for _ in range(looks):
                await asyncio.sleep(PERIOD / looks)
                await self.share()
            await self.tend()

    async def share(self) -> None:
        """Give back at once what other workers wait for, if it is free."""
        if self._draws is not None and self._purses:
            await self._draws.share()

    async def tend(self) -> None:
        """Look at the leases once. A state that can't be used is logged, and tried again the next time."""
        if self._draws is not None and self._purses:
            await self._draws.tend()

    async def close(self) -> None:
        """Give everything back. What is still under way counts with its worst case. To be done before the spending
        is closed. It may be done twice.
        """
        if self._draws is not None:
            await self._draws.close()


def _rest(most: int | None, real: int | None) -> int:
    """Return how much of what was set aside was not used."""
    return most - real if real is not None and most is not None and 0 <= real <= ABSURD else 0


def _strictest(limits: Sequence[Limit]) -> list[Limit]:
    """Return one limit for each meter, the one with the smallest cap."""
    strictest: dict[Meter, Limit] = {}
    for limit in limits:
        known = strictest.setdefault(limit.meter, limit)
        if limit.cap < known.cap:
            strictest[limit.meter] = limit
    return list(strictest.values())
