"""Draws from the windows of limits: together never more than the cap, whoever draws, and whenever."""

import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import StateError
from holdfast.state import spending as module
from holdfast.state.limits import Limit, Meter, Window
from holdfast.state.spending import Grant, Held, Order, Spending

DAY = Limit("tenant", "acme", "requests", 100, Window.DAY).meter


@pytest.fixture
def spending(tmp_path):
    spending = Spending(tmp_path / "state.db")
    yield spending
    spending.close()


def order(number=1, *, meter=DAY, start=0, cap=100, keep=0, least=0, needed=0, most=0, close=False):
    return Order(number, meter, start, cap, keep, least, needed, most, close)


def draw(spending, holder, needed, **fields):
    return spending.exchange(holder, [order(least=needed, needed=needed, **fields)])[0]


def drawn(spending):
    return sum(spent.drawn for spent in spending.spent())


def test_what_is_needed_is_drawn_and_what_is_left_is_told(spending):
    assert draw(spending, "a", 30) == Grant(30, 70)
    assert draw(spending, "b", 60) == Grant(60, 10)
    assert [(spent.drawn, spent.leased) for spent in spending.spent()] == [(90, 90)]


def test_nothing_is_drawn_where_less_is_left_than_is_of_use(spending):
    draw(spending, "a", 95)
    assert draw(spending, "b", 6) == Grant(0, 5, (Held("a", 1, DAY, 0, 95),))
    assert draw(spending, "b", 5) == Grant(5, 0)
    assert draw(spending, "b", 0, keep=5) == Grant(0, 0)


def test_of_what_several_need_is_drawn_what_there_is_and_who_holds_the_rest_is_told(spending):
    assert spending.exchange("a", [order(least=5, needed=60)]) == [Grant(60, 40)]
    assert spending.exchange("b", [order(least=5, needed=60)]) == [Grant(40, 0, (Held("a", 1, DAY, 0, 60),))]


def test_ahead_is_drawn_a_part_of_what_is_left_that_leaves_something_for_each_worker(spending):
    assert spending.exchange("a", [order(cap=1600, least=1, needed=1, most=1600)], live=4) == [Grant(100, 1500)]
    assert spending.exchange("b", [order(cap=1600, least=1, needed=1, most=7)], live=4) == [Grant(7, 1493)]
    assert spending.exchange("c", [order(cap=1600, least=1, needed=400, most=500)], live=4) == [Grant(400, 1093)]


def test_what_is_not_kept_is_given_back(spending):
    draw(spending, "a", 30)
    assert spending.exchange("a", [order(keep=10)]) == [Grant(0, 90)]
    assert [(spent.drawn, spent.leased) for spent in spending.spent()] == [(10, 10)]


def test_a_closed_lease_leaves_what_was_used(spending):
    draw(spending, "a", 30)
    assert spending.exchange("a", [order(keep=12, close=True)]) == [Grant(0, 88)]
    assert [(spent.drawn, spent.leased) for spent in spending.spent()] == [(12, 0)]
    assert spending.holders() == set()


def test_an_order_given_again_changes_nothing(spending):
    draw(spending, "a", 30)
    for _ in range(3):  # the answer of the draw got lost: the lease is told to hold what its worker knows of
        assert draw(spending, "a", 20, keep=10) == Grant(20, 70)
    for _ in range(3):
        spending.exchange("a", [order(keep=10, close=True)])
    assert drawn(spending) == 10


def test_closing_a_lease_that_was_never_drawn_changes_nothing(spending):
    spending.exchange("a", [order(close=True)])
    assert drawn(spending) == 0


def test_what_was_used_beyond_the_cap_is_booked_and_stops_everybody(spending):
    draw(spending, "a", 100)
    assert spending.exchange("a", [order(keep=130)]) == [Grant(0, -30)]
    assert draw(spending, "b", 1) == Grant(0, -30, (Held("a", 1, DAY, 0, 130),))


def test_a_lower_cap_holds_at_once_and_a_higher_one_too(spending):
    draw(spending, "a", 50)
    assert draw(spending, "b", 1, cap=40) == Grant(0, -10, (Held("a", 1, DAY, 0, 50),))
    assert draw(spending, "b", 1, cap=51) == Grant(1, 0)
    assert draw(spending, "b", 60, cap=200, keep=1) == Grant(60, 89)


def test_windows_and_meters_are_counted_apart(spending):
    draw(spending, "a", 100)
    assert draw(spending, "a", 100, number=2, start=86_400).drawn == 100
    assert draw(spending, "a", 100, number=3, meter=DAY._replace(window=Window.TOTAL)).drawn == 100
    assert draw(spending, "a", 100, number=4, meter=DAY._replace(unit="tokens")).drawn == 100
    assert draw(spending, "a", 100, number=5, meter=DAY._replace(of="other")).drawn == 100
    assert draw(spending, "a", 100, number=6, meter=DAY._replace(scope="feature")).drawn == 100


def test_orders_are_carried_out_all_or_none(spending):
    with pytest.raises(StateError):
        spending.exchange("a", [order(least=5, needed=5), order(2, meter=DAY._replace(of=None), least=1, needed=1)])
    assert spending.spent() == []


def test_old_windows_are_forgotten_but_none_that_a_clock_set_back_may_find_again(spending):
    for day in range(150):
        draw(spending, "a", 10, number=day, start=day * 86_400)
        spending.exchange("a", [order(day, start=day * 86_400, keep=10, close=True)])
    starts = [spent.start // 86_400 for spent in spending.spent()]
    assert starts == list(range(150 - module.WINDOWS_KEPT, 150))
    assert draw(spending, "a", 91, number=999, start=149 * 86_400) == Grant(0, 90)
    assert draw(spending, "a", 91, number=999, start=50 * 86_400) == Grant(0, 90)


def test_a_clock_set_far_back_draws_no_more_than_a_cap_either(spending):
    for day in range(150):
        spending.exchange("a", [order(day, start=day * 86_400, keep=1, close=False)])
        spending.exchange("a", [order(day, start=day * 86_400, keep=1, close=True)])
    assert draw(spending, "a", 80, number=900, start=0) == Grant(80, 20)
    assert draw(spending, "b", 21, number=901, start=0) == Grant(0, 20, (Held("a", 900, DAY, 0, 80),))


def test_a_window_with_a_lease_is_never_forgotten(spending):
    draw(spending, "a", 60)
    for day in range(1, 150):
        draw(spending, "a", 10, number=day + 1, start=day * 86_400)
    assert draw(spending, "b", 41, number=1) == Grant(0, 40, (Held("a", 1, DAY, 0, 60),))


# --- the dead


def test_of_a_dead_worker_is_recovered_what_it_did_not_use(spending):
    spending.exchange("a", [order(1, least=30, needed=30), order(2, start=86_400, least=30, needed=30)])
    draw(spending, "b", 5)
    assert spending.recover("a", {1: 12, 2: 0}) == 2
    assert [(spent.drawn, spent.leased) for spent in spending.spent()] == [(17, 5), (0, 0)]
    assert spending.holders() == {"b"}


def test_what_is_not_known_of_a_dead_worker_counts_as_used(spending):
    spending.exchange("a", [order(1, least=30, needed=30), order(2, start=86_400, least=30, needed=30)])
    spending.recover("a", {2: 3})
    assert [spent.drawn for spent in spending.spent()] == [30, 3]
    draw(spending, "b", 40)
    spending.recover("b", None)
    assert [spent.drawn for spent in spending.spent()] == [70, 3]


def test_what_a_dead_worker_used_beyond_its_lease_is_booked(spending):
    draw(spending, "a", 30)
    spending.recover("a", {1: 45})
    assert drawn(spending) == 45


def test_a_worker_is_recovered_once(spending):
    draw(spending, "a", 30)
    assert [spending.recover("a", {1: 10}) for _ in range(3)] == [1, 0, 0]
    assert drawn(spending) == 10


# --- several at once, and a file that can't be used


def test_connections_that_draw_at_once_draw_no_more_than_the_cap(tmp_path):
    granted = []

    def work(holder):
        spending = Spending(tmp_path / "state.db")
        held = 0
        for _ in range(30):
            grant = spending.exchange(holder, [order(keep=held, least=1, needed=1)])[0]
            held += grant.drawn
        granted.append(held)
        spending.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 100


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("holdfast.database.BUSY_MS", 50)


def test_a_locked_state_is_a_typed_error_and_nothing_was_drawn(tmp_path, impatient):
    spending, other = Spending(tmp_path / "state.db"), sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match="locked"):
        draw(spending, "a", 1)
    other.execute("ROLLBACK")
    other.close()
    assert draw(spending, "a", 100) == Grant(100, 0)
    spending.close()


def test_a_full_disk_is_a_typed_error_and_nothing_was_drawn(spending):
    draw(spending, "a", 10)
    pages = spending._db.execute("PRAGMA page_count").fetchone()[0]
    spending._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StateError, match="disk is full"):
        spending.exchange("a", [order(n, meter=DAY._replace(of=f"{n}"), least=1, needed=1) for n in range(2, 500)])
    assert [(spent.drawn, spent.leased) for spent in spending.spent()] == [(10, 10)]
    assert draw(spending, "a", 90, keep=10) == Grant(90, 0)


def test_a_damaged_state_is_a_typed_error(tmp_path):
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StateError, match="not a database"):
        Spending(tmp_path / "state.db")


def test_a_reader_sees_what_was_spent_and_changes_nothing(tmp_path, spending):
    draw(spending, "a", 30)
    reader = Spending(tmp_path / "state.db", read_only=True)
    assert [spent.meter for spent in reader.spent()] == [Meter("tenant", "acme", "requests", Window.DAY)]
    with pytest.raises(StateError):
        draw(reader, "a", 1)
    reader.close()


def test_past_windows_can_be_left_out_of_what_was_spent(spending):
    for number, (start, window) in enumerate([(0, Window.DAY), (86_400, Window.DAY), (0, Window.TOTAL)]):
        draw(spending, "a", 1, number=number, start=start, meter=DAY._replace(window=window))
    assert [(spent.start, spent.meter.window) for spent in spending.spent(since=86_400)] == [
        (86_400, Window.DAY),
        (0, Window.TOTAL),
    ]


amounts = st.integers(0, 1000)


@given(least=amounts, needed=amounts, most=amounts, left=st.integers(-100, 1000), live=st.integers(1, 8))
def test_a_draw_is_never_more_than_what_is_left_and_of_use_if_it_can_be(least, needed, most, left, live):
    portion = module._portion(order(least=least, needed=max(least, needed), most=most), left, live)
    assert 0 <= portion <= max(0, left)
    assert portion >= least or left < least
