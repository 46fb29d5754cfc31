"""An event loop whose time passes only when everything waits for it, so that hours are tested in milliseconds."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that skips to its next timer. It is a Clock too, which goes with it."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select

        def skip(timeout: float | None) -> list[Any]:
            assert timeout is not None, "nothing will ever happen again"
            self._now += timeout
            return select(0)

        self._selector.select = skip

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def now(self) -> float:
        return self._now


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end, and see to it that no task is left."""
    try:
        result = loop.run_until_complete(main)
        assert not asyncio.all_tasks(loop)
        return result
    finally:
        loop.close()
