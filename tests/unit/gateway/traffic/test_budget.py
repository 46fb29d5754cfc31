import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.gateway.traffic.budget import CAP, FLOOR, Budget


@given(
    st.floats(0, 1),
    st.floats(0, 20),
    st.floats(0, 100),
    st.lists(st.booleans(), max_size=400),
)
def test_no_more_is_spent_than_the_floor_and_the_share_of_calls(share, floor, cap, steps):
    budget = Budget(share, floor, cap)
    calls = spent = 0
    for call in steps:
        if call:
            budget.count()
            calls += 1
        else:
            spent += budget.spend()
        assert spent <= floor + share * calls + 1e-6
        assert 0 <= budget.left <= max(cap, floor) + 1e-6


def test_the_first_calls_of_a_gateway_can_be_retried():
    budget = Budget(0.2)
    assert [budget.spend() for _ in range(int(FLOOR) + 1)] == [True] * int(FLOOR) + [False]


def test_calls_pay_for_more():
    budget = Budget(0.25, floor=0)
    assert not budget.spend()
    for _ in range(4):
        budget.count()
    assert budget.spend()
    assert not budget.spend()


def test_a_long_quiet_time_saves_no_more_than_the_cap():
    budget = Budget(0.2)
    for _ in range(100_000):
        budget.count()
    assert sum(budget.spend() for _ in range(1000)) in (int(CAP) - 1, int(CAP))


def test_a_share_of_nothing_lets_nothing_be_spent():
    budget = Budget(0.0)
    for _ in range(1000):
        budget.count()
    assert not budget.spend()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Budget(share)
