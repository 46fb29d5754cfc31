"""Many calls at once on few places, with whatever may become of each: all end in time, and nothing is left behind."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import CallError
from holdfast.gateway.hints import Hints
from holdfast.gateway.settings import GatewaySettings
from integration.gateway.staged import (
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

STREAMS = st.sampled_from(
    [
        answers("Kelp ", "holds.", after=0.1),
        answers("Kelp ", "holds.", every=0.3),
        breaks("Kelp ", after=0.1),
        Play(((0.0, says("Kelp ")), (30.0, says("holds.")))),
        Play(((0.0, cut()),), after=0.1),
        fails(500, after=0.1),
        fails(503),
        fails(429, retry_after="0"),
        fails(429, retry_after="1"),
        fails(400),
        SILENT,
    ]
)
WHOLES = st.sampled_from([whole("Kelp holds.", after=0.2), fails(500), fails(503, after=0.1), fails(429), SILENT])
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.sampled_from([0.0, 0.0, 0.1, 0.2, 1.0, 3.0, 8.0]),
            "hang_up": st.sampled_from([None, None, 0.0, 0.1, 0.10001, 0.2, 0.5]),
            "priority": st.sampled_from(["live", "batch"]),
            "deadline_ms": st.sampled_from([None, None, 1, 100, 200, 3000]),
        }
    ),
    min_size=1,
    max_size=12,
)
LIMIT = st.sampled_from([None, 1, 1, 2])


@settings(max_examples=100, deadline=None)
@given(
    stream=st.booleans(),
    data=st.data(),
    calls=CALLS,
    limits=st.lists(LIMIT, min_size=1, max_size=3),
    within=st.sampled_from([None, 1, 3]),
    queue=st.sampled_from([0, 1, 3, 100]),
    hedge=st.sampled_from([False, 0.001, 0.1]),
    retries=st.sampled_from([0, 2, 10]),
    resort=st.sampled_from([None, "Later."]),
)
def test_calls_that_crowd_end_in_time_and_leave_nothing(
    stream: bool,
    data: st.DataObject,
    calls: list[dict[str, Any]],
    limits: list[int | None],
    within: int | None,
    queue: int,
    hedge: bool | float,
    retries: int,
    resort: str | None,
) -> None:
    plays = STREAMS if stream else WHOLES
    callers = [Caller() for _ in calls]

    async def one(gateway: Gateway, caller: Caller, wish: dict[str, Any]) -> None:
        await asyncio.sleep(wish["at"])
        hints = Hints(priority=wish["priority"], deadline_ms=wish["deadline_ms"])
        task = asyncio.create_task(gateway.call(caller, stream=stream, hints=hints))
        if wish["hang_up"] is not None:
            gateway.loop.call_later(wish["hang_up"], task.cancel)
        began = gateway.loop.time()
        await asyncio.wait([task])
        assert gateway.loop.time() - began <= (wish["deadline_ms"] or 5000) / 1000 + 0.05
        assert task.cancelled() or task.exception() is None

    async def scene(gateway: Gateway) -> None:
        for name, limit in zip("abc", limits, strict=False):
            gateway.model(name, Staged(*data.draw(st.lists(plays, min_size=1, max_size=8))), concurrency=limit)
        kept = GatewaySettings(concurrency=within, queue=queue)
        gateway.serve(deadline=5.0, settings=kept, hedge=hedge, retries=retries, last_resort=resort)
        await asyncio.gather(*[one(gateway, caller, wish) for caller, wish in zip(callers, calls, strict=True)])
        assert gateway.places == (0, 0)
        for name, model in gateway.models.items():
            if model.health.breaker.open:  # and it can be closed again
                await asyncio.sleep(6.0)
                assert model.health.breaker.ask() == "probe", name
                model.health.breaker.succeeded()

    logged = play(scene)
    assert len(logged) == len(calls)
    assert "internal_error" not in [call.error for call in logged]
    for caller in callers:
        assert caller.ends <= 1
        if caller.ends and caller.error is None:
            assert caller.said in ("Kelp holds.", "Later.")


@pytest.mark.parametrize("header", ["0", "-1", "nan", "inf", "1e99", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", ""])
@pytest.mark.parametrize("status", [429, 503])
def test_whatever_retry_after_says_the_call_ends_in_time(header, status):
    async def scene(gateway: Gateway) -> None:
        model = gateway.model("a", Staged(fails(status, retry_after=header)))
        gateway.serve(deadline=5.0, retries=10)
        await gateway.call(caller)
        assert gateway.loop.time() <= 5.05
        assert len(model.transport.requests) <= 11

    caller = Caller()
    play(scene)
    assert isinstance(caller.error, CallError)


def test_vectors_are_hedged_too():
    body = b'{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5]}]}'
    vectors = Play(((0.0, body),), after=0.1, headers=((b"content-type", b"application/json"),))

    async def scene(gateway: Gateway) -> None:
        gateway.model("a", Staged(SILENT))
        gateway.model("b", Staged(vectors))
        gateway.serve(hedge=0.1, last_resort="Later.")
        await gateway.call(caller, embed=True)

    caller = Caller()
    (call,) = play(scene)
    assert (caller.error, call.model, [attempt.error for attempt in call.attempts]) == (None, "b", ["cancelled", None])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("hedge", [False, 0.05])
def test_calls_that_failed_leave_nothing_in_memory(hedge, stream):
    def scene_of(bad: Play, resort: str | None) -> Callable[[Gateway], Coroutine[Any, Any, None]]:
        async def scene(gateway: Gateway) -> None:
            gateway.model("a", Staged(bad))
            gateway.model("b", Staged(bad))
            gateway.serve(deadline=1.0, hedge=hedge, last_resort=resort, retries=1)
            for hang_up in (None, 0.0, 0.02, 0.07, 0.12):
                call = asyncio.create_task(gateway.call(Caller(), stream=stream))
                if hang_up is not None:
                    gateway.loop.call_later(hang_up, call.cancel)
                await asyncio.wait([call])

        return scene

    before = errors()
    for bad in (fails(500), fails(400), breaks("Kelp "), Play(((0.1, cut()),)), SILENT):
        for resort in (None, "Later."):
            play(scene_of(bad, resort))
    assert errors() - before == set()


def errors() -> set[int]:
    """Return which errors are in memory once the garbage is gone."""
    gc.collect()
    return {id(found) for found in gc.get_objects() if isinstance(found, BaseException)}
