"""Last resorts that misbehave: the call still ends in time, in one way, which is logged."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.chat import Request
from holdfast.gateway.last_resort import Computed, Fixed
from integration.gateway.staged import SILENT, Caller, Gateway, Staged, answers, fails, play


async def hangs(request: Request, code: str) -> str:
    await asyncio.sleep(1e6)
    return "never"


async def clings(request: Request, code: str) -> str:
    try:
        await asyncio.sleep(1e6)
    except BaseException:  # noqa: BLE001 - as careless functions do
        return "At last."
    return "never"


def raises(request: Request, code: str) -> str:
    raise KeyError("no")


def exits(request: Request, code: str) -> str:
    raise SystemExit(3)


def returns(value: object) -> Callable[[Request, str], object]:
    async def function(request: Request, code: str) -> object:
        return value

    return function


async def cancels_itself(request: Request, code: str) -> str:
    raise asyncio.CancelledError


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "function",
    [hangs, raises, exits, cancels_itself, *map(returns, [None, 3, b"bytes", "\ud800", {"a": object()}, float("nan")])],
)
def test_a_last_resort_that_fails_leaves_the_error(function, stream):
    async def scene(gateway: Gateway) -> None:
        gateway.model("a", Staged(fails(500)))
        gateway.serve(deadline=5.0, last_resort=Computed("mine:it", function), retries=0)
        await gateway.call(caller, stream=stream)
        assert gateway.loop.time() <= 5.05

    caller = Caller()
    (call,) = play(waited(scene) if function in (raises, exits) else scene)
    assert (caller.ends, caller.said) == (1, "")
    assert (call.outcome, call.error) == ("error", "provider_failed")


def waited(scene: Any) -> Any:
    """Let a thread answer, whose time the loop does not see."""

    async def seen(gateway: Gateway) -> None:
        async def tick() -> None:
            while True:
                time.sleep(0.0005)
                await asyncio.sleep(0.0005)

        ticking = asyncio.create_task(tick())
        try:
            await scene(gateway)
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])

    return seen


@pytest.mark.parametrize("stream", [True, False])
def test_a_last_resort_that_holds_on_to_its_call_ends_with_the_deadline(stream):
    async def scene(gateway: Gateway) -> None:
        gateway.model("a", Staged(SILENT))
        gateway.serve(deadline=2.0, last_resort=Computed("mine:it", clings))
        await gateway.call(caller, stream=stream)
        assert gateway.loop.time() <= 2.05

    caller = Caller()
    (call,) = play(scene)
    assert caller.ends == 1
    assert call.outcome in ("error", "last_resort")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("hedge", [False, 0.1])
def test_a_huge_last_resort_arrives_whole_and_is_logged(hedge, stream):
    text = "kelp " * 200_000

    async def scene(gateway: Gateway) -> None:
        gateway.model("a", Staged(SILENT))
        gateway.model("b", Staged(SILENT))
        gateway.serve(deadline=2.0, last_resort=Fixed(text), hedge=hedge)
        await gateway.call(caller, stream=stream)

    caller = Caller()
    (call,) = play(scene)
    assert (caller.ends, caller.said) == (1, text)
    assert call.outcome == "last_resort"
    assert [attempt.error for attempt in call.attempts][-1] in ("timeout", "deadline_exceeded")


class Stuck(Caller):
    """A caller who takes a piece, and then nothing more."""

    async def chunks(self, chunks: Any, wire: str) -> None:
        await super().chunks(chunks, wire)
        await asyncio.sleep(1e6)


@pytest.mark.parametrize("play_", [SILENT, answers("Kelp ", "holds.")])
def test_what_a_caller_who_takes_no_more_has_got_is_logged(play_):
    async def scene(gateway: Gateway) -> None:
        gateway.model("a", Staged(play_))
        gateway.serve(deadline=2.0, last_resort="Later.")
        await gateway.call(caller)
        assert gateway.loop.time() <= 2.05

    caller = Stuck()
    (call,) = play(scene)
    assert caller.ends == 1
    assert call.outcome == "error"
    assert call.reply is not None
    assert call.reply.text.startswith(caller.text)
    assert caller.text
