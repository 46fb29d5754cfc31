"""Ids of calls."""

import re

from hypothesis import given
from hypothesis import strategies as st

from holdfast.clock import SystemClock, UlidFactory


class StoppedClock:
    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def test_an_id_is_the_ulid_of_its_time_and_randomness() -> None:
    new_id = UlidFactory(StoppedClock(1469918176.385), lambda count: bytes(count))
    assert new_id() == "01ARYZ6S41" + "0" * 16


def test_ids_are_unique_well_beyond_one_helping_of_randomness() -> None:
    new_id = UlidFactory(SystemClock())
    ids = [new_id() for _ in range(5000)]
    assert len(set(ids)) == 5000
    assert all(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", id) for id in ids)


def test_every_bit_of_randomness_that_an_id_has_room_for_is_used() -> None:
    new_id = UlidFactory(StoppedClock(0.0), lambda count: bytes(n % 256 for n in range(count)))
    assert [new_id()[10:] for _ in range(3)] == ["0123456789ABCDEF", "GHJKMNPQRSTVWXYZ", "0123456789ABCDEF"]


@given(st.lists(st.integers(0, 2**41), min_size=1, max_size=5))
def test_an_id_tells_the_time_of_its_own_making(times: list[int]) -> None:
    clock = StoppedClock(0.0)
    new_id = UlidFactory(clock)
    for ms in times:
        clock.time = (ms + 0.5) / 1000
        told = 0
        for digit in new_id()[:10]:
            told = told * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(digit)
        assert told == ms


@given(st.lists(st.integers(0, 2**41), min_size=2, max_size=5))
def test_ids_sort_by_their_time(times: list[int]) -> None:
    ids = {ms: UlidFactory(StoppedClock((ms + 0.5) / 1000))() for ms in times}
    assert sorted(ids, key=ids.__getitem__) == sorted(ids)
