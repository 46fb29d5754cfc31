"""Ids of calls."""

import re

from hypothesis import given
from hypothesis import strategies as st

from holdfast.clock import SystemClock, UlidFactory


class StoppedClock:
    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now


def test_an_id_is_the_ulid_of_its_time_and_randomness() -> None:
    new_id = UlidFactory(StoppedClock(1469918176.385), lambda count: bytes(count))
    assert new_id() == "01ARYZ6S41" + "0" * 16


def test_ids_are_unique_well_beyond_one_helping_of_randomness() -> None:
    new_id = UlidFactory(SystemClock())
    ids = [new_id() for _ in range(5000)]
    assert len(set(ids)) == 5000
    assert all(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", id) for id in ids)


@given(st.lists(st.integers(0, 2**41), min_size=2, max_size=5))
def test_ids_sort_by_their_time(times: list[int]) -> None:
    ids = {ms: UlidFactory(StoppedClock((ms + 0.5) / 1000))() for ms in times}
    assert sorted(ids, key=ids.__getitem__) == sorted(ids)
