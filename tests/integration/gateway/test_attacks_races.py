"""What runs at once in one call, down to the turn of the event loop in which it happens."""

import asyncio

import pytest

from holdfast.errors import ContentRefused
from holdfast.gateway.hints import Hints
from integration.gateway.staged import (
    NEVER,
    SILENT,
    Caller,
    Gateway,
    Play,
    Staged,
    answers,
    breaks,
    cut,
    fails,
    play,
    says,
    whole,
)


def down(gateway: Gateway, name: str) -> None:
    """Open the breaker of a model, whose pause is over a while later."""
    for _ in range(5):
        gateway.models[name].health.breaker.failed()
    assert gateway.models[name].health.breaker.open


# --- hedges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.5, 0.100001, 0.1])
def test_a_stream_that_speaks_and_breaks_in_one_turn_beside_a_hedge_is_taken_up(after):
    async def scene(gateway: Gateway) -> None:
        gateway.model("one", Staged(breaks("Kelp ", "holds ", after=after)))
        gateway.model("two", Staged(answers("Kelp ", "holds ", "on.", after=0.45), answers("Kelp ", "holds ", "on.")))
        gateway.model("three", Staged(answers("Kelp ", "holds ", "on.")))
        gateway.serve(hedge=0.1)
        await gateway.call(caller)

    caller = Caller()
    (call,) = play(scene)
    assert caller.error is None
    assert caller.text == "Kelp holds on."
    assert call.outcome == "answered"
    assert all(attempt.duration_us >= 0 for attempt in call.attempts)


@pytest.mark.parametrize("how", ["cut", "stalled"])
def test_the_model_that_a_hedge_was_outrun_on_can_still_take_up_the_answer(how):
    async def scene(gateway: Gateway) -> None:
        steps = ((0.0, says("Kelp ")), (0.0, cut()) if how == "cut" else (NEVER, says("holds")))
        one = gateway.model("one", Staged(Play(steps, after=0.2)))
        two = gateway.model("two", Staged(SILENT, answers("Kelp ", "holds.")))
        gateway.serve(hedge=0.1, deadline=60.0)
        await gateway.call(caller)
        assert len(one.transport.requests) == 1
        assert len(two.transport.requests) == 2

    caller = Caller()
    (call,) = play(scene)
    assert caller.error is None
    assert caller.text == "Kelp holds."
    assert call.model == "two"


def test_the_late_model_can_take_up_the_answer_of_a_hedge_that_broke():
    async def scene(gateway: Gateway) -> None:
        gateway.model("one", Staged(SILENT, answers("Kelp ", "holds.")))
        gateway.model("two", Staged(Play(((0.0, says("Kelp ")), (0.1, cut())))))
        gateway.serve(hedge=0.1)
        await gateway.call(caller)

    caller = Caller()
    (call,) = play(scene)
    assert (caller.error, caller.text, call.model) == (None, "Kelp holds.", "one")


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_is_not_routed_around_by_a_hedge_that_runs_already(stream):
    async def scene(gateway: Gateway) -> None:
        refused = fails(400, after=0.2, message="Blocked.", code="content_policy_violation")
        gateway.model("one", Staged(refused))
        gateway.model("two", Staged(answers("Sure.", after=0.2) if stream else SILENT))
        gateway.serve(hedge=0.1, last_resort="Later.")
        await gateway.call(caller, stream=stream)

    caller = Caller()
    (call,) = play(scene)
    assert isinstance(caller.error, ContentRefused)
    assert call.outcome == "error"
    assert [attempt.error for attempt in call.attempts] == ["content_refused", "cancelled"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("second", ["speaks", "fails", "is silent"])
@pytest.mark.parametrize("event", ["speaks", "fails", "hang up", "deadline"])
def test_what_happens_in_one_turn_has_one_outcome(event, second, stream):
    """Both attempts and the caller act at the same time on the clock."""

    def at(seconds: float, what: str) -> Play:
        if what == "fails":
            return fails(500, after=seconds)
        if what == "is silent":
            return SILENT
        if stream:
            return answers("Yes.", after=seconds)
        return whole("Yes.", after=seconds)

    async def scene(gateway: Gateway) -> None:
        gateway.model("one", Staged(at(1.0, event) if event in ("speaks", "fails") else SILENT), concurrency=1)
        gateway.model("two", Staged(at(0.5, second)), concurrency=1)
        deadline = 1.0 if event == "deadline" else 5.0
        gateway.serve(hedge=0.5, retries=0, deadline=deadline)
        task = asyncio.create_task(gateway.call(caller, stream=stream))
        if event == "hang up":
            gateway.loop.call_later(1.0, task.cancel)
        await asyncio.wait([task])
        assert gateway.loop.time() <= deadline + 0.05

    caller = Caller()
    (call,) = play(scene)
    ended = {"cancelled": 0}.get(call.outcome, 1)
    assert caller.ends == ended
    if call.outcome == "answered":
        assert caller.said == "Yes."
    else:
        assert call.error is not None


# --- probes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["hang up", "deadline"])
def test_a_probe_that_waits_for_room_gives_its_token_back_when_the_call_ends(end):
    async def scene(gateway: Gateway) -> None:
        one = gateway.model("one", Staged(SILENT, answers("Back.")), concurrency=1)
        gateway.serve(deadline=30.0)
        first = asyncio.create_task(gateway.call(Caller()))
        await asyncio.sleep(0.1)
        down(gateway, "one")
        await asyncio.sleep(6.0)
        hints = Hints(deadline_ms=500) if end == "deadline" else None
        second = asyncio.create_task(gateway.call(Caller(), hints=hints))
        await asyncio.sleep(0.1)
        assert one.health.gate.waiting == 1
        if end == "hang up":
            second.cancel()
        await asyncio.wait([second])
        first.cancel()
        await asyncio.wait([first])
        await asyncio.sleep(6.0)
        await gateway.call(third)

    third = Caller()
    play(scene)
    assert third.text == "Back."


def test_a_hedge_that_is_outrun_before_it_began_gives_the_token_of_its_probe_back():
    async def scene(gateway: Gateway) -> None:
        gateway.model("one", Staged(answers("Soon.", after=0.1)))
        gateway.model("two", Staged(answers("Back.")))
        gateway.serve(hedge=0.1)
        down(gateway, "two")
        await asyncio.sleep(6.0)
        for _ in range(5):
            await gateway.call(Caller())

    play(scene)


def test_a_silent_probe_whose_call_reaches_its_deadline_has_failed():
    async def scene(gateway: Gateway) -> None:
        one = gateway.model("one", Staged(SILENT))
        gateway.serve(deadline=1.0, last_resort="Later.")
        down(gateway, "one")
        await asyncio.sleep(1.0)
        for _ in range(20):
            await gateway.call(Caller())
            await asyncio.sleep(0.05)
        assert one.health.breaker.probes <= 6

    calls = play(scene)
    assert {call.outcome for call in calls} == {"last_resort"}


def test_an_attempt_from_before_the_outage_that_reaches_its_deadline_is_not_taken_for_the_probe():
    async def scene(gateway: Gateway) -> None:
        one = gateway.model("one", Staged(SILENT))
        gateway.serve(deadline=5.0)
        old = asyncio.create_task(gateway.call(Caller()))
        await asyncio.sleep(0.1)
        down(gateway, "one")
        await asyncio.sleep(2.0)
        probe = asyncio.create_task(gateway.call(Caller()))
        await asyncio.wait([old])
        assert one.health.breaker.ask() == "open"
        probe.cancel()
        await asyncio.wait([probe])

    play(scene)


def test_a_probe_that_refuses_to_continue_and_then_answers_closes_the_breaker():
    async def scene(gateway: Gateway) -> None:
        gateway.model("one", Staged(breaks("Kelp ")))
        refused = fails(400, message="This model does not support assistant message prefill.")
        two = gateway.model("two", Staged(refused, answers("Kelp ", "holds.")), prefill=True)
        gateway.serve()
        down(gateway, "two")
        await asyncio.sleep(6.0)
        await gateway.call(caller)
        assert not two.health.breaker.open

    caller = Caller()
    play(scene)
    assert (caller.error, caller.text) == (None, "Kelp holds.")


# --- in process -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hedge", [False, 0.1])
def test_a_task_that_is_cancelled_while_it_leaves_a_stream_is_cancelled(hedge):
    async def scene(gateway: Gateway) -> None:
        gateway.model("one", Staged(answers("Kelp ", "holds.", every=1.0)))
        gateway.model("two", Staged(SILENT))
        gateway.serve(hedge=hedge)
        stream = gateway.in_process().stream("answer", "?")
        await anext(stream)
        leaving = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()

    (call,) = play(scene)
    assert call.outcome == "cancelled"
