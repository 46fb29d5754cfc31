"""The law: whatever workers do, and however they end, no window ever carries more than its cap, and nothing is lost."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.errors import LimitExceeded, Saturated
from holdfast.gateway.spending.budgets import Need
from holdfast.state.limits import Limit, Meter, Window
from holdfast.state.spending import Spending
from spenders import ManualClock, Worker

LIMITS = (
    Limit("key", "hf_1", "requests", 40, Window.MIN),
    Limit("tenant", "acme", "nanousd", 1000, Window.H),
    Limit("feature", "answer", "tokens", 3000, Window.TOTAL),
)
UNITS = ("requests", "tokens", "nanousd")


class Attempt:
    """What was reserved, and in which windows."""

    def __init__(self, worker, reservation, need, now):
        self.worker = worker
        self.reservation = reservation
        self.need = need
        self.windows = {limit: limit.window.start(now) for limit in LIMITS}


class Spenders(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "state.db"
        self.clock = ManualClock()
        self.workers = []
        self.under_way = []
        self.used = Counter()
        """By limit and window: what was settled, or may have been sent by workers that are gone."""
        self.certain = True
        self.boots = 0
        self.boot = mock.patch("holdfast.state.holders._boot_id", side_effect=lambda: self.boots.to_bytes(16))
        self.boot.start()
        self.witness = Spending(self.path)

    # --- what happens

    @precondition(lambda self: len(self.workers) < 4)
    @rule()
    def start(self):
        self.workers.append(Worker(self.path, self.clock, self.workers))

    @precondition(lambda self: self.workers)
    @rule(
        which=st.integers(0, 3),
        need=st.builds(Need, st.integers(1, 12), st.integers(0, 400), st.integers(0, 300)),
        times=st.integers(1, 6),
    )
    def reserve(self, which, need, times):
        worker = self.workers[which % len(self.workers)]
        with suppress(LimitExceeded):
            for _ in range(times):
                reservation = self.runner.run(worker.reserve(need, *LIMITS))
                self.under_way.append(Attempt(worker, reservation, need, self.clock.now()))

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3), need=st.builds(Need, st.integers(1, 12), st.integers(0, 400), st.integers(0, 300)))
    def reserve_at_once(self, which, need):
        worker = self.workers[which % len(self.workers)]
        reservation = worker.purse(*LIMITS).try_reserve(need)
        if reservation is not None:
            self.under_way.append(Attempt(worker, reservation, need, self.clock.now()))

    @precondition(lambda self: len(self.workers) > 1)
    @rule(need=st.builds(Need, st.integers(1, 12), st.integers(0, 400), st.integers(0, 300)))
    def reserve_everywhere(self, need):
        async def all_at_once():
            reserving = [worker.reserve(need, *LIMITS) for worker in self.workers for _ in range(2)]
            return await asyncio.gather(*reserving, return_exceptions=True)

        owners = [worker for worker in self.workers for _ in range(2)]
        for worker, result in zip(owners, self.runner.run(all_at_once()), strict=True):
            if not isinstance(result, BaseException):
                self.under_way.append(Attempt(worker, result, need, self.clock.now()))
            else:
                assert isinstance(result, LimitExceeded), result

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100), share=st.none() | st.sampled_from([0, 0.3, 1]))
    def settle(self, which, share):
        attempt = self.under_way.pop(which % len(self.under_way))
        used = [None if share is None else int(most * share) for most in attempt.need[:3]]
        attempt.reservation.settle(*used)
        self.book(attempt, [most if real is None else real for most, real in zip(attempt.need[:3], used, strict=True)])

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3), seconds=st.sampled_from([0.05, 0.5, 1]))
    def tend(self, which, seconds):
        self.clock.sleep(seconds)
        self.runner.run(self.workers[which % len(self.workers)].budgets.tend())

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def share(self, which):
        self.runner.run(self.workers[which % len(self.workers)].budgets.share())

    @precondition(lambda self: len(self.workers) > 1)
    @rule(which=st.integers(0, 3), lease=st.integers(1, 9))
    def want(self, which, lease):
        """A note that nobody knows the reason of, such as one of a worker that is gone."""
        worker, other = self.workers[which % len(self.workers)], self.workers[(which + 1) % len(self.workers)]
        if other.leases._holder is not None:
            worker.leases._holders.want(other.leases._holder.id, lease)

    @rule(seconds=st.sampled_from([0.2, 5, 60, 1800, 3600, -0.2, -60, -3600]))
    def set_the_clock(self, seconds):
        self.clock.wall += seconds
        self.clock.mono += max(0.0, seconds)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def close(self, which):
        worker = self.workers.pop(which % len(self.workers))
        self.runner.run(worker.close())
        self.gone(worker)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def kill(self, which):
        worker = self.workers.pop(which % len(self.workers))
        worker.kill()
        self.gone(worker)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3), cut=st.booleans(), dies=st.booleans())
    def fail(self, which, cut, dies):
        """The state fails before the commit, or just after it; the worker may die of the same."""
        worker = self.workers[which % len(self.workers)]
        exchange = worker.spending.exchange

        def failing(*args):
            if cut:
                exchange(*args)
            raise sqlite3.OperationalError("the disk failed")

        worker.spending.exchange = failing
        need = Need(5, 50, 50)
        with suppress(Saturated, LimitExceeded):
            reservation = self.runner.run(worker.reserve(need, *LIMITS))
            self.under_way.append(Attempt(worker, reservation, need, self.clock.now()))
        self.runner.run(worker.budgets.tend())
        worker.spending.exchange = exchange
        self.clock.sleep(0.2)
        if dies:
            self.workers.remove(worker)
            worker.kill()
            self.gone(worker)

    @rule()
    def lose_power(self):
        for worker in self.workers:
            worker.kill()
            self.gone(worker)
        self.workers.clear()
        self.boots += 1
        self.certain = False

    # --- what holds

    @invariant()
    def no_window_carries_more_than_its_cap(self):
        carried = Counter(self.used)
        for attempt in self.under_way:
            for limit in LIMITS:
                carried[limit, attempt.windows[limit]] += attempt.need[UNITS.index(limit.unit)]
        drawn = {(spent.meter, spent.start): spent.drawn for spent in self.witness.spent()}
        for (limit, start), amount in carried.items():
            assert amount <= drawn.get((limit.meter, start), 0) <= limit.cap

    def teardown(self):
        try:
            self.nothing_is_lost_once_all_have_ended()
        finally:
            self.witness.close()
            self.boot.stop()
            self.runner.close()
            shutil.rmtree(self.folder)

    def nothing_is_lost_once_all_have_ended(self):
        for number, worker in enumerate(self.workers):
            if number % 2:
                worker.kill()
            else:
                self.runner.run(worker.close())
            self.gone(worker)
        heir = Worker(self.path, self.clock)
        heir.purse(*LIMITS)
        self.runner.run(heir.budgets.tend())
        for spent in self.witness.spent():
            used = self.used[limit_of(spent.meter), spent.start]
            assert spent.leased == 0
            assert spent.drawn == used or (not self.certain and spent.drawn >= used)
            rest = limit_of(spent.meter).cap - spent.drawn
            if rest and spent.start == spent.meter.window.start(self.clock.now()):
                need = Need(*[rest if unit == spent.meter.unit else 0 for unit in UNITS])
                self.runner.run(heir.reserve(need, limit_of(spent.meter)))
        self.runner.run(heir.close())
        assert list((self.folder / "leases").glob("*")) == []

    def gone(self, worker):
        """What a worker had under way may have been sent."""
        for attempt in [attempt for attempt in self.under_way if attempt.worker is worker]:
            self.under_way.remove(attempt)
            self.book(attempt, attempt.need[:3])

    def book(self, attempt, used):
        for limit in LIMITS:
            self.used[limit, attempt.windows[limit]] += used[UNITS.index(limit.unit)]


def limit_of(meter: Meter) -> Limit:
    return next(limit for limit in LIMITS if limit.meter == meter)


TestNeverOverspent = Spenders.TestCase
TestNeverOverspent.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
