"""The breaker, as several workers have it between them, on time that the tests own."""

from array import array
from collections import deque
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.gateway.traffic.breaker import FIRST_PAUSE, LONGEST_PAUSE, LONGEST_RETRY_AFTER, Breaker
from holdfast.state.board import CELLS, SHARED, Row


class ManualClock:
    def __init__(self):
        self.time = 5000.25

    def monotonic(self):
        return self.time

    def now(self):
        return self.time


class Workers:
    """A row as several workers see it. The kernel's part, who has the lock, is played by `holder`."""

    def __init__(self, count, clock):
        self._shared = memoryview(array("d", bytes(8 * SHARED)))
        self._slots = memoryview(array("q", bytes(8 * CELLS * count)))
        self._clock = clock
        self.holder = None
        self.breakers = [self._start(number) for number in range(count)]

    def _start(self, number):
        row = Row(self._shared, self._slots, number, lambda: self._lock(number), self._unlock)
        return Breaker(row, self._clock, Random(number))

    def _lock(self, number):
        if self.holder is not None:
            return False
        self.holder = number
        return True

    def _unlock(self):
        self.holder = None

    def kill(self, number):
        """Kill a worker, forget what it counted, and start another in its place."""
        if self.holder == number:
            self.holder = None
        self._slots[number * CELLS : (number + 1) * CELLS] = memoryview(array("q", bytes(8 * CELLS)))
        self.breakers[number] = self._start(number)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def breakers(clock):
    return Workers(3, clock).breakers


def trip(breaker, retry_after=None):
    for _ in range(5):
        breaker.failed(retry_after, probe=False)
    assert breaker.open


def probe(breaker, clock):
    """Wait until the pause is over and take the probe."""
    clock.time += breaker.open_for()
    assert breaker.ask() == "probe"


# --- opening ----------------------------------------------------------------------------------------------------------


def test_it_opens_for_all_workers_when_what_they_counted_together_is_enough(breakers):
    for breaker in (*breakers, breakers[0]):
        breaker.failed()
        assert [one.ask() for one in breakers] == ["closed"] * 3
    breakers[1].failed()
    assert [one.ask() for one in breakers] == ["open"] * 3
    assert all(one.open and 0 < one.open_for() <= FIRST_PAUSE for one in breakers)


def test_failures_that_are_few_among_the_answers_of_all_workers_do_not_open_it(breakers):
    first, second, third = breakers
    for _ in range(6):
        second.succeeded()
    for _ in range(5):
        first.failed()
    third.succeeded()
    assert not first.open
    third.failed()
    assert not first.open
    third.failed()
    assert first.open


def test_what_happened_more_than_ten_seconds_ago_does_not_count(breakers, clock):
    for _ in range(4):
        breakers[0].failed()
    for _ in range(100):
        breakers[1].succeeded()
    clock.time += 10
    for _ in range(4):
        breakers[2].failed()
    assert not breakers[0].open
    breakers[0].failed()
    assert breakers[0].open


def test_the_window_slides_second_by_second(breakers, clock):
    for _ in range(12):
        breakers[0].failed()
        breakers[1].succeeded()
        breakers[1].succeeded()
        clock.time += 1
    assert not breakers[0].open
    for _ in range(10):
        breakers[1].succeeded()
        breakers[0].failed()
    assert not breakers[0].open  # 19 of 47 in ten seconds, 11 of 23 in the last two
    breakers[0].failed()
    assert breakers[0].open  # 12 of 24


def test_a_busy_model_that_fails_all_at_once_is_found_out_within_two_seconds(breakers, clock):
    for _ in range(8):
        for _ in range(100):
            breakers[0].succeeded()
        clock.time += 1
    clock.time += 2
    for _ in range(5):
        breakers[1].failed()
    assert breakers[1].open


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_a_pause_doubles_up_to_its_limit_when_probes_fail_and_is_the_first_again_after_a_success(breakers, clock):
    breaker = breakers[0]
    for _ in range(2):
        trip(breaker)
        for pause in (1, 2, 4, 5, 5, 5):
            assert 0.75 * pause <= breaker.open_for() <= pause
            probe(breaker, clock)
            breaker.failed()
        probe(breaker, clock)
        breaker.succeeded()
        assert not breaker.open


def test_pauses_differ_so_that_gateways_do_not_probe_in_step(clock):
    pauses = set()
    for seed in range(20):
        breaker = Breaker(Row.private(), clock, Random(seed))
        trip(breaker)
        pauses.add(breaker.open_for())
    assert len(pauses) == 20


@pytest.mark.parametrize(
    ("asked", "pause"), [(0.0, None), (0.1, None), (12.0, 12.0), (3600.0, LONGEST_RETRY_AFTER), (None, None)]
)
def test_a_model_that_asks_to_be_left_alone_is_within_reason(breakers, clock, asked, pause):
    trip(breakers[0], asked)
    assert breakers[1].open_for() == (pause or pytest.approx(0.875, abs=0.125))
    probe(breakers[0], clock)
    breakers[0].failed(asked)
    assert breakers[1].open_for() == (pause or pytest.approx(1.75, abs=0.25))


# --- probes -----------------------------------------------------------------------------------------------------------


def test_there_is_no_probe_before_the_pause_is_over_and_then_one_over_all_workers(breakers, clock):
    trip(breakers[0])
    clock.time += breakers[0].open_for() - 0.001
    assert [one.ask() for one in breakers] == ["open"] * 3
    clock.time += 0.002
    assert [one.open_for() for one in breakers] == [0.0] * 3
    assert [breakers[1].ask(), *(one.ask() for one in breakers)] == ["probe", "open", "open", "open"]
    assert breakers[1].open_for() == FIRST_PAUSE
    assert breakers[2].probes == 1


def test_a_probe_that_succeeds_closes_it_for_all_and_forgets_the_window(breakers, clock):
    trip(breakers[0])
    probe(breakers[1], clock)
    breakers[1].succeeded()
    assert [one.ask() for one in breakers] == ["closed"] * 3
    assert [one.open_for() for one in breakers] == [0.0] * 3
    for one in (*breakers, breakers[0]):
        one.failed()
    assert not breakers[0].open
    breakers[1].failed()
    assert breakers[0].open


def test_a_probe_that_tells_nothing_makes_way_for_the_next_at_once(breakers, clock):
    trip(breakers[0])
    probe(breakers[0], clock)
    breakers[0].released()
    assert breakers[2].ask() == "probe"
    assert breakers[0].ask() == "open"


def test_attempts_from_before_it_opened_are_not_taken_for_the_probe(breakers, clock):
    breaker = breakers[0]
    trip(breaker)
    probe(breaker, clock)
    breaker.succeeded(probe=False)
    breaker.failed(20.0, probe=False)
    breaker.released(probe=False)
    assert breaker.open
    assert breakers[1].ask() == "open"
    breaker.succeeded()
    assert not breaker.open


def test_attempts_of_other_workers_say_nothing_while_it_is_open(breakers, clock):
    trip(breakers[0])
    probe(breakers[0], clock)
    breakers[1].succeeded()
    breakers[1].failed(20.0)
    breakers[1].released()
    assert breakers[1].open
    assert breakers[2].ask() == "open"
    breakers[0].failed()
    assert breakers[0].open_for() <= 2


def test_a_worker_that_dies_leaves_it_open_and_gives_its_probe_back(clock):
    workers = Workers(2, clock)
    first, second = workers.breakers
    trip(first)
    probe(first, clock)
    workers.kill(0)
    assert second.open
    assert workers.breakers[0].ask() == "probe"
    assert second.ask() == "open"


# --- outages ----------------------------------------------------------------------------------------------------------


class Traffic:
    """Calls to a model, spread over the workers. What is sent to it comes back after `takes` seconds."""

    def __init__(self, clock, up, takes=0.0, workers=4, rate=100):
        self._clock = clock
        self._up = up
        self._takes = takes
        self._breakers = Workers(workers, clock).breakers
        self._rate = rate
        self._under_way = deque()
        self.sent = []
        """When attempts were made, and whether they were to succeed."""
        self.calls = 0

    def run(self, seconds):
        start = self._clock.time
        for tick in range(seconds * self._rate):
            self._clock.time = start + tick / self._rate
            self._finish()
            self._call(self._breakers[self.calls % len(self._breakers)])
            self.calls += 1
        return self

    def _call(self, breaker):
        asked = breaker.ask()
        if asked != "open":
            up = self._up(self._clock.time)
            self.sent.append((self._clock.time, up))
            self._under_way.append((self._clock.time + self._takes, breaker, up, asked == "probe"))

    def _finish(self):
        while self._under_way and self._under_way[0][0] <= self._clock.time:
            _, breaker, up, probe = self._under_way.popleft()
            breaker.succeeded(probe) if up else breaker.failed(None, probe)

    @property
    def failed(self):
        return sum(not up for _, up in self.sent)

    @property
    def probes(self):
        return self._breakers[0].probes


@pytest.mark.parametrize("takes", [0.0, 2.0], ids=["fails at once", "fails after two seconds"])
def test_an_outage_of_an_hour_costs_far_less_than_a_fiftieth_of_the_calls_and_its_end_is_seen_in_seconds(clock, takes):
    down, back = clock.time + 60, clock.time + 3660
    traffic = Traffic(clock, lambda at: not down <= at < back, takes).run(60 + 3600 + 60)
    assert traffic.failed < 0.005 * 360_000
    regular = [at for at, _ in traffic.sent if at >= back][1]
    assert regular - back < LONGEST_PAUSE + 2 * takes
    assert sum(at >= down + 30 and at < back for at, _ in traffic.sent) <= 3600 / (0.75 * LONGEST_PAUSE + takes) + 1
    assert not traffic._breakers[0].open


def test_a_model_that_flaps_for_a_minute_is_probed_seldom_and_back_in_seconds(clock):
    start, end = clock.time + 20, clock.time + 80
    traffic = Traffic(clock, lambda at: not start <= at < end or (at - start) % 12 < 4).run(20 + 60 + 20)
    assert traffic.failed < 0.3 * 4000  # it is down for forty of the seconds
    assert 5 <= traffic.probes <= 25
    after = [at for at, up in traffic.sent if at >= end]
    assert after[1] - end < LONGEST_PAUSE
    assert sum(at >= end + LONGEST_PAUSE for at in after) == 100 * (20 - LONGEST_PAUSE)


def test_a_model_that_fails_now_and_then_is_never_taken_for_down(clock):
    random = Random(7)
    traffic = Traffic(clock, lambda at: random.random() >= 0.1).run(600)
    assert len(traffic.sent) == traffic.calls == 60_000


# --- against a model --------------------------------------------------------------------------------------------------

COUNT = 3
worker = st.integers(0, COUNT - 1)


class Attempt:
    def __init__(self, worker, probe):
        self.worker = worker
        self.probe = probe


class Machine(RuleBasedStateMachine):
    """Several workers call, wait, fail, and are killed. What should be is kept in the plainest of ways."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.workers = Workers(COUNT, self.clock)
        self.attempts = []
        self.ended = []
        """Since it closed: when, in which worker, and whether it was a success."""
        self.open = False
        self.pause = 0.0
        self.probe_at = 0.0

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds):
        self.clock.time += seconds

    @rule()
    def wait_for_the_pause(self):
        self.clock.time = max(self.clock.time, self.probe_at)

    @rule(worker=worker)
    def ask(self, worker):
        answer = self.workers.breakers[worker].ask()
        if not self.open:
            assert answer == "closed"
        elif self.clock.time < self.probe_at or any(attempt.probe for attempt in self.attempts):
            assert answer == "open"
        else:
            assert answer == "probe"
        if answer != "open":
            self.attempts.append(Attempt(worker, answer == "probe"))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def succeed(self, data):
        attempt = self._take(data)
        self.workers.breakers[attempt.worker].succeeded(attempt.probe)
        if attempt.probe:
            self.open = False
            self.ended = []
        elif not self.open:
            self.ended.append((self.clock.time, attempt.worker, True))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), retry_after=st.none() | st.floats(0, 100))
    def fail(self, data, retry_after):
        self._fail(self._take(data), retry_after)

    @rule(worker=worker, count=st.integers(1, 6))
    def fail_often(self, worker, count):
        for _ in range(count):
            if not self.open:
                assert self.workers.breakers[worker].ask() == "closed"
                self._fail(Attempt(worker, False), None)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def release(self, data):
        attempt = self._take(data)
        self.workers.breakers[attempt.worker].released(attempt.probe)

    @rule(worker=worker)
    def kill(self, worker):
        self.workers.kill(worker)
        self.attempts = [attempt for attempt in self.attempts if attempt.worker != worker]
        self.ended = [one for one in self.ended if one[1] != worker]

    @invariant()
    def all_workers_agree(self):
        rest = max(0.0, self.probe_at - self.clock.time) if self.open else 0.0
        for number, breaker in enumerate(self.workers.breakers):
            assert breaker.open == self.open
            probing = any(attempt.probe and attempt.worker == number for attempt in self.attempts)
            assert breaker.open_for() == (max(rest, FIRST_PAUSE) if probing and self.open else rest)

    def _take(self, data):
        return self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1), label="which"))

    def _fail(self, attempt, retry_after):
        breaker = self.workers.breakers[attempt.worker]
        breaker.failed(retry_after, attempt.probe)
        if attempt.probe:
            self._paused(min(2 * self.pause, LONGEST_PAUSE), retry_after, breaker)
        elif not self.open:
            self.ended.append((self.clock.time, attempt.worker, False))
            recent = [success for at, _, success in self.ended if int(at) > int(self.clock.time) - 10]
            failures = recent.count(False)
            if failures >= 5 and 2 * failures >= len(recent):
                self.open = True
                self._paused(FIRST_PAUSE, retry_after, breaker)

    def _paused(self, pause, retry_after, breaker):
        """Take over what was left to chance."""
        asked = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
        length = breaker.open_for()
        assert max(0.75 * pause, asked) - 1e-6 <= length <= max(pause, asked) + 1e-6
        self.pause = pause
        self.probe_at = breaker._shared[1]


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreaker = Machine.TestCase
