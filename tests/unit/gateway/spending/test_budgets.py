"""What limits let through, as calls see it: reserved before, settled after, refused in words that help."""

import asyncio
from datetime import UTC, datetime

import pytest

from holdfast.errors import LimitExceeded, PriceUnknown, Saturated, StateError
from holdfast.gateway.spending.budgets import Budgets, Need
from holdfast.state.limits import Limit, Window
from spenders import ManualClock, Worker, calls, cost, money, requests

USD = 10**9


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def worker(tmp_path, clock):
    worker = Worker(tmp_path / "state.db", clock)
    yield worker
    await worker.close()


async def spent(worker):
    """What was used, once nothing is leased any more."""
    await worker.budgets.close()
    return {(spent.meter.of, spent.start): spent.drawn for spent in worker.spending.spent()}


def day(*date):
    return int(datetime(*date, tzinfo=UTC).timestamp())


TODAY = day(2026, 11, 21)


async def test_limits_that_hold_together_are_looked_at_once_until_one_of_them_changes(worker):
    budgets = worker.budgets
    own, tenant, feature = (requests(5, of="hf_1"),), (requests(7, of="acme"),), (requests(9, of="answer"),)
    purse = budgets.joint("hf_1", own, tenant, "answer", feature)
    assert purse is budgets.joint("hf_1", own, tenant, "answer", feature) is budgets.purse((*own, *tenant, *feature))
    assert set(purse.limits) == {*own, *tenant, *feature}
    stricter = (requests(3, of="hf_1"),)
    assert stricter[0] in budgets.joint("hf_1", stricter, tenant, "answer", feature).limits
    assert budgets.joint("hf_1", own, (), "answer", ()).limits == own
    assert budgets.joint("hf_1", (), (), "answer", ()) is None


def test_without_limits_there_is_no_purse(clock):
    assert Budgets(None, clock).purse(()) is None


def test_limits_without_a_state_are_refused(clock):
    with pytest.raises(StateError, match=r"tenant acme: 5 requests/day"):
        Budgets(None, clock).purse((requests(5),))


async def test_budgets_that_were_never_used_cost_nothing(tmp_path, clock):
    for budgets in (Budgets(None, clock), Worker(tmp_path / "state.db", clock).budgets):
        await budgets.tend()
        await budgets.close()
        await budgets.close()
    assert not (tmp_path / "leases").exists()


async def test_a_clock_that_is_set_back_between_two_looks_keeps_no_call_waiting(tmp_path):
    class Flickering(ManualClock):
        ahead = 0

        def now(self):
            self.ahead -= 1
            return self.wall + 86_400 * (self.ahead == 0)

    clock = Flickering()
    worker = Worker(tmp_path / "state.db", clock)
    (await worker.reserve(calls(), requests(10))).settle(1, None, None)
    clock.ahead = 1  # for the next look alone it is tomorrow
    async with asyncio.timeout(5):
        (await worker.reserve(calls(), requests(10), seconds=600)).settle(1, None, None)
    await worker.close()


async def test_as_many_calls_pass_as_the_cap_says(worker):
    for _ in range(10):
        (await worker.reserve(calls(), requests(10))).settle(1, None, None)
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(), requests(10))
    assert await spent(worker) == {("acme", TODAY): 10}


async def test_a_refusal_names_the_limit_what_is_left_and_when_it_begins_anew(worker):
    (await worker.reserve(calls(), requests(1))).settle(1, None, None)
    with pytest.raises(LimitExceeded) as raised:
        await worker.reserve(calls(), requests(1))
    assert raised.value.message == (
        "The limit is used up (tenant acme: 1 request/day): 0 requests left, this call may use up to 1 request. "
        "It begins anew at 2026-11-22 00:00:00 UTC."
    )
    assert raised.value.retry_after == 12 * 3600
    assert raised.value.status == 429


async def test_while_calls_are_under_way_a_refused_one_may_come_again_soon(worker, tmp_path, clock):
    under_way = await worker.reserve(cost(USD), money(USD))
    other = Worker(tmp_path / "state.db", clock)
    for each in (worker, other):
        with pytest.raises(LimitExceeded, match="Calls under way may leave more") as raised:
            await each.reserve(cost(1), money(USD))
        assert raised.value.retry_after == 1
    clock.sleep(12 * 3600 - 0.5)
    with pytest.raises(LimitExceeded) as raised:
        await other.reserve(cost(1), money(USD))
    assert raised.value.retry_after == 0.5
    under_way.settle(1, 1, USD)
    await worker.close()
    clock.sleep(0.2)
    with pytest.raises(LimitExceeded, match="begins anew") as raised:
        await other.reserve(cost(1), money(USD))
    assert raised.value.retry_after == pytest.approx(0.3)
    await other.close()


async def test_a_refusal_of_a_limit_for_good_says_so(worker):
    limit = money(USD, Window.TOTAL)
    (await worker.reserve(cost(USD // 2), limit)).settle(1, 5, USD // 4)
    with pytest.raises(LimitExceeded) as raised:
        await worker.reserve(cost(USD), limit)
    assert (
        "(tenant acme: 1 usd in total): 0.75 usd left, this call may use up to 1 usd. It never" in raised.value.message
    )
    assert raised.value.retry_after is None


async def test_a_call_that_can_never_fit_is_told_that_waiting_does_not_help(worker):
    with pytest.raises(LimitExceeded, match=r"up to 1.5 usd, which is more than the limit") as raised:
        await worker.reserve(cost(3 * USD // 2), money(USD))
    assert raised.value.retry_after is None
    assert "Set max_tokens, to less than now if it is set, or lower `max_output`" in raised.value.message
    assert await spent(worker) == {}


def of(scope, cap, unit="requests"):
    return Limit(scope, "x", unit, cap, Window.DAY)


@pytest.mark.parametrize(("scope", "callers"), [("key", True), ("tenant", True), ("feature", False)])
async def test_the_caller_can_mend_the_limits_of_keys_and_tenants_and_not_that_of_a_feature(worker, scope, callers):
    (await worker.reserve(calls(), of(scope, 1))).settle(1, None, None)
    with pytest.raises(LimitExceeded, match="used up") as raised:
        await worker.reserve(calls(), of(scope, 1))
    assert raised.value.callers_fault is callers


@pytest.mark.parametrize(("scope", "callers"), [("key", True), ("tenant", True), ("feature", False)])
async def test_nobody_can_mend_a_feature_that_may_never_be_called(worker, scope, callers):
    with pytest.raises(LimitExceeded, match="more than the limit") as raised:
        await worker.reserve(calls(), of(scope, 0))
    assert raised.value.callers_fault is callers
    assert "max_tokens" not in raised.value.message


async def test_a_call_larger_than_the_whole_limit_of_a_feature_is_for_the_caller_to_mend(worker):
    with pytest.raises(LimitExceeded, match="more than the limit") as raised:
        await worker.reserve(cost(USD + 1), of("feature", USD, "nanousd"))
    assert raised.value.callers_fault


async def test_where_a_caller_is_over_its_own_limit_too_that_is_what_is_told(worker):
    own, features = of("key", 1), of("feature", 1)
    (await worker.reserve(calls(), own, features)).settle(1, None, None)
    with pytest.raises(LimitExceeded, match=r"\(key x: 1 request/day\)") as raised:
        await worker.reserve(calls(), own, features)
    assert raised.value.callers_fault


async def test_what_is_settled_lower_can_be_used_by_the_next_call(worker):
    for _ in range(51):
        (await worker.reserve(cost(USD // 2), money(USD))).settle(1, 1, USD // 100)
    with pytest.raises(LimitExceeded):
        await worker.reserve(cost(USD // 2), money(USD))
    assert await spent(worker) == {("acme", TODAY): 51 * USD // 100}


async def test_what_usage_never_told_counts_with_its_worst_case(worker):
    (await worker.reserve(Need(1, 10, 500), money(USD), requests(5))).settle(1, None, None)
    await worker.budgets.close()
    drawn = {spent.meter.unit: spent.drawn for spent in worker.spending.spent()}
    assert drawn == {"nanousd": 500, "requests": 1}


@pytest.mark.parametrize("absurd", [-1, -(10**30), 10**30])
async def test_absurd_usage_is_not_believed(worker, absurd):
    (await worker.reserve(cost(500), money(USD))).settle(1, 1, absurd)
    assert await spent(worker) == {("acme", TODAY): 500}


async def test_what_was_never_sent_is_given_back_whole(worker):
    (await worker.reserve(Need(1, 10, 500), money(USD), requests(5))).settle(0, 0, 0)
    await worker.budgets.close()
    assert {spent.drawn for spent in worker.spending.spent()} == {0}


async def test_only_the_first_settlement_counts(worker):
    reservation = await worker.reserve(calls(5), requests(10))
    for count in (2, 0, 5):
        reservation.settle(count, None, None)
    assert await spent(worker) == {("acme", TODAY): 2}


async def test_what_is_still_under_way_at_the_end_counts_with_its_worst_case(worker):
    reservation = await worker.reserve(calls(4), requests(10))
    assert await spent(worker) == {("acme", TODAY): 4}
    reservation.settle(0, 0, 0)
    assert await spent(worker) == {("acme", TODAY): 4}


async def test_all_limits_have_to_leave_enough_and_nothing_is_taken_of_any_else(worker):
    wide, narrow = requests(100, of="wide"), requests(1, of="narrow")
    (await worker.reserve(calls(), wide, narrow)).settle(1, None, None)
    for _ in range(3):
        with pytest.raises(LimitExceeded, match="narrow"):
            await worker.reserve(calls(), wide, narrow)
    (await worker.reserve(calls(99), wide)).settle(99, None, None)
    assert await spent(worker) == {("wide", TODAY): 100, ("narrow", TODAY): 1}


async def test_of_several_caps_for_the_same_the_strictest_holds(worker):
    await worker.reserve(calls(2), requests(9), requests(2), requests(5))
    with pytest.raises(LimitExceeded, match=": 2 requests/day"):
        await worker.reserve(calls(), requests(9), requests(2), requests(5))


async def test_a_limit_of_nothing_lets_nothing_through(worker):
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(), requests(0))


async def test_a_call_that_costs_nothing_passes_when_the_money_is_spent(worker):
    limits = (money(100), requests(10))
    (await worker.reserve(Need(1, 5, 100), *limits)).settle(1, 5, 100)
    (await worker.reserve(Need(1, 5, 0), *limits)).settle(1, 5, 0)
    with pytest.raises(LimitExceeded):
        await worker.reserve(Need(1, 5, 1), *limits)
    lower = (money(50), requests(10))
    (await worker.reserve(Need(1, 5, 0), *lower)).settle(1, 5, 0)


async def test_without_a_price_nothing_is_sent_under_a_limit_in_money(worker):
    need = Need(1, 5, None, "The price of gpt is not known: set its `price`.")
    with pytest.raises(PriceUnknown, match=r"tenant acme: 1 usd/day.*price of gpt"):
        await worker.reserve(need, requests(5), money(USD))
    with pytest.raises(PriceUnknown):
        worker.purse(money(USD)).try_reserve(need)
    (await worker.reserve(need, requests(5))).settle(1, 5, None)


async def test_without_a_bound_nothing_is_sent_under_a_limit_in_tokens(worker):
    with pytest.raises(PriceUnknown, match="set max_tokens"):
        await worker.reserve(Need(1, None, None, "set max_tokens"), Limit("key", "hf_1", "tokens", 10, Window.DAY))


async def test_what_is_leased_is_reserved_at_once(worker):
    purse = worker.purse(requests(1000))
    assert purse.try_reserve(calls()) is None
    await purse.reserve(calls(), worker.clock.monotonic() + 1)
    assert purse.try_reserve(calls()) is not None


async def test_a_purse_says_whether_a_worst_case_is_needed(worker):
    assert not worker.purse(requests(5)).measures
    assert worker.purse(requests(5), money(5)).measures


async def test_the_same_limits_have_the_same_purse(worker):
    assert worker.purse(requests(5)) is worker.purse(requests(5))
    assert worker.budgets.purse([requests(5)]) is worker.purse(requests(5))


async def test_more_purses_than_anybody_needs_do_not_grow_without_bound(worker):
    for cap in range(10_050):
        worker.purse(requests(cap))
    assert len(worker.budgets._purses) <= 10_000


# --- windows


async def test_a_new_window_begins_anew(worker, clock):
    (await worker.reserve(calls(5), requests(5))).settle(5, None, None)
    clock.sleep(12 * 3600 - 0.001)
    with pytest.raises(LimitExceeded) as raised:
        await worker.reserve(calls(1), requests(5))
    assert raised.value.retry_after == pytest.approx(0.001, abs=1e-4)
    clock.sleep(0.001)
    await worker.reserve(calls(5), requests(5))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(5))


async def test_what_is_reserved_belongs_to_its_window_also_after_the_end_of_that(worker, clock):
    old = await worker.reserve(calls(5), requests(5))
    clock.sleep(12 * 3600)
    new = await worker.reserve(calls(3), requests(5))
    await worker.budgets.tend()
    old.settle(1, None, None)
    new.settle(2, None, None)
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(4), requests(5))
    assert await spent(worker) == {("acme", TODAY): 1, ("acme", TODAY + 86_400): 2}


async def test_the_lease_of_an_old_window_is_closed_once_all_of_it_is_settled(worker, clock):
    old = await worker.reserve(calls(5), requests(50))
    clock.sleep(12 * 3600)
    for _ in range(3):
        await worker.budgets.tend()
    assert [spent.leased > 0 for spent in worker.spending.spent()] == [True]
    old.settle(2, None, None)
    await worker.budgets.tend()
    assert [(spent.drawn, spent.leased) for spent in worker.spending.spent()] == [(2, 0)]


async def test_a_clock_set_back_does_not_open_a_window_again(worker, clock):
    await worker.reserve(calls(5), requests(5))
    clock.wall += 86_400
    await worker.reserve(calls(4), requests(5))
    clock.wall -= 86_400
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(5))
    clock.wall += 86_400
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(2), requests(5))
    await worker.reserve(calls(1), requests(5))
    assert await spent(worker) == {("acme", TODAY): 5, ("acme", TODAY + 86_400): 5}


# --- caps that change


async def test_a_raised_cap_lets_more_through(worker, clock):
    await worker.reserve(calls(5), requests(5))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(), requests(5))
    await worker.reserve(calls(5), requests(10))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(), requests(10))


async def test_a_lowered_cap_holds_for_what_was_leased_before(worker):
    (await worker.reserve(calls(3), requests(1000))).settle(3, None, None)
    assert worker.purse(requests(1000)).try_reserve(calls(50)) is not None  # leased ahead
    assert worker.purse(requests(60)).try_reserve(calls(1)) is None
    await worker.reserve(calls(7), requests(60))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(60))


async def test_under_a_cap_below_what_was_used_nothing_passes_whatever_is_settled(worker, clock):
    reservation = await worker.reserve(calls(80), requests(100))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(50))
    reservation.settle(60, None, None)
    for _ in range(3):
        clock.sleep(1)
        with pytest.raises(LimitExceeded):
            await worker.reserve(calls(1), requests(50))
        await worker.budgets.tend()
    await worker.reserve(calls(40), requests(100))


async def test_what_other_workers_hold_counts_under_a_lowered_cap(worker, tmp_path, clock):
    other = Worker(tmp_path / "state.db", clock)
    await other.reserve(calls(30), requests(1000))
    (await worker.reserve(calls(1), requests(1000))).settle(1, None, None)
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(70), requests(100))
    await other.close()
    clock.sleep(1)
    await worker.reserve(calls(69), requests(100))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(100))


# --- more than was reserved


async def test_what_was_used_beyond_its_reservation_is_booked_and_logged(worker, caplog):
    (await worker.reserve(cost(10), money(1000))).settle(1, 1, 900)
    assert worker.purse(money(1000)).try_reserve(cost(200)) is None
    with pytest.raises(LimitExceeded):
        await worker.reserve(cost(101), money(1000))
    (await worker.reserve(cost(100), money(1000))).settle(1, 1, 100)
    await worker.budgets.tend()
    assert "0.00000089 usd more was used than reserved by tenant acme." in caplog.text
    assert await spent(worker) == {("acme", TODAY): 1000}


async def test_what_was_used_beyond_everything_stops_others_once_it_is_booked(worker, tmp_path, clock):
    (await worker.reserve(cost(1000), money(1000))).settle(1, 1, 5000)
    await worker.budgets.tend()
    other = Worker(tmp_path / "state.db", clock)
    with pytest.raises(LimitExceeded):
        await other.reserve(cost(1), money(1000))
    await other.close()
    assert await spent(worker) == {("acme", TODAY): 5000}


# --- the end


async def test_closed_budgets_let_nothing_through_that_is_not_leased(worker):
    purse = worker.purse(requests(10))
    await worker.budgets.close()
    with pytest.raises(Saturated):
        await purse.reserve(calls(), worker.clock.monotonic() + 1)


async def test_the_background_work_goes_on_until_it_is_cancelled(worker, monkeypatch):
    monkeypatch.setattr("holdfast.gateway.spending.budgets.PERIOD", 0.001)
    (await worker.reserve(calls(), requests(100))).settle(1, None, None)
    work = asyncio.create_task(worker.budgets.work())
    while any(spent.leased for spent in worker.spending.spent()):
        await asyncio.sleep(0.001)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert worker.spending.spent()[0].drawn == 1
