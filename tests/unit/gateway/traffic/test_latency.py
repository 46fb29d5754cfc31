from hypothesis import given
from hypothesis import strategies as st

from holdfast.gateway.traffic.latency import ENOUGH, RECENT, STRIDE, Latency


def latency(samples: list[float]) -> Latency:
    latency = Latency()
    for seconds in samples:
        latency.add(seconds)
    return latency


def test_without_samples_nothing_is_known():
    assert latency([]).typical() is None
    assert latency([]).p95() is None


def test_a_percentile_takes_enough_samples_and_a_median_takes_one():
    few = latency([0.5] * (ENOUGH - 1))
    assert few.p95() is None
    assert few.typical() == 0.5
    few.add(0.5)
    assert few.p95() == 0.5
    assert few.count == ENOUGH


@given(st.lists(st.floats(0, 100), min_size=ENOUGH, max_size=RECENT))
def test_of_twenty_samples_at_most_one_is_above_the_percentile(samples):
    p95 = latency(samples).p95()
    assert p95 in samples
    assert sum(sample > p95 for sample in samples) <= len(samples) / 20
    assert sum(sample <= p95 for sample in samples) >= len(samples) * 0.95


@given(st.lists(st.floats(0, 100), min_size=1, max_size=RECENT))
def test_half_of_the_samples_are_at_most_typical(samples):
    typical = latency(samples).typical()
    assert sum(sample <= typical for sample in samples) >= len(samples) / 2
    assert sum(sample >= typical for sample in samples) >= len(samples) / 2


@given(st.lists(st.floats(0, 100), max_size=300), st.lists(st.floats(0, 100), min_size=RECENT, max_size=300))
def test_what_is_no_longer_recent_is_forgotten(old, recent):
    assert latency(old + recent).p95() == latency(recent[-RECENT:]).p95()


def test_new_samples_are_seen_after_a_few_at_the_latest():
    changed = latency([1.0] * 100)
    assert changed.p95() == 1.0
    for _ in range(RECENT):
        changed.add(9.0)
        changed.p95()
    for _ in range(STRIDE):
        changed.add(9.0)
    assert changed.p95() == changed.typical() == 9.0


def test_late_is_beyond_the_95th_percentile_or_thrice_the_median_if_that_is_sooner() -> None:
    latency = Latency()
    assert latency.late() is None
    for number in range(100):
        latency.add(1.0 + number / 100)
    assert latency.late() == latency.p95()
    slow = Latency()
    for number in range(100):
        slow.add(10.0 if number % 10 == 0 else 1.0)
    assert slow.p95() == 10.0
    assert slow.late() == 3.0
