"""The schedule of background work in a process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


class Jobs:
    """Does work every so often, on the loop it was started on. A job never overlaps with itself.

    One that fails is reported and done again at its next turn; that it goes on failing is not reported again.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, seconds: float, name: str, work: Work) -> None:
        """Do `work` `seconds` from now, and again `seconds` after it has ended."""
        self._tasks.append(asyncio.get_running_loop().create_task(_repeat(seconds, name, work), name=name))

    async def aclose(self) -> None:
        """Cancel all jobs and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def _repeat(seconds: float, name: str, work: Work) -> None:
    failing = False
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:
            if not failing:
                logger.exception("%s failed, and is tried again every %g s: %s", name, seconds, error)
            failing = True
        else:
            if failing:
                logger.info("%s works again", name)
            failing = False
