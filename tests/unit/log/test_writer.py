import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from holdfast.errors import LogError
from holdfast.events import AnyEvent, Call
from holdfast.log.base import Filter, LogSettings, Pause, no_pause
from holdfast.log.memory import MemoryLog
from holdfast.log.writer import BATCH, LogWriter
from holdfast.settings import Size
from log_samples import make_call


class FlakyLog(MemoryLog):
    """A log whose disk can be broken, slowed and mended."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.batches: list[int] = []
        self.tried = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def append(self, batch: Sequence[AnyEvent], pause: Pause = no_pause) -> None:
        self.tried.set()
        self.open.wait(10)
        if self.error is not None:
            raise self.error
        super().append(batch, pause)
        self.batches.append(len(batch))

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.scan(Filter()))


Start = Callable[..., LogWriter]


@pytest.fixture
def log() -> FlakyLog:
    return FlakyLog()


@pytest.fixture
def start(log: FlakyLog) -> Iterator[Start]:
    writers: list[LogWriter] = []

    def start(log: FlakyLog = log, *, subscribers: Sequence[Callable[..., None]] = (), **settings: object) -> LogWriter:
        writers.append(LogWriter(log, LogSettings(**settings), subscribers))  # type: ignore[arg-type]
        return writers[-1]

    yield start
    log.error = None
    log.open.set()
    for writer in writers:
        writer.close()


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


# --- async ------------------------------------------------------------------------------------------------------------


async def test_events_are_recorded_in_their_order_within_flush_ms(log: FlakyLog, start: Start) -> None:
    writer = start(flush_ms=20)
    for n in range(5):
        writer.append(make_call(n))
    await until(lambda: len(log) == 5)
    assert [call.id for batch in log.scan(Filter(after=make_call(0).id)) for call in batch] == [
        make_call(n).id for n in range(1, 5)
    ]


async def test_many_events_wake_the_thread_long_before_flush_ms(log: FlakyLog, start: Start) -> None:
    writer = start(flush_ms=60_000)
    for n in range(BATCH + 50):
        writer.append(make_call(n))
    await until(lambda: len(log) >= BATCH)


async def test_a_small_queue_wakes_the_thread_at_a_fraction_of_its_size(log: FlakyLog, start: Start) -> None:
    writer = start(flush_ms=60_000, queue=8)
    writer.append(make_call(0))
    writer.append(make_call(1))
    await until(lambda: len(log) == 2)


async def test_a_batch_is_bounded_however_much_has_gathered(log: FlakyLog, start: Start) -> None:
    log.open.clear()
    writer = start(flush_ms=1)
    for n in range(3 * BATCH):
        writer.append(make_call(n))
    log.open.set()
    await until(lambda: len(writer) == 0)
    assert max(log.batches) < 2 * BATCH
    assert sum(log.batches) == 3 * BATCH


async def test_the_queue_is_full_at_its_bound_and_takes_what_is_under_way_all_the_same(
    log: FlakyLog, start: Start
) -> None:
    log.open.clear()
    writer = start(flush_ms=1, queue=10)
    for n in range(9):
        writer.append(make_call(n))
    assert not writer.full
    await until(log.tried.is_set)
    writer.append(make_call(9))
    assert writer.full
    writer.append(make_call(10))
    assert len(writer) == 11
    log.open.set()
    await until(lambda: not writer.full)
    await until(lambda: len(log) == 11)


async def test_the_queue_is_full_at_its_bound_in_bytes_too(log: FlakyLog, start: Start) -> None:
    log.open.clear()
    writer = start(flush_ms=1, queue_bytes=Size(10_000))
    writer.append(make_call(0), 4_000)
    writer.append(make_call(1), 5_999)
    assert not writer.full
    await until(log.tried.is_set)
    writer.append(make_call(2), 1)
    assert writer.full
    log.open.set()
    await until(lambda: not writer.full)
    await until(lambda: len(log) == 3)
    writer.append(make_call(3), 10_000)
    await until(lambda: len(log) == 4 and not writer.full)


def test_append_costs_less_than_a_microsecond(log: FlakyLog, start: Start) -> None:
    writer, call = start(flush_ms=60_000, queue=10**9), make_call()
    log.open.clear()
    best = 1.0
    gc.disable()
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(1000):
            writer.append(call)
        best = min(best, (time.perf_counter() - began) / 1000)
    gc.enable()
    assert best < 1e-6


# --- sync -------------------------------------------------------------------------------------------------------------


async def test_a_committed_event_is_in_the_log_when_the_wait_ends(log: FlakyLog, start: Start) -> None:
    writer = start(durability="sync", flush_ms=60_000)
    for n in range(3):
        await writer.append_committed(make_call(n))
        assert log.get(make_call(n).id) is not None


async def test_those_who_wait_at_once_share_a_commit(log: FlakyLog, start: Start) -> None:
    writer = start(durability="sync", flush_ms=60_000)
    log.open.clear()
    first = asyncio.create_task(writer.append_committed(make_call(0)))
    await until(log.tried.is_set)
    others = [asyncio.create_task(writer.append_committed(make_call(n))) for n in range(1, 50)]
    await asyncio.sleep(0)
    log.open.set()
    await asyncio.gather(first, *others)
    assert log.batches == [1, 49]


async def test_a_wait_that_is_cancelled_leaves_its_event_and_harms_nobody(log: FlakyLog, start: Start) -> None:
    writer = start(durability="sync", flush_ms=60_000)
    log.open.clear()
    waits = [asyncio.create_task(writer.append_committed(make_call(n))) for n in range(3)]
    await until(log.tried.is_set)
    waits[1].cancel()
    await asyncio.sleep(0)
    log.open.set()
    await asyncio.gather(waits[0], waits[2])
    assert waits[1].cancelled()
    await until(lambda: len(log) == 3)


async def test_a_deadline_ends_a_wait_on_a_disk_that_hangs(log: FlakyLog, start: Start) -> None:
    writer = start(durability="sync")
    log.open.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await writer.append_committed(make_call())


# --- calls that ended otherwise ---------------------------------------------------------------------------------------


def otherwise(n: int) -> Call:
    return make_call(n, outcome="error", status=503, error="saturated")


async def test_a_call_that_still_waits_is_recorded_as_it_is_told_anew(log: FlakyLog, start: Start) -> None:
    seen: list[AnyEvent] = []
    writer = start(durability="sync", subscribers=[seen.extend])
    log.open.clear()
    writer.append(make_call(0))
    await until(log.tried.is_set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await writer.append_committed(make_call(1), 500)
    writer.append(make_call(2))
    writer.amend(otherwise(1))
    assert len(writer) == 3
    log.open.set()
    await until(lambda: len(log) == 3)
    assert log.get(make_call(1).id) == otherwise(1)
    assert [total.calls for total in log.totals() if total.error == "saturated"] == [1]
    await until(lambda: seen == [make_call(0), otherwise(1), make_call(2)])


async def test_a_call_that_is_being_recorded_is_corrected_after(log: FlakyLog, start: Start) -> None:
    writer = start(durability="sync")
    log.open.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await writer.append_committed(make_call(1))
    await until(log.tried.is_set)
    writer.amend(otherwise(1))
    log.open.set()
    await until(lambda: len(writer) == 0)
    assert log.get(make_call(1).id) == otherwise(1)
    assert len(log) == 1


async def test_a_call_that_a_failing_log_refused_is_told_anew(log: FlakyLog, start: Start) -> None:
    log.error = LogError("the disk is full")
    writer = start(durability="sync", flush_ms=1)
    for n in range(2):  # the first is being tried over and over, the second waits behind it
        with pytest.raises(LogError):
            await writer.append_committed(make_call(n))
        writer.amend(otherwise(n))
    log.error = None
    await until(lambda: len(writer) == 0)
    assert [log.get(make_call(n).id) for n in range(2)] == [otherwise(0), otherwise(1)]
    assert len(log) == 2


# --- a log that fails -------------------------------------------------------------------------------------------------


async def test_events_wait_while_the_log_fails_and_none_is_lost(log: FlakyLog, start: Start) -> None:
    log.error = LogError("the disk is full")
    writer = start(flush_ms=1, queue=4)
    for n in range(4):
        writer.append(make_call(n))
    await until(lambda: writer.failing is not None)
    assert writer.failing is not None
    assert writer.failing.message == "the disk is full"
    assert writer.full
    log.error = None
    await until(lambda: len(log) == 4)
    await until(lambda: writer.failing is None and not writer.full)


async def test_who_waits_for_a_commit_is_told_when_the_log_fails(log: FlakyLog, start: Start) -> None:
    log.error = LogError("the disk is full")
    writer = start(durability="sync", flush_ms=1)
    results = await asyncio.gather(*[writer.append_committed(make_call(n)) for n in range(3)], return_exceptions=True)
    assert [str(result) for result in results] == ["the disk is full"] * 3
    assert len(set(map(id, results))) == 3
    with pytest.raises(LogError, match="disk is full"):
        await writer.append_committed(make_call(3))
    log.error = None
    await until(lambda: len(log) == 4)
    await writer.append_committed(make_call(4))


async def test_an_event_that_the_log_chokes_on_is_reported_and_the_others_are_recorded(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    class Choking(FlakyLog):
        def append(self, batch: Sequence[AnyEvent], pause: Pause = no_pause) -> None:
            if any(event.status == 418 for event in batch):
                raise ZeroDivisionError("a defect")
            super().append(batch, pause)

    log = Choking()
    writer = start(log, durability="sync", flush_ms=1)
    calls = [make_call(n, status=418 if n == 1 else 200) for n in range(4)]
    results = await asyncio.gather(*[writer.append_committed(call) for call in calls], return_exceptions=True)
    assert [type(result) for result in results] == [type(None), LogError, type(None), type(None)]
    assert len(log) == 3
    assert (writer.lost, len(writer)) == (1, 0)
    assert writer.failing is None
    assert calls[1].id in caplog.text
    assert "kelp" not in caplog.text


async def test_a_failure_is_reported_once_and_so_is_its_end(
    log: FlakyLog, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    log.error = LogError("the disk is full")
    writer = start(flush_ms=1)
    writer.append(make_call())
    await until(lambda: writer.failing is not None)
    log.tried.clear()
    await until(log.tried.is_set)
    log.error = None
    await until(lambda: writer.failing is None)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


# --- subscribers ------------------------------------------------------------------------------------------------------


async def test_subscribers_are_given_what_is_recorded_once_and_a_failing_one_harms_nothing(
    log: FlakyLog, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[AnyEvent] = []

    def fail(batch: Sequence[AnyEvent]) -> None:
        raise ZeroDivisionError

    log.error = LogError("not yet")
    writer = start(flush_ms=1, subscribers=[fail, seen.extend])
    calls = [make_call(n) for n in range(3)]
    for call in calls:
        writer.append(call)
    await until(lambda: writer.failing is not None)
    assert seen == []
    log.error = None
    await until(lambda: len(seen) == 3)
    assert seen == calls
    assert len(log) == 3
    assert "a subscriber of the log failed" in caplog.text


# --- closing ----------------------------------------------------------------------------------------------------------


def test_closing_records_what_is_left_at_once(log: FlakyLog, start: Start) -> None:
    writer = start(flush_ms=60_000)
    for n in range(200):
        writer.append(make_call(n))
    began = time.monotonic()
    writer.close()
    assert len(log) == 200
    assert time.monotonic() - began < 5
    assert not writer._thread.is_alive()


def test_closing_a_log_that_fails_ends_in_time_and_says_how_many_are_lost(log: FlakyLog) -> None:
    log.error = LogError("the disk is full")
    writer = LogWriter(log, LogSettings(flush_ms=60_000))
    for n in range(3):
        writer.append(make_call(n))
    with pytest.raises(LogError, match="3 events could not be recorded: the disk is full"):
        writer.close(seconds=0.1)
    assert not writer._thread.is_alive()


async def test_a_writer_whose_loop_has_gone_still_records(log: FlakyLog, start: Start) -> None:
    writer = start(durability="sync")
    log.open.clear()

    async def leave() -> None:
        waiting = asyncio.ensure_future(writer.append_committed(make_call()))
        await asyncio.sleep(0)
        waiting.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(leave()))
    thread.start()
    await asyncio.to_thread(thread.join)
    log.open.set()
    await until(lambda: len(log) == 1)
