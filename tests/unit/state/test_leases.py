"""The leases of one worker: counted in memory and in its file, exchanged with the state, recovered from the dead."""

import sqlite3

import pytest

from holdfast.errors import StateError
from holdfast.state.leases import RECOVER_SECONDS, Change, Lease, Leases
from holdfast.state.limits import Limit, Window
from holdfast.state.spending import Order, Spending
from spenders import ManualClock

METER = Limit("tenant", "acme", "requests", 100, Window.TOTAL).meter


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def spending(tmp_path):
    spending = Spending(tmp_path / "state.db")
    yield spending
    spending.close()


class Worker:
    def __init__(self, spending, clock):
        self.leases = Leases(spending, clock)
        self.number = 0

    def draw(self, amount):
        self.number += 1
        lease = Lease(self.number, METER, 0, float("inf"), 100)
        order = Order(lease.number, METER, 0, 100, 0, amount, amount)
        lease.free = self.leases.exchange([Change(lease, order)])[0].drawn
        return lease

    def close(self, lease):
        order = Order(lease.number, METER, 0, 100, lease.used, close=True)
        self.leases.exchange([Change(lease, order)])

    def kill(self):
        self.leases._holder.close(remove=False)


@pytest.fixture
def worker(spending, clock):
    return Worker(spending, clock)


def drawn(spending):
    return [(spent.drawn, spent.leased) for spent in spending.spent()]


def test_what_is_taken_is_used_until_it_is_settled(worker):
    lease = worker.draw(10)
    lease.take(4)
    lease.take(3)
    assert (lease.free, lease.used, lease.open) == (3, 7, 2)
    lease.settle(1)
    lease.settle(0)
    assert (lease.free, lease.used, lease.open, lease.over) == (4, 6, 0, 0)


def test_more_than_was_taken_is_owed(worker):
    lease = worker.draw(10)
    lease.take(10)
    lease.settle(-5)
    assert (lease.free, lease.used, lease.over) == (-5, 15, 5)


def test_what_was_not_needed_since_the_last_look_nor_will_be_is_surplus(worker):
    lease = worker.draw(100)
    assert lease.look() == 0  # it may have been drawn a moment ago
    lease.take(10)
    lease.settle(0)
    assert lease.look() == 90 - 2 * 10
    assert lease.quiet
    assert lease.look() == 90
    lease.take(50)
    assert not lease.quiet
    lease.settle(50)
    assert lease.look() == 40  # which is what was free while that was under way


@pytest.mark.parametrize("steps", [(), (30,), (30, -10), (30, 0), (30, -30)])
def test_what_a_killed_worker_used_outlives_it_at_every_step(worker, spending, clock, steps):
    lease = worker.draw(60)
    for step in steps:
        if step > 0:
            lease.take(step)
        else:
            lease.settle(-step)
    worker.kill()
    assert Leases(spending, clock).recover() == 1
    assert drawn(spending) == [(sum(steps), 0)]


def test_a_place_is_used_again_only_for_a_lease_that_begins_at_nothing(worker, spending, clock):
    for used in (5, 3):
        lease = worker.draw(10)
        lease.take(used)
        lease.settle(0)
        worker.close(lease)
    worker.draw(10)
    worker.kill()
    Leases(spending, clock).recover()
    assert drawn(spending) == [(8, 0)]


def test_where_nothing_is_left_the_dead_are_recovered_but_not_with_every_call(worker, spending, clock):
    other = Worker(spending, clock)
    assert other.draw(1).free == 1
    worker.draw(99).take(9)
    worker.kill()
    assert other.draw(50).free == 0
    clock.sleep(RECOVER_SECONDS)
    assert other.draw(50).free == 50


def test_a_worker_that_ends_with_leases_leaves_its_file_to_who_recovers_them(worker, spending, tmp_path):
    worker.draw(10)
    worker.leases.close()
    assert len(list((tmp_path / "leases").iterdir())) == 1
    worker.draw(10)
    assert drawn(spending) == [(10, 10)]
    worker.leases.close()
    worker.leases.close()


def test_a_worker_that_gave_all_back_leaves_no_file(worker, tmp_path):
    worker.close(worker.draw(10))
    worker.leases.close()
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_typed_error(worker, tmp_path, spending):
    (tmp_path / "leases").write_text("in the way")
    with pytest.raises(StateError, match="leases"):
        worker.draw(10)
    with pytest.raises(StateError):
        worker.leases.recover()
    assert spending.spent() == []


def test_a_recovery_that_the_state_refuses_is_made_by_the_next(worker, spending, clock, monkeypatch):
    worker.draw(10)
    worker.kill()
    recover = spending.recover
    heir = Leases(spending, clock)

    def failing(*args):
        raise StateError("the disk failed")

    monkeypatch.setattr(spending, "recover", failing)
    with pytest.raises(StateError):
        heir.recover()
    monkeypatch.setattr(spending, "recover", recover)
    assert heir.recover() == 1
    assert drawn(spending) == [(0, 0)]


def test_a_state_that_fails_at_the_end_leaves_the_file(worker, spending, tmp_path, monkeypatch):
    def failing():
        raise sqlite3.OperationalError("the disk failed")

    worker.draw(10)
    monkeypatch.setattr(spending, "holders", failing)
    with pytest.raises(sqlite3.OperationalError):
        worker.leases.close()
    assert len(list((tmp_path / "leases").iterdir())) == 1


# --- what others hold free


def ask(worker, needed):
    """What came of an order for so much, for a lease that did not last."""
    worker.number += 1
    lease = Lease(worker.number, METER, 0, float("inf"), 100)
    return worker.leases.exchange([Change(lease, Order(lease.number, METER, 0, 100, 0, needed, needed))])[0]


def test_a_draw_that_falls_short_tells_what_others_hold_free_and_asks_for_it(worker, spending, clock):
    other = Worker(spending, clock)
    lease = worker.draw(90)
    lease.take(30)
    grant = ask(other, 50)
    assert (grant.drawn, grant.left, grant.idle) == (0, 10, 60)
    assert [worker.leases.wanted(), worker.leases.wanted()] == [lease.number, 0]
    assert other.leases.wanted() == 0


@pytest.mark.parametrize(("taken", "idle"), [(90, 0), (60, 30)])
def test_others_are_not_asked_for_what_is_not_enough(worker, spending, clock, taken, idle):
    other = Worker(spending, clock)
    worker.draw(90).take(taken)
    assert ask(other, 50).idle == idle
    assert worker.leases.wanted() == 0


def test_what_was_used_beyond_a_lease_is_not_free_elsewhere(worker, spending, clock):
    other = Worker(spending, clock)
    overdrawn = worker.draw(30)
    overdrawn.take(30)
    overdrawn.settle(-40)
    worker.draw(60)
    assert ask(other, 50).idle == 20


def test_of_a_file_that_tells_nothing_nothing_is_free(worker, spending, clock):
    other = Worker(spending, clock)
    worker.draw(90)
    [file] = spending.directory.iterdir()
    content = file.read_bytes()
    with file.open("r+b") as damaged:
        damaged.write(b"damaged!")
    assert ask(other, 50).idle == 0
    assert worker.leases.wanted() == 0
    file.write_bytes(content)


def test_what_was_closed_meanwhile_is_free(worker, spending, clock, monkeypatch):
    other = Worker(spending, clock)
    lease = worker.draw(90)
    exchange = spending.exchange

    def slow(*args):
        grants = exchange(*args)
        monkeypatch.setattr(spending, "exchange", exchange)
        worker.close(lease)
        return grants

    ask(other, 1)
    monkeypatch.setattr(spending, "exchange", slow)
    assert ask(other, 50).idle == 90


def test_before_a_worker_holds_anything_nothing_is_wanted_of_it(worker):
    assert worker.leases.wanted() == 0
