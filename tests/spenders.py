"""Workers that spend under limits, in one process: what the kernel keeps apart are open files, not processes."""

import asyncio
from datetime import UTC, datetime

from holdfast.gateway.spending.budgets import Budgets, Need
from holdfast.state.limits import Limit, Window
from holdfast.state.spending import Spending

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class ManualClock:
    """Both times go as they are told."""

    def __init__(self, now=NOON):
        self.wall = now
        self.mono = 1000.0

    def monotonic(self):
        return self.mono

    def now(self):
        return self.wall

    def sleep(self, seconds):
        self.mono += seconds
        self.wall += seconds


def requests(cap, window=Window.DAY, of="acme"):
    return Limit("tenant", of, "requests", cap, window)


def money(cap, window=Window.DAY, of="acme"):
    return Limit("tenant", of, "nanousd", cap, window)


def calls(count=1):
    return Need(count, None, None)


def cost(nanousd):
    return Need(1, None, nanousd)


class Worker:
    """The budgets of one worker, which can be killed. While it waits, its peers look at what is waited for."""

    def __init__(self, path, clock, peers=()):
        self.clock = clock
        self.peers = peers
        self.waited = 0.0
        self.spending = Spending(path)
        self.budgets = Budgets(self.spending, clock, self.wait)

    async def wait(self, seconds):
        self.waited += seconds
        self.clock.mono += seconds
        for peer in list(self.peers):
            await peer.budgets.share()
        await asyncio.sleep(0)

    def purse(self, *limits):
        return self.budgets.purse(limits)

    async def reserve(self, need, *limits, seconds=10.0):
        return await self.purse(*limits).reserve(need, self.clock.monotonic() + seconds)

    async def close(self):
        await self.budgets.close()
        self.spending.close()

    @property
    def leases(self):
        return self.budgets._draws._leases

    def kill(self):
        """Leave everything as it is: the kernel closes the file."""
        if self.leases._holder is not None:
            self.leases._holder.close(remove=False)
            self.leases._holder = None
        self.budgets._draws._thread.shutdown()
        self.spending.close()
