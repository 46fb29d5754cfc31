"""The schedule of background work."""

import asyncio
import logging

import pytest

from holdfast.jobs import Jobs


async def test_work_is_done_again_and_again_but_never_beside_itself() -> None:
    jobs, running, most, done = Jobs(), 0, 0, asyncio.Event()
    turns = 0

    async def work() -> None:
        nonlocal running, most, turns
        running, turns = running + 1, turns + 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if turns == 5:
            done.set()

    jobs.every(0.0, "work", work)
    await done.wait()
    await jobs.aclose()
    assert most == 1


async def test_a_failure_is_reported_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holdfast.jobs")
    jobs, turns, done = Jobs(), 0, asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns < 4:
            raise OSError("the disk is gone")
        if turns > 5:
            done.set()

    jobs.every(0.0, "counting", work)
    await done.wait()
    await jobs.aclose()
    assert [record.message for record in caplog.records] == [
        "counting failed, and is tried again every 0 s: the disk is gone",
        "counting works again",
    ]


async def test_closing_ends_work_that_is_under_way() -> None:
    jobs, began, ended = Jobs(), asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    jobs.every(0.0, "waiting", work)
    await began.wait()
    await jobs.aclose()
    assert ended
