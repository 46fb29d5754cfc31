"""Deadlines of tasks, in virtual time."""

import asyncio

import pytest

from holdfast.gateway.alarm import SWEEP_SECONDS, Alarms
from virtual_time import VirtualLoop, run


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.9, 2.0, 2.1, 30.0, 599.99])
def test_it_rings_at_its_time_and_not_before(seconds: float) -> None:
    async def late() -> float:
        loop, alarms = asyncio.get_running_loop(), Alarms()
        start = loop.time()
        await asyncio.sleep(0.4)  # out of step with the sweep
        with pytest.raises(TimeoutError), alarms.at(start + 0.4 + seconds):
            await asyncio.sleep(1000)
        assert not alarms.far
        return loop.time() - start - 0.4

    assert run(late(), VirtualLoop()) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("seconds", [0.5, 60.0])
def test_what_ends_in_time_is_left_alone_and_forgotten(seconds: float) -> None:
    async def quick() -> str:
        alarms = Alarms()
        with alarms.at(asyncio.get_running_loop().time() + seconds):
            await asyncio.sleep(0.1)
        await asyncio.sleep(2 * seconds)
        assert not alarms.far
        return "done"

    assert run(quick(), VirtualLoop()) == "done"


@pytest.mark.parametrize("seconds", [0.5, 60.0])
def test_a_cancellation_from_elsewhere_stays_one(seconds: float) -> None:
    async def cancelled() -> None:
        alarms, loop = Alarms(), asyncio.get_running_loop()

        async def work() -> None:
            with alarms.at(loop.time() + seconds):
                await asyncio.sleep(1000)

        task = asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alarms.far

    run(cancelled(), VirtualLoop())


def test_a_cancellation_at_the_very_moment_of_the_deadline_is_not_swallowed() -> None:
    async def both() -> None:
        alarms, loop = Alarms(), asyncio.get_running_loop()
        task: asyncio.Task[None]

        async def work() -> None:
            with alarms.at(loop.time() + 0.5):
                await asyncio.sleep(1000)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        loop.call_at(loop.time() + 0.5, lambda: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task

    run(both(), VirtualLoop())


def test_an_error_within_passes_through() -> None:
    async def wrong() -> None:
        with Alarms().at(asyncio.get_running_loop().time() + 60):
            raise KeyError

    with pytest.raises(KeyError):
        run(wrong(), VirtualLoop())


def test_the_sweep_rests_while_there_is_nothing_to_wait_for() -> None:
    async def rest() -> None:
        alarms, loop = Alarms(), asyncio.get_running_loop()
        with alarms.at(loop.time() + 60):
            pass
        await asyncio.sleep(3 * SWEEP_SECONDS)
        assert not alarms._sweeping

    run(rest(), VirtualLoop())
