import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import Saturated
from holdfast.gateway.traffic.admission import (
    LONGEST_RETRY,
    LOOK_SECONDS,
    SHORTEST_RETRY,
    Gate,
    Priority,
    Refusals,
    SharedGate,
)
from holdfast.state.board import Board
from virtual_time import VirtualLoop, run

FOREVER = 1e6


class Counters:
    """The cells of one worker, in a table of all workers."""

    def __init__(self, workers: list[memoryview], own: int) -> None:
        self.workers = workers
        self.own = workers[own]

    def total(self, cell: int) -> int:
        return sum(worker[cell] for worker in self.workers)


def counters(count: int) -> list[Counters]:
    workers = [memoryview(bytearray(32)).cast("q") for _ in range(count)]
    return [Counters(workers, own) for own in range(count)]


def shared(loop: VirtualLoop, limit: int | None, queue: int, count: int) -> list[SharedGate]:
    rows = counters(count)
    return [SharedGate(limit, queue, loop, row, 2, alone=count == 1, of="the model gpt") for row in rows]


@dataclass
class Call:
    """A call, and what became of it."""

    at: float
    stays: float = 1.0
    priority: Priority = "live"
    patience: float = FOREVER
    hangs_up: float | None = None
    gate: int = 0
    outcome: str = ""
    began: float = 0.0
    entered: float | None = None
    ended: float = 0.0
    error: Saturated | None = None

    @property
    def waited(self) -> bool:
        return self.entered is not None and self.entered > self.began

    def waits_before(self, now: float) -> bool:
        """Whether it has come before `now` and still waits then."""
        leaves = self.began + min(self.patience, FOREVER if self.hangs_up is None else self.hangs_up)
        return self.entered is None and not self.outcome and 0 < self.began < now < leaves - 1e-6


@dataclass
class Day:
    """Calls through gates, in virtual time."""

    make: Callable[[VirtualLoop], list[Any]]
    calls: list[Call]
    most: int = 0
    inside: int = 0
    admitted: list[Call] = field(default_factory=list)
    watch: Callable[[list[Any], Call], None] = lambda gates, call: None

    def run(self) -> list[Any]:
        loop = VirtualLoop()
        self.gates = self.make(loop)
        self.loop = loop
        return run(self._run(), loop)

    async def _run(self) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            for call in self.calls:
                group.create_task(self._one(call))
        return self.gates

    async def _one(self, call: Call) -> None:
        await asyncio.sleep(call.at)
        call.began = self.loop.time()
        visit = asyncio.ensure_future(self._visit(call))
        if call.hangs_up is not None:
            self.loop.call_later(call.hangs_up, visit.cancel)
        try:
            await visit
        except asyncio.CancelledError:
            call.outcome += "cancelled"
        call.ended = self.loop.time()

    async def _visit(self, call: Call) -> None:
        gate = self.gates[call.gate]
        try:
            gate.try_enter() or await gate.enter(call.priority, self.loop.time() + call.patience)
        except Saturated as error:
            call.outcome, call.error = "refused", error
            return
        call.entered = self.loop.time()
        self.admitted.append(call)
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.watch(self.gates, call)
        try:
            await asyncio.sleep(call.stays)
            call.outcome += "served"
        finally:
            self.inside -= 1
            gate.leave()


def day(limit: int | None, queue: int, *calls: Call) -> list[Call]:
    """Let calls go through one gate, and return them."""
    run = Day(lambda loop: [Gate(limit, queue, loop)], list(calls))
    (gate,) = run.run()
    assert (gate.inside, gate.waiting) == (0, 0)
    return run.calls


# --- laws ---

times = st.integers(0, 40).map(lambda tenth: tenth / 10)
lasting = st.integers(1, 30).map(lambda tenth: tenth / 10)
some_calls = st.lists(
    st.builds(
        Call,
        at=times,
        stays=lasting,
        priority=st.sampled_from(["live", "batch"]),
        patience=st.sampled_from([0.5, 2.0, 5.0, FOREVER]),
        hangs_up=st.none() | times,
    ),
    max_size=40,
)


@given(st.integers(1, 5), st.integers(0, 6), some_calls)
@settings(max_examples=150, deadline=None)
def test_no_more_than_the_limit_are_in_and_everyone_is_let_in_refused_or_cancelled(limit, queue, calls):
    def watch(gates: list[Gate], call: Call) -> None:
        assert gates[0].inside <= limit
        assert gates[0].waiting <= queue

    today = Day(lambda loop: [Gate(limit, queue, loop)], calls, watch=watch)
    (gate,) = today.run()
    assert today.most <= limit
    assert (gate.inside, gate.waiting) == (0, 0)
    assert {call.outcome for call in calls} <= {"served", "refused", "cancelled"}
    for call in calls:
        assert (call.ended if call.entered is None else call.entered) <= call.began + call.patience + 1e-6


@given(st.integers(1, 4), st.integers(1, 20), some_calls)
@settings(max_examples=150, deadline=None)
def test_live_calls_go_before_batch_and_each_kind_in_the_order_it_came(limit, queue, calls):
    def watch(gates: list[Gate], batch: Call) -> None:
        if batch.priority == "batch" and batch.waited:
            assert not [call for call in calls if call.priority == "live" and call.waits_before(batch.entered or 0.0)]

    today = Day(lambda loop: [Gate(limit, queue, loop)], calls, watch=watch)
    today.run()
    for priority in ("live", "batch"):
        began = [call.began for call in today.admitted if call.priority == priority and call.waited]
        assert began == sorted(began)


@given(st.integers(1, 4), st.integers(2, 6), some_calls, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_limit_of_a_model_holds_over_all_workers(limit, queue, calls, random):
    for call in calls:
        call.gate = random.randrange(3)
    today = Day(lambda loop: shared(loop, limit, queue, 3), calls)
    gates = today.run()
    assert today.most <= limit
    assert [(gate.inside, gate.waiting) for gate in gates] == [(0, 0)] * 3
    assert {call.outcome for call in calls} <= {"served", "refused", "cancelled"}


# --- the way in ---


def test_a_gate_with_room_lets_in_without_waiting():
    calls = day(2, 0, Call(at=0), Call(at=0), Call(at=1))
    assert [call.outcome for call in calls] == ["served"] * 3
    assert not any(call.waited for call in calls)


def test_a_gate_without_a_limit_lets_everyone_in_and_counts_them():
    loop = VirtualLoop()
    gate = Gate(None, 0, loop)
    assert all(gate.try_enter() for _ in range(5000))
    assert gate.inside == 5000
    loop.close()


def test_a_call_waits_until_one_leaves():
    first, second = day(1, 1, Call(at=0, stays=3), Call(at=1))
    assert (first.entered, second.entered) == (0, 3)


def test_a_live_call_that_comes_later_goes_before_a_batch_call():
    _, batch, live = day(1, 5, Call(at=0, stays=3), Call(at=1, priority="batch"), Call(at=2))
    assert (live.entered, batch.entered) == (3, 4)


# --- who is sent away ---


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back():
    *_, refused = day(1, 2, Call(at=0), Call(at=0), Call(at=0), Call(at=0.5))
    assert refused.outcome == "refused"
    assert refused.ended == 0.5
    assert refused.error is not None
    assert SHORTEST_RETRY <= (refused.error.retry_after or 0) <= LONGEST_RETRY
    assert "All 1 places of the gateway are taken, and its queue of 2 is full." in refused.error.message


def test_a_live_call_takes_the_place_of_the_batch_call_that_came_last():
    calls = day(1, 2, Call(at=0), Call(at=0.1, priority="batch"), Call(at=0.2, priority="batch"), Call(at=0.3))
    assert [call.outcome for call in calls] == ["served", "served", "refused", "served"]
    assert calls[2].ended == 0.3
    assert calls[2].error is not None
    assert "a live call needed" in calls[2].error.message


def test_a_batch_call_takes_nobodys_place():
    calls = day(1, 1, Call(at=0), Call(at=0.1, priority="batch"), Call(at=0.2, priority="batch"))
    assert [call.outcome for call in calls] == ["served", "served", "refused"]


def test_a_wait_ends_with_the_deadline():
    _, late = day(1, 1, Call(at=0, stays=10), Call(at=0, patience=2))
    assert (late.outcome, late.ended) == ("refused", 2)
    assert late.error is not None
    assert "none came free before the call's deadline" in late.error.message


def test_a_call_whose_deadline_has_passed_does_not_wait():
    _, late = day(1, 1, Call(at=0, stays=10), Call(at=1, patience=-1))
    assert (late.outcome, late.ended) == ("refused", 1)


def test_a_wait_that_would_outlast_the_deadline_is_refused_at_once():
    steady = [Call(at=0, stays=stays) for stays in (1, 2, 3, 4)] + [Call(at=0.5, stays=4) for _ in range(30)]
    short, long = Call(at=20.5, patience=1.5), Call(at=20.5, patience=60)
    day(4, 100, *steady, short, long)
    assert (short.outcome, short.ended) == ("refused", 20.5)
    assert long.outcome == "served"
    assert short.error is not None
    assert short.error.retry_after == pytest.approx(14, rel=0.5)


def test_a_quiet_time_is_not_taken_for_a_slow_one():
    warm = [Call(at=0, stays=0.1) for _ in range(50)]
    late = [Call(at=1000, stays=0.1) for _ in range(30)] + [Call(at=1000, patience=5)]
    day(1, 100, *warm, *late)
    assert late[-1].outcome == "served"


def test_nobody_is_refused_on_a_guess():
    _, second = day(1, 1, Call(at=0, stays=0.001), Call(at=0, patience=0.002))
    assert second.outcome == "served"


# --- what a cancelled waiter leaves ---


def test_a_waiter_who_hangs_up_leaves_its_place_in_the_queue():
    _, gone, next = day(1, 1, Call(at=0, stays=3), Call(at=1, hangs_up=1), Call(at=2))
    assert gone.outcome == "cancelled"
    assert next.entered == 3


def test_a_waiter_who_hangs_up_as_it_is_let_in_gives_the_place_to_the_next():
    async def main(loop: VirtualLoop) -> None:
        gate = Gate(1, 2, loop)
        assert gate.try_enter()
        first, second = (asyncio.ensure_future(gate.enter("live", 100)) for _ in range(2))
        await asyncio.sleep(1)
        gate.leave()
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert second.exception() is None
        assert (gate.inside, gate.waiting) == (1, 0)

    in_virtual_time(main)


def test_a_waiter_who_hangs_up_as_it_is_refused_leaves_nothing():
    async def main(loop: VirtualLoop) -> None:
        gate = Gate(1, 1, loop)
        assert gate.try_enter()
        batch = asyncio.ensure_future(gate.enter("batch", 100))
        await asyncio.sleep(1)
        live = asyncio.ensure_future(gate.enter("live", 100))
        await asyncio.sleep(0)
        batch.cancel()
        await asyncio.wait([batch])
        assert (gate.inside, gate.waiting) == (1, 1)
        gate.leave()
        await live
        assert (gate.inside, gate.waiting) == (1, 0)

    in_virtual_time(main)


# --- what is counted ---


def test_who_is_sent_away_is_counted_by_the_reason_over_all_workers():
    async def main(loop: VirtualLoop) -> None:
        board = Board.create(None, 1)
        refusals = Refusals(board.row("a"))
        gate = Gate(1, 1, loop, refusals=refusals)
        assert gate.try_enter()
        batch = asyncio.ensure_future(gate.enter("batch", 100))
        await asyncio.sleep(1)
        live = asyncio.ensure_future(gate.enter("live", 10))  # in the place of the other
        with pytest.raises(Saturated):
            await batch
        for until in (100, 0):  # the queue is full; it is too late
            with pytest.raises(Saturated):
                await gate.enter("live", until)
        with pytest.raises(Saturated):
            await live
        refusals.count("log")
        counts = {"log": 1, "queue": 1, "deadline": 2, "displaced": 1, "unauthenticated": 0}
        assert Refusals(board.row("a")).totals() == counts

    in_virtual_time(main)


# --- other limits ---


def test_a_higher_limit_lets_those_in_who_wait():
    async def main(loop: VirtualLoop) -> None:
        gate = Gate(1, 5, loop)
        assert gate.try_enter()
        waiting = [asyncio.ensure_future(gate.enter("live", 100)) for _ in range(3)]
        await asyncio.sleep(1)
        gate.resize(3, 5)
        await asyncio.wait(waiting[:2])
        assert (gate.inside, gate.waiting) == (3, 1)
        gate.resize(None, 5)
        await waiting[2]

    in_virtual_time(main)


def test_a_lower_limit_sends_nobody_away_and_lets_nobody_in_before_it_is_kept():
    async def main(loop: VirtualLoop) -> None:
        gate = Gate(3, 5, loop)
        assert all(gate.try_enter() for _ in range(3))
        waiting = asyncio.ensure_future(gate.enter("live", 100))
        await asyncio.sleep(0)
        gate.resize(1, 5)
        for inside in (2, 1):
            gate.leave()
            await asyncio.sleep(0)
            assert (gate.inside, gate.waiting) == (inside, 1)
        gate.leave()
        await waiting
        assert gate.inside == 1

    in_virtual_time(main)


# --- over several workers ---


def test_a_place_that_another_worker_leaves_is_found_within_moments():
    today = Day(lambda loop: shared(loop, 1, 2, 2), [Call(at=0, stays=3), Call(at=1, gate=1)])
    today.run()
    assert today.calls[1].entered == pytest.approx(3, abs=LOOK_SECONDS * 1.01)


def test_what_a_dead_worker_held_is_free_once_its_counts_are_cleared():
    async def main(loop: VirtualLoop) -> None:
        dead, alive = shared(loop, 1, 2, 2)
        assert dead.try_enter()
        assert not alive.try_enter()
        waiting = asyncio.ensure_future(alive.enter("live", 100))
        await asyncio.sleep(1)
        dead._own[2] = 0
        await waiting
        assert loop.time() == pytest.approx(1, abs=LOOK_SECONDS * 1.01)

    in_virtual_time(main)


def test_a_newcomer_does_not_pass_those_who_wait_in_its_worker():
    async def main(loop: VirtualLoop) -> None:
        one, other = shared(loop, 1, 2, 2)
        assert one.try_enter()
        waiting = asyncio.ensure_future(other.enter("live", 100))
        await asyncio.sleep(0)
        one.leave()
        assert not other.try_enter()
        later = asyncio.ensure_future(other.enter("live", 100))
        await waiting
        assert not later.done()
        other.leave()
        await later

    in_virtual_time(main)


def test_nobody_looks_when_nobody_waits_or_there_is_one_worker():
    async def main(loop: VirtualLoop) -> None:
        (gate,) = shared(loop, 1, 2, 1)
        assert gate.try_enter()
        waiting = asyncio.ensure_future(gate.enter("live", 100))
        await asyncio.sleep(0)
        assert gate._looking is None
        gate.leave()
        await waiting
        one, other = shared(loop, 1, 2, 2)
        assert one.try_enter()
        hurried = asyncio.ensure_future(other.enter("live", 1))
        await asyncio.wait([hurried])
        assert isinstance(hurried.exception(), Saturated)
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert other._looking is None

    in_virtual_time(main)


def in_virtual_time(main: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualLoop()
    run(main(loop), loop)
