"""A deadline for the task at hand: `asyncio.timeout_at` without its coroutines, which every call would pay for."""

import asyncio
from types import TracebackType


class Alarm:
    """Cancels the task in its `with` block at `when`, on the loop's clock, and makes a TimeoutError of that.

    As with `asyncio.timeout`, a cancellation from elsewhere stays one.
    """

    __slots__ = ("_before", "_handle", "_loop", "_task", "_when", "rang")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self.rang = False
        """Whether the time has come within the block."""
        self._loop = loop
        self._when = when

    def __enter__(self) -> "Alarm":
        task = asyncio.current_task(self._loop)
        assert task is not None, "an alarm needs a task"
        self._task, self._before = task, task.cancelling()
        self._handle = self._loop.call_at(self._when, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self.rang and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _ring(self) -> None:
        self.rang = True
        self._task.cancel()
