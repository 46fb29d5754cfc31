"""Deadlines of tasks: `asyncio.timeout_at`, made for the hot path."""

import asyncio
from types import TracebackType
from typing import Final

SWEEP_SECONDS: Final = 1.0


class Alarms:
    """The deadlines of one event loop.

    Most tasks end long before their deadline. So one that is far off is only noted, and gets a timer when it has come
    near, which is looked for every `SWEEP_SECONDS`.
    """

    def __init__(self) -> None:
        self.far: dict[Alarm, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeping = False

    def at(self, when: float) -> "Alarm":
        """Return the alarm for a deadline on the loop's clock, to be used in a `with` statement."""
        return Alarm(self, when)

    def set(self, alarm: "Alarm") -> None:
        """Note an alarm, or start its timer."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if alarm.when - loop.time() < 2 * SWEEP_SECONDS:
            alarm.start(loop)
            return
        self.far[alarm] = None
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        near = loop.time() + 2 * SWEEP_SECONDS
        for alarm in [alarm for alarm in self.far if alarm.when < near]:
            del self.far[alarm]
            alarm.start(loop)
        self._sweeping = bool(self.far)
        if self._sweeping:
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)


class Alarm:
    """Cancels the task in its `with` block at `when`, and makes a TimeoutError of that.

    As with `asyncio.timeout`, a cancellation from elsewhere stays one.
    """

    __slots__ = ("_alarms", "_before", "_handle", "_task", "rang", "when")

    def __init__(self, alarms: Alarms, when: float) -> None:
        self.when = when
        self._alarms = alarms
        self._handle: asyncio.TimerHandle | None = None
        self.rang = False
        """Whether the time came within the block."""

    def __enter__(self) -> "Alarm":
        task = asyncio.current_task()
        assert task is not None, "an alarm needs a task"
        self._task, self._before = task, task.cancelling()
        self._alarms.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is None:
            del self._alarms.far[self]
            return
        self._handle.cancel()
        if self.rang and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the timer."""
        self._handle = loop.call_at(self.when, self._ring)

    def _ring(self) -> None:
        self.rang = True
        self._task.cancel()
