import logging
import threading

import pytest

from holdfast.config import parse
from holdfast.errors import ConfigError, LogError
from holdfast.log.base import BEGINNING, EVERYTHING, Cursor, Expired, Features, Filter, LogSettings
from holdfast.log.memory import MemoryLog
from holdfast.log.retention import EVERY, PAUSE, STEP, Retention
from holdfast.log.writer import LogWriter
from holdfast.settings import Duration
from log_samples import START_US, make_call


class ManualClock:
    """Stands still unless it is set."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return START_US / 1e6 + self.seconds


class TickingClock(ManualClock):
    def monotonic(self) -> float:
        self.seconds += PAUSE
        return self.seconds


class FailingLog(MemoryLog):
    failing = True

    def expire(self, before_us: int, limit: int, features: Features = EVERYTHING, start: Cursor = BEGINNING) -> Expired:
        if self.failing:
            raise LogError("the disk is full")
        return super().expire(before_us, limit, features, start)


class WatchedLog(MemoryLog):
    def __init__(self) -> None:
        super().__init__()
        self.done = threading.Event()

    def expire(self, before_us: int, limit: int, features: Features = EVERYTHING, start: Cursor = BEGINNING) -> Expired:
        expired = super().expire(before_us, limit, features, start)
        if expired.next is None:
            self.done.set()
        return expired


def filled(count: int, log: MemoryLog | None = None) -> MemoryLog:
    """A log of calls that came a second apart."""
    log = log or MemoryLog()
    log.append([make_call(n) for n in range(count)])
    return log


def count(log: MemoryLog) -> int:
    return sum(len(batch) for batch in log.scan(Filter()))


def work(retention: Retention, recorded: int = 0) -> None:
    retention.work(recorded, lambda: None)


def test_calls_are_deleted_once_they_are_older_than_they_are_kept() -> None:
    log, clock = filled(10), ManualClock(7203)
    retention = Retention(log, 7200, clock)
    work(retention)
    assert [call.id for batch in log.scan(Filter()) for call in batch] == [make_call(n).id for n in range(9, 2, -1)]
    clock.seconds += EVERY / 2
    work(retention)
    assert count(log) == 7
    clock.seconds += EVERY / 2
    work(retention)
    assert count(log) == 0


def test_nothing_is_deleted_where_no_time_is_set() -> None:
    log = filled(10)
    retention = Retention(log, None, ManualClock(1e9))
    work(retention)
    assert count(log) == 10
    assert retention.rest == float("inf")


def test_much_is_deleted_in_small_steps_with_pauses_between_them() -> None:
    log, clock = filled(3 * STEP + 1), ManualClock(1e6)
    retention = Retention(log, 3600, clock)
    for left in (2 * STEP + 1, STEP + 1, 1):
        work(retention)
        assert count(log) == left
        work(retention)  # too early
        assert count(log) == left
        assert retention.rest == pytest.approx(PAUSE)
        clock.seconds += PAUSE
    work(retention)
    assert count(log) == 0
    assert retention.rest == EVERY


def test_calls_are_deleted_faster_than_they_come() -> None:
    log, clock = filled(20 * STEP), ManualClock(1e6)
    retention = Retention(log, 3600, clock)
    work(retention)
    work(retention, STEP)
    clock.seconds += PAUSE
    work(retention, STEP)
    assert count(log) == 14 * STEP


def test_a_pause_comes_before_every_step() -> None:
    pauses: list[int] = []
    log = filled(3 * STEP)
    Retention(log, 3600, ManualClock(1e6)).work(STEP, lambda: pauses.append(count(log)))
    assert pauses == [3 * STEP, 2 * STEP, STEP]


# --- by feature -------------------------------------------------------------------------------------------------------


def features_of(log: MemoryLog) -> list[str | None]:
    return [call.feature for batch in log.scan(Filter()) for call in batch][::-1]


def mixed(count: int) -> MemoryLog:
    """A log of calls that came a second apart, each to another of three."""
    log = MemoryLog()
    log.append([make_call(n, feature=("short", "long", None)[n % 3]) for n in range(count)])
    return log


def test_calls_are_kept_as_long_as_their_feature_says() -> None:
    log, clock = mixed(9), ManualClock(3600 + 9)
    retention = Retention(log, 7200, clock, {"short": 3600.0, "long": 10_800.0})
    work(retention)
    assert features_of(log) == ["long", None] * 3
    clock.seconds = 7200 + 9
    work(retention)
    assert features_of(log) == ["long"] * 3
    clock.seconds = 10_800 + 9
    work(retention)
    assert features_of(log) == []


def test_calls_of_a_feature_are_deleted_where_all_others_are_kept_for_ever() -> None:
    log = mixed(9)
    retention = Retention(log, None, ManualClock(1e6), {"short": 3600.0})
    work(retention)
    assert features_of(log) == ["long", None] * 3
    assert retention.rest == EVERY


def test_calls_of_a_feature_are_kept_for_ever_where_all_others_are_deleted() -> None:
    log = mixed(9)
    work(Retention(log, 3600, ManualClock(1e6), {"long": float("inf")}))
    assert features_of(log) == ["long"] * 3


def test_how_long_calls_are_kept_can_be_changed_at_any_time() -> None:
    log, clock = mixed(9), ManualClock(1e6)
    retention = Retention(log, None, clock)
    assert retention.rest == float("inf")
    retention.change(None, {"short": 3600.0})
    assert retention.rest == 0
    work(retention)
    assert features_of(log) == ["long", None] * 3
    retention.change(3600, {"long": 2e6})
    work(retention)
    assert features_of(log) == ["long"] * 3
    retention.change(None)
    assert retention.rest == float("inf")


def test_what_was_passed_over_is_not_looked_at_again() -> None:
    starts: list[Cursor] = []

    class Log(MemoryLog):
        def expire(
            self, before_us: int, limit: int, features: Features = EVERYTHING, start: Cursor = BEGINNING
        ) -> Expired:
            starts.append(start)
            return super().expire(before_us, limit, features, start)

    clock = ManualClock(3600 + 5)
    log = Log()
    filled(9, log)
    retention = Retention(log, None, clock, {"other": 3600.0})
    work(retention)
    clock.seconds += EVERY
    work(retention)
    assert starts == [BEGINNING, (START_US + 5_000_000, 0)]
    log.append([make_call(100, feature="other")])
    clock.seconds += EVERY
    work(retention)
    assert count(log) == 9


def test_the_writer_takes_other_times_while_it_works() -> None:
    log = WatchedLog()
    log.append([make_call(n, feature="short" if n % 2 else None) for n in range(8)])
    writer = LogWriter(log, LogSettings(flush_ms=1), clock=TickingClock(1e6), keep={"nobody": 3600.0})
    assert log.done.wait(5)
    assert count(log) == 8
    log.done.clear()
    writer.retain(None, {"short": 3600.0})
    assert log.done.wait(5)
    writer.close()
    assert features_of(log) == [None] * 4


# --- failing ----------------------------------------------------------------------------------------------------------


def test_a_log_that_fails_is_told_and_tried_again_later(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log, clock = FailingLog(), ManualClock(1e6)
    filled(3, log)
    retention = Retention(log, 3600, clock)
    work(retention, 1000)
    assert [record.getMessage() for record in caplog.records] == [
        "old calls can't be deleted, which is tried again: the disk is full"
    ]
    log.failing = False
    work(retention)
    assert count(log) == 3
    clock.seconds += EVERY
    work(retention)
    assert count(log) == 0


def test_the_writer_deletes_beside_its_recording_until_nothing_is_too_old() -> None:
    log = WatchedLog()
    filled(2 * STEP + 1, log)
    new = make_call(1_000_000)
    writer = LogWriter(log, LogSettings(flush_ms=1, keep=Duration(3600)), clock=TickingClock(1e6))
    writer.append(new)
    assert log.done.wait(5)
    writer.close()
    assert [call.id for batch in log.scan(Filter()) for call in batch] == [new.id]


@pytest.mark.parametrize(("keep", "seconds"), [("90d", 90 * 86_400), ("1h", 3600)])
def test_how_long_calls_are_kept_is_a_setting(keep: str, seconds: float) -> None:
    assert settings(f'keep = "{keep}"').keep == seconds


def test_calls_are_kept_for_ever_by_default() -> None:
    assert settings("").keep is None


def test_calls_that_may_be_under_way_are_never_deleted() -> None:
    with pytest.raises(ConfigError) as caught:
        settings('keep = "5m"')
    (problem,) = caught.value.problems
    assert problem.key == "log"
    assert 'keep: expected "1h" or more' in problem.message


def settings(text: str) -> LogSettings:
    model = '[models.m]\nprovider = "simulated"\nname = "sim-echo"\n'
    return parse({"holdfast.toml": f"[log]\n{text}\n{model}"}).config.log
