"""How leases are kept filled: one exchange at a time for all who wait, in a thread; outages, kills and idle leases."""

import asyncio
import random
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import LimitExceeded, Saturated
from holdfast.gateway.spending.budgets import PATIENCE, Need
from holdfast.gateway.spending.draws import AGAIN, KNOWN
from holdfast.state.leases import RECOVER_SECONDS
from holdfast.state.spending import Spending
from spenders import ManualClock, Worker, calls, cost, money, requests


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
async def worker(path, clock):
    worker = Worker(path, clock)
    yield worker
    await worker.close()


class Watched:
    """Counts the exchanges with the state, holds them back while `closed`, and loses their answers while `deaf`."""

    def __init__(self, spending):
        self.count = 0
        self.deaf = False
        self._exchange = spending.exchange
        self._open = threading.Event()
        self._open.set()
        self.begun = threading.Event()
        spending.exchange = self

    def __call__(self, *args):
        self.count += 1
        self.begun.set()
        assert self._open.wait(10)
        grants = self._exchange(*args)
        if self.deaf:
            raise sqlite3.OperationalError("the disk failed after the commit")
        return grants

    def hold(self):
        self.begun.clear()
        self._open.clear()

    def release(self):
        self._open.set()


@pytest.fixture
def watched(worker):
    watched = Watched(worker.spending)
    yield watched
    watched.release()


async def begun(watched):
    await asyncio.to_thread(watched.begun.wait, 10)


def drawn(worker):
    return sum(spent.drawn for spent in worker.spending.spent())


def leased(worker):
    return sum(spent.leased for spent in worker.spending.spent())


# --- those who wait


async def test_all_that_is_lacking_is_drawn_at_once_for_all_who_wait(worker, watched):
    limits = (requests(1000), requests(500, of="other"), money(10**9))
    watched.hold()
    waiting = [asyncio.create_task(worker.reserve(Need(1, None, 5), *limits)) for _ in range(50)]
    await begun(watched)
    await asyncio.sleep(0)
    watched.release()
    await asyncio.gather(*waiting)
    assert watched.count <= 2


async def test_calls_go_on_while_another_limit_is_drawn(worker, watched):
    await worker.reserve(calls(), requests(1000))
    watched.hold()
    waiting = asyncio.create_task(worker.reserve(calls(), requests(5, of="other")))
    await begun(watched)
    assert worker.purse(requests(1000)).try_reserve(calls()) is not None
    watched.release()
    await waiting


async def test_a_call_that_is_cancelled_while_it_waits_takes_nothing(worker, watched, clock):
    watched.hold()
    waiting = asyncio.create_task(worker.reserve(calls(), requests(10)))
    other = asyncio.create_task(worker.reserve(calls(), requests(10)))
    await begun(watched)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    watched.release()
    (await other).settle(1, None, None)
    await worker.budgets.close()
    assert drawn(worker) == 1


async def test_a_draw_that_everybody_gave_up_on_is_not_lost(worker, watched):
    watched.hold()
    waiting = asyncio.create_task(worker.reserve(calls(10), requests(10)))
    await begun(watched)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    watched.release()
    (await worker.reserve(calls(10), requests(10))).settle(10, None, None)
    await worker.budgets.close()
    assert drawn(worker) == 10


async def test_a_call_waits_at_most_until_its_deadline(worker, watched):
    watched.hold()
    with pytest.raises(Saturated, match="deadline") as raised:
        await worker.reserve(calls(), requests(10), seconds=0.01)
    assert raised.value.retry_after == 1
    with pytest.raises(Saturated):
        await worker.reserve(calls(), requests(10), seconds=-1)


async def test_those_who_wait_when_the_worker_ends_are_told(worker, watched):
    watched.hold()
    first = asyncio.create_task(worker.reserve(calls(), requests(10)))
    await begun(watched)
    second = asyncio.create_task(worker.reserve(calls(), requests(10, of="other")))
    await asyncio.sleep(0)
    closing = asyncio.create_task(worker.budgets.close())
    await asyncio.sleep(0)
    watched.release()
    results = await asyncio.gather(first, second, closing, return_exceptions=True)
    assert isinstance(results[1], Saturated)
    assert leased(worker) == 0


async def test_a_storm_of_refusals_asks_the_state_once_in_a_while(worker, watched, clock):
    await worker.reserve(calls(10), requests(10))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(), requests(10))
    before = watched.count
    for _ in range(1000):
        with pytest.raises(LimitExceeded):
            await worker.reserve(calls(), requests(10))
    assert watched.count == before
    clock.sleep(KNOWN)
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(), requests(10))
    assert watched.count == before + 1


async def test_a_smaller_call_passes_where_a_larger_one_was_refused(worker):
    await worker.reserve(calls(7), requests(10))
    with pytest.raises(LimitExceeded, match="3 requests left"):
        await worker.reserve(calls(4), requests(10))
    await worker.reserve(calls(3), requests(10))


async def test_a_larger_call_is_not_refused_on_account_of_smaller_ones_that_wait(worker, watched):
    watched.hold()
    first = asyncio.create_task(worker.reserve(calls(1), requests(100)))
    await begun(watched)
    others = [asyncio.create_task(worker.reserve(calls(n), requests(100))) for n in (1, 40, 50, 60)]
    await asyncio.sleep(0)
    watched.release()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [isinstance(result, LimitExceeded) for result in results] == [False, False, False, False, True]


# --- the state is out of order


@pytest.fixture
def locked(path, monkeypatch, worker):
    worker.spending._db.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


async def test_an_outage_of_the_state_is_not_called_a_limit(worker, locked, caplog):
    with pytest.raises(Saturated, match="can't be checked") as raised:
        await worker.reserve(calls(), requests(10))
    assert raised.value.status == 503
    assert raised.value.retry_after == 1
    assert "state.db" not in raised.value.message
    assert "locked" in caplog.text


async def test_an_outage_is_logged_once(worker, locked, clock, caplog):
    for _ in range(3):
        with pytest.raises(Saturated):
            await worker.reserve(calls(), requests(10))
        await worker.budgets.tend()
        clock.sleep(KNOWN)
    assert caplog.text.count("can't be drawn") == 1
    locked.execute("ROLLBACK")
    await worker.reserve(calls(), requests(10))
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(Saturated):
        await worker.reserve(calls(9), requests(10))
    assert caplog.text.count("can't be drawn") == 2


async def test_after_an_outage_calls_pass_again_and_nothing_is_lost(worker, locked, clock):
    for _ in range(3):
        with pytest.raises(Saturated):
            await worker.reserve(calls(10), requests(10))
        clock.sleep(KNOWN)
    locked.execute("ROLLBACK")
    (await worker.reserve(calls(10), requests(10))).settle(10, None, None)
    await worker.budgets.tend()
    assert (drawn(worker), leased(worker)) == (10, 10)
    clock.sleep(1)
    await worker.budgets.tend()
    await worker.budgets.tend()
    assert (drawn(worker), leased(worker)) == (10, 0)


async def test_calls_that_hold_a_lease_do_not_notice_an_outage(worker, locked):
    locked.execute("ROLLBACK")
    await worker.reserve(calls(), requests(1000))
    locked.execute("BEGIN IMMEDIATE")
    for _ in range(10):
        (await worker.reserve(calls(), requests(1000))).settle(1, None, None)
    await worker.budgets.tend()
    locked.execute("ROLLBACK")
    await worker.budgets.close()
    assert drawn(worker) == 11


async def test_a_storm_in_an_outage_asks_the_state_once_in_a_while(worker, locked):
    watched = Watched(worker.spending)
    for _ in range(100):
        with pytest.raises(Saturated):
            await worker.reserve(calls(), requests(10))
    assert watched.count <= 1  # the worker's entry may fail before


async def test_a_commit_whose_answer_gets_lost_costs_nothing(worker, watched, clock):
    (await worker.reserve(calls(3), requests(100))).settle(3, None, None)
    watched.deaf = True
    for needed in (60, 97, 97):
        with pytest.raises(Saturated):
            await worker.reserve(calls(needed), requests(100))
        clock.sleep(KNOWN)
    watched.deaf = False
    (await worker.reserve(calls(97), requests(100))).settle(97, None, None)
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(), requests(100))
    await worker.budgets.close()
    assert drawn(worker) == 100


async def test_a_new_lease_whose_answer_gets_lost_is_given_back(worker, watched, clock):
    watched.deaf = True
    with pytest.raises(Saturated):
        await worker.reserve(calls(60), requests(100))
    assert drawn(worker) == 60
    watched.deaf = False
    clock.sleep(KNOWN)
    await worker.budgets.tend()
    assert (drawn(worker), leased(worker)) == (0, 0)
    await worker.reserve(calls(100), requests(100))


async def test_a_return_whose_answer_gets_lost_is_made_again(worker, watched, clock):
    (await worker.reserve(calls(3), requests(1000))).settle(3, None, None)
    watched.deaf = True
    for _ in range(3):
        await worker.budgets.tend()
    watched.deaf = False
    await worker.budgets.tend()
    assert (drawn(worker), leased(worker)) == (3, 0)
    assert worker.budgets._draws._held == {}


async def test_a_fault_of_our_own_is_an_outage_and_logged(worker, watched, monkeypatch, caplog):
    monkeypatch.setattr(worker.leases, "exchange", lambda changes: {}[changes])
    with pytest.raises(Saturated):
        await worker.reserve(calls(), requests(10))
    assert "TypeError" in caplog.text


async def test_a_worker_whose_state_fails_at_its_end_leaves_its_leases_to_others(path, clock, caplog):
    worker, other = Worker(path, clock), Worker(path, clock)
    (await worker.reserve(calls(4), requests(100))).settle(4, None, None)
    worker.spending._db.execute("PRAGMA query_only = ON")
    await worker.close()
    assert "recovered" in caplog.text
    (await other.reserve(calls(96), requests(100))).settle(96, None, None)
    await other.close()
    reader = Spending(path)
    assert [(spent.drawn, spent.leased) for spent in reader.spent()] == [(100, 0)]
    reader.close()


# --- what is not needed is given back


async def test_a_lease_that_is_not_used_is_given_back(worker):
    (await worker.reserve(calls(3), requests(1000))).settle(3, None, None)
    assert leased(worker) > 3
    await worker.budgets.tend()
    await worker.budgets.tend()
    assert (drawn(worker), leased(worker)) == (3, 0)
    assert worker.budgets._draws._held == {}


async def test_a_lease_keeps_what_is_under_way_and_gives_back_the_rest(worker):
    reservation = await worker.reserve(calls(3), requests(1000))
    for _ in range(3):
        await worker.budgets.tend()
    assert (drawn(worker), leased(worker)) == (3, 3)
    reservation.settle(1, None, None)
    for _ in range(2):
        await worker.budgets.tend()
    assert (drawn(worker), leased(worker)) == (1, 0)


async def test_a_lease_in_slow_use_shrinks_to_what_that_needs(worker):
    for _ in range(6):
        (await worker.reserve(calls(2), requests(1000))).settle(2, None, None)
        await worker.budgets.tend()
    assert leased(worker) == drawn(worker) <= 12 + 2 * 4 + 2


async def test_while_there_is_plenty_a_lease_in_use_keeps_what_it_has(worker, watched):
    limit = requests(10**9)
    (await worker.reserve(calls(2), limit)).settle(2, None, None)
    for _ in range(10):
        for _ in range(100):
            (await worker.reserve(calls(2), limit)).settle(2, None, None)
        await worker.budgets.tend()
    assert watched.count <= 3


async def test_what_one_worker_gives_back_another_can_use(path, clock, worker):
    other = Worker(path, clock)
    (await worker.reserve(calls(1), requests(1000))).settle(1, None, None)
    with pytest.raises(LimitExceeded):
        await other.reserve(calls(999), requests(1000))
    for _ in range(2):
        await worker.budgets.tend()
    clock.sleep(KNOWN)
    await other.reserve(calls(999), requests(1000))
    await other.close()


# --- what others hold free is waited for


@pytest.fixture
async def peers(path, clock):
    """Two more workers, who look at what is waited for while either waits."""
    peers = []
    peers += [Worker(path, clock, peers), Worker(path, clock, peers)]
    yield peers
    for peer in peers:
        await peer.close()


async def test_calls_one_after_the_other_all_pass_whichever_worker_they_come_to(peers, clock):
    limit, rng = money(15_000_000), random.Random(7)
    for _ in range(40):
        reservation = await rng.choice(peers).reserve(cost(10_336_000), limit)
        reservation.settle(1, 2, 3_000)
        clock.sleep(rng.choice([0, 0.02, 0.2]))
    assert sum(peer.waited for peer in peers) <= 40 * 2 * AGAIN


async def test_a_call_waits_no_longer_than_others_need_to_give_back_what_is_free(peers):
    first, second = peers
    (await first.reserve(calls(10), requests(10))).settle(0, None, None)
    await second.reserve(calls(10), requests(10))
    assert second.waited <= AGAIN


async def test_only_the_lease_that_is_waited_for_is_given_back(peers):
    first, second = peers
    (await first.reserve(calls(10), requests(10), requests(10, of="other"))).settle(0, None, None)
    await second.reserve(calls(10), requests(10))
    assert first.purse(requests(10, of="other")).try_reserve(calls(10)) is not None


async def test_what_is_under_way_is_not_given_back(peers, clock):
    first, second = peers
    under_way = await first.reserve(calls(4), requests(10))
    await second.reserve(calls(6), requests(10))
    with pytest.raises(LimitExceeded, match="Calls under way may leave more"):
        await second.reserve(calls(1), requests(10))
    under_way.settle(3, None, None)
    clock.sleep(KNOWN)
    await second.reserve(calls(1), requests(10))


async def test_whoever_holds_what_is_missing_and_does_not_give_it_back_is_told_of(path, clock, worker):
    other = Worker(path, clock)
    (await other.reserve(cost(10_000), money(15_000))).settle(1, 1, 3)
    with pytest.raises(LimitExceeded) as raised:
        await worker.reserve(cost(10_000), money(15_000))
    assert "0.000005 usd left" in raised.value.message
    assert "Other workers hold 0.000009997 usd more that is free" in raised.value.message
    assert raised.value.retry_after == 1
    assert PATIENCE - 2 * AGAIN <= worker.waited <= PATIENCE
    await other.close()


async def test_a_call_waits_for_others_at_most_until_its_deadline(path, clock, worker):
    other = Worker(path, clock)
    (await other.reserve(calls(10), requests(10))).settle(0, None, None)
    for seconds in (0.6, 0.01):
        before = worker.waited
        with pytest.raises(LimitExceeded, match="Other workers hold 10 requests more"):
            await worker.reserve(calls(10), requests(10), seconds=seconds)
        assert seconds - 4 * AGAIN <= worker.waited - before <= seconds
    await other.close()


async def test_where_others_hold_too_little_nobody_waits_and_nobody_is_disturbed(peers, clock):
    first, second = peers
    (await first.reserve(calls(9), requests(10))).settle(6, None, None)
    watched = Watched(second.spending)
    for _ in range(100):
        with pytest.raises(LimitExceeded, match="1 request left"):
            await second.reserve(calls(5), requests(10))
    assert watched.count == 1
    assert first.leases.wanted() == 0
    assert second.waited == 0
    assert await second.reserve(calls(4), requests(10))


async def test_a_storm_on_what_others_used_up_asks_the_state_once_in_a_while_and_does_not_wait(peers, clock):
    first, second = peers
    await first.reserve(calls(10), requests(10))
    watched = Watched(second.spending)
    for _ in range(100):
        with pytest.raises(LimitExceeded):
            await second.reserve(calls(), requests(10))
    assert (watched.count, second.waited) == (1, 0)


async def test_all_who_wait_ask_together(peers):
    first, second = peers
    (await first.reserve(calls(10), requests(10))).settle(0, None, None)
    watched = Watched(second.spending)
    results = await asyncio.gather(*[second.reserve(calls(2), requests(10)) for _ in range(20)], return_exceptions=True)
    assert sum(isinstance(result, LimitExceeded) for result in results) == 15
    assert watched.count <= 6


async def test_what_the_dead_hold_free_is_waited_for_until_it_is_recovered(path, clock, worker):
    await worker.reserve(calls(1), requests(10))
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(10), requests(10))
    dying = Worker(path, clock)
    (await dying.reserve(calls(5), requests(10))).settle(1, None, None)
    await worker.budgets.tend()  # it looks for the dead, and finds none
    dying.kill()
    await worker.reserve(calls(8), requests(10))
    assert worker.waited <= RECOVER_SECONDS + AGAIN


async def test_what_was_drawn_for_a_call_is_not_given_away_before_the_call_can_take_it(peers):
    first = peers[0]
    await first.reserve(calls(1), requests(100))
    [lease] = first.budgets._draws._held
    watched = Watched(first.spending)
    watched.hold()
    waiting = asyncio.create_task(first.reserve(calls(90), requests(100)))
    await begun(watched)
    first.leases._holders.want(first.leases._holder.id, lease.number)
    sharing = asyncio.create_task(first.budgets.share())
    await asyncio.sleep(0)
    watched.release()
    await asyncio.gather(waiting, sharing)
    assert (watched.count, first.waited) == (1, 0)


work = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 60), st.sampled_from([None, 0, 0.3, 1]), st.booleans()), max_size=25
)


@settings(max_examples=25, deadline=None)
@given(work=work)
def test_a_call_is_refused_only_if_what_is_used_and_under_way_leaves_too_little(work):
    async def run(folder):
        clock, workers = ManualClock(), []
        workers += [Worker(folder / "state.db", clock, workers) for _ in range(3)]
        used, under_way = 0, []
        for which, worst, share, tends in work:
            clock.sleep(KNOWN)
            try:
                reservation = await workers[which].reserve(calls(worst), requests(100))
            except LimitExceeded:
                assert used + sum(count for _, count in under_way) + worst > 100
            else:
                under_way.append((reservation, worst))
            if share is not None and under_way:
                reservation, count = under_way.pop(0)
                reservation.settle(int(count * share), None, None)
                used += int(count * share)
            if tends:
                await workers[which].budgets.tend()
            assert used + sum(count for _, count in under_way) <= 100
        for worker in workers:
            await worker.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


# --- kills


async def test_what_a_killed_worker_did_not_use_is_found_by_who_needs_it(path, clock, worker):
    dying = Worker(path, clock)
    (await dying.reserve(calls(5), requests(100))).settle(2, None, None)
    await dying.reserve(calls(3), requests(100))
    dying.kill()
    (await worker.reserve(calls(95), requests(100))).settle(95, None, None)
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(100))
    await worker.budgets.close()
    assert drawn(worker) == 100


async def test_what_a_worker_drew_when_it_was_killed_is_recovered_whole(path, clock, worker):
    dying = Worker(path, clock)
    watched = Watched(dying.spending)
    watched.deaf = True  # the commit is made, and nobody hears of it any more
    with pytest.raises(Saturated):
        await dying.reserve(calls(60), requests(100))
    dying.kill()
    assert drawn(worker) == 60
    await worker.reserve(calls(100), requests(100))


async def test_the_next_start_recovers_what_the_last_left(path, clock):
    for _ in range(5):
        worker = Worker(path, clock)
        (await worker.reserve(calls(20), requests(100))).settle(20, None, None)
        worker.kill()
    worker = Worker(path, clock)
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(100))
    await worker.close()
    assert list((path.parent / "leases").iterdir()) == []


async def test_tending_recovers_the_dead_also_where_nothing_is_short(path, clock, worker):
    await worker.reserve(calls(1), requests(10, of="mine"))
    dying = Worker(path, clock)
    (await dying.reserve(calls(5), requests(100))).settle(2, None, None)
    dying.kill()
    await worker.budgets.tend()
    assert {spent.meter.of: spent.drawn for spent in worker.spending.spent()}["acme"] == 2


async def test_leases_whose_file_is_lost_count_as_used(path, clock, worker, caplog):
    dying = Worker(path, clock)
    (await dying.reserve(calls(16), requests(16))).settle(2, None, None)
    dying.kill()
    for file in (path.parent / "leases").iterdir():
        file.unlink()
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(16))
    assert "is lost" in caplog.text


async def test_after_a_power_failure_leases_count_as_used(path, clock, worker, monkeypatch, caplog):
    dying = Worker(path, clock)
    (await dying.reserve(calls(16), requests(16))).settle(2, None, None)
    dying.kill()
    monkeypatch.setattr("holdfast.state.holders._boot_id", lambda: b"another start...")
    with pytest.raises(LimitExceeded):
        await worker.reserve(calls(1), requests(16))
    assert "not known" in caplog.text


async def test_a_state_put_back_from_a_backup_counts_its_leases_as_used(path, clock, tmp_path):
    worker = Worker(path, clock)
    (await worker.reserve(calls(10), requests(16))).settle(2, None, None)
    backup = sqlite3.connect(tmp_path / "backup.db")
    worker.spending._db.backup(backup)
    backup.close()
    await worker.close()
    for file in tmp_path.glob("state.db*"):
        file.unlink()
    (tmp_path / "backup.db").rename(path)
    restored = Worker(path, clock)
    await restored.reserve(calls(6), requests(16))
    with pytest.raises(LimitExceeded):
        await restored.reserve(calls(1), requests(16))
    await restored.close()
