"""How many failures to sign in are recorded: strangers may not make the audit trail grow without bound."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

MOST: Final = 60
"""The failures that one worker records one by one..."""
WINDOW_S: Final = 60.0
"""...within so many seconds, from the first of them on."""


class Failures:
    """Counts failures. Those beyond `MOST` are given to `sum_up` as a number when their minute is over, or before
    that when the loop ends.
    """

    def __init__(self, sum_up: Callable[[int], Awaitable[None]]) -> None:
        self._sum_up = sum_up
        self._count = 0
        self._ends = 0.0
        self._left_out = 0
        self._waiting: asyncio.Task[None] | None = None

    def admit(self) -> bool:
        """Count a failure, and return whether to record it by itself."""
        now = asyncio.get_running_loop().time()
        if now >= self._ends:
            self._count, self._ends = 0, now + WINDOW_S
        self._count += 1
        if self._count <= MOST:
            return True
        self._left_out += 1
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._wait(self._ends - now))
        return False

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            left_out, self._left_out, self._waiting = self._left_out, 0, None
            await self._sum_up(left_out)
