"""How many failures to sign in are recorded."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import virtual_time
from holdfast.gateway.serving.pages.failures import MOST, WINDOW_S, Failures


class Recorded:
    def __init__(self) -> None:
        self.summed: list[int] = []
        self.failures = Failures(self.sum_up)

    async def sum_up(self, failures: int) -> None:
        await asyncio.sleep(0)
        self.summed.append(failures)

    def fail(self, times: int) -> int:
        """Return how many of so many failures are recorded one by one."""
        return sum([self.failures.admit() for _ in range(times)])


def run(scene: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(scene, virtual_time.VirtualLoop())


def test_usual_failures_are_all_recorded() -> None:
    async def scene() -> None:
        recorded = Recorded()
        for _ in range(5):
            assert recorded.fail(MOST) == MOST
            await asyncio.sleep(WINDOW_S)
        assert recorded.summed == []

    run(scene())


def test_of_a_flood_some_are_recorded_and_the_rest_is_one_number_when_the_minute_ends() -> None:
    async def scene() -> None:
        recorded = Recorded()
        assert recorded.fail(1000) == MOST
        await asyncio.sleep(WINDOW_S / 2)
        assert recorded.fail(500) == 0
        assert recorded.summed == []
        await asyncio.sleep(WINDOW_S / 2 + 1)
        assert recorded.summed == [1500 - MOST]

    run(scene())


def test_a_flood_that_lasts_for_hours_leaves_so_many_entries_a_minute() -> None:
    async def scene() -> None:
        recorded, alone = Recorded(), 0
        minutes = 60
        for _ in range(minutes * 10):
            alone += recorded.fail(100)
            await asyncio.sleep(WINDOW_S / 10)
        await asyncio.sleep(WINDOW_S)
        assert alone <= (minutes + 1) * MOST
        assert len(recorded.summed) <= minutes + 1
        assert alone + sum(recorded.summed) == minutes * 10 * 100

    run(scene())


def test_what_was_counted_is_told_when_the_loop_ends() -> None:
    async def scene() -> None:
        recorded = Recorded()
        recorded.fail(MOST + 3)
        (waiting,) = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert recorded.summed == [3]

    run(scene())
