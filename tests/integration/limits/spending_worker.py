"""A worker of `test_kills.py`: spends under a limit until nothing is left, and notes whatever it sends in a file.

Arguments: the state, the file of what was sent, the unit, the cap, and how many clients call at once.
"""

import asyncio
import os
import random
import struct
import sys
import time
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.errors import LimitExceeded
from holdfast.gateway.spending import budgets
from holdfast.gateway.spending.budgets import Budgets, Need
from holdfast.state.limits import Limit, Window
from holdfast.state.spending import Spending

budgets.PERIOD = 0.05
PATIENCE = 1.0
"""Seconds without anything left after which a worker believes it."""


class Spender:
    def __init__(self, path, sent, unit, cap):
        clock = SystemClock()
        self.spending = Spending(path)
        self.budgets = Budgets(self.spending, clock)
        self.purse = self.budgets.purse((Limit("tenant", "acme", unit, cap, Window.TOTAL),))
        self.sent = os.open(sent, os.O_WRONLY | os.O_APPEND)
        self.scale = cap // 1000
        self.last = time.monotonic()

    async def client(self):
        while time.monotonic() - self.last < PATIENCE:
            worst = random.randint(1, self.scale)
            cost = random.randint(0, worst)
            try:
                reservation = await self.purse.reserve(Need(1, worst, worst), time.monotonic() + 10)
            except LimitExceeded:
                await asyncio.sleep(0.02)
                continue
            os.write(self.sent, struct.pack("q", cost))
            self.last = time.monotonic()
            await asyncio.sleep(random.random() * 0.02)
            reservation.settle(1, cost, cost)

    async def run(self, clients):
        work = asyncio.create_task(self.budgets.work())
        await asyncio.gather(*[self.client() for _ in range(clients)])
        work.cancel()
        await self.budgets.close()
        self.spending.close()


if __name__ == "__main__":
    path, sent, unit, cap, clients = sys.argv[1:]
    asyncio.run(Spender(Path(path), sent, unit, int(cap)).run(int(clients)))
