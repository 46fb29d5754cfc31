"""What an attempt and a call are recorded as, and what they cost."""

from typing import Any, cast

import pytest

from holdfast.chat import Reply, Usage
from holdfast.errors import (
    CallError,
    Cancelled,
    ConnectionFailed,
    DeadlineExceeded,
    MalformedResponse,
    Overloaded,
    PhaseTimeout,
)
from holdfast.gateway.catalog import Model
from holdfast.gateway.record import Arrival, CallRecord
from holdfast.http.base import Timeouts
from holdfast.providers.prices import Price, PriceSettings

USAGE = Usage(input_tokens=1000, output_tokens=10)


class ManualClock:
    def __init__(self) -> None:
        self.time = 100.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time


def model(name: str = "m", *, priced: bool = True) -> Model:
    price = Price.of(PriceSettings(input=2.0, output=8.0)) if priced else None
    none = cast("Any", None)  # neither side of the wire is used here
    return Model(name=name, provider="openai", upstream=none, transport=none, timeouts=Timeouts(), price=price)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def record(clock: ManualClock) -> CallRecord:
    arrival = Arrival(id="01X", kind="chat", wire="openai", started=100.0, at=1700000000.0)
    return CallRecord(arrival=arrival, config="hash", clock=clock, deadline=arrival.started)


def test_an_answer_costs_its_tokens(record: CallRecord) -> None:
    attempt = record.open_attempt(model(), "first", probe=False)
    attempt.usage = USAGE
    record.close_attempts(None)
    assert record.cost_nanousd == 2_080_000
    assert record.summary().cost == "0.002080000"


@pytest.mark.parametrize(
    "error",
    [
        Overloaded(provider_status=503),
        PhaseTimeout("connect", 1.0),
        PhaseTimeout("first_token", 1.0),
        ConnectionFailed(before_headers=True),
        DeadlineExceeded(),
        Cancelled(),
    ],
)
def test_an_attempt_that_failed_before_an_answer_began_costs_nothing(record: CallRecord, error: CallError) -> None:
    record.open_attempt(model(), "first", probe=False).streamed = True
    record.close_attempts(error)
    assert record.cost_nanousd == 0


@pytest.mark.parametrize("error", [PhaseTimeout("answer", 1.0), DeadlineExceeded(), Cancelled()])
def test_a_whole_answer_that_came_too_late_costs_nobody_knows_what(record: CallRecord, error: CallError) -> None:
    record.open_attempt(model(), "first", probe=False)
    record.close_attempts(error)
    assert record.cost_nanousd is None


@pytest.mark.parametrize("error", [ConnectionFailed(before_headers=False), MalformedResponse()])
def test_an_answer_that_broke_off_costs_nobody_knows_what(record: CallRecord, error: CallError) -> None:
    record.open_attempt(model(), "first", probe=False)
    record.close_attempts(error)
    assert record.cost_nanousd is None
    assert record.summary().cost is None


def test_a_stream_that_was_heard_and_cancelled_costs_nobody_knows_what(record: CallRecord, clock: ManualClock) -> None:
    attempt = record.open_attempt(model(), "first", probe=False)
    attempt.first_token = clock.monotonic()
    record.close_attempts(Cancelled())
    assert record.cost_nanousd is None


def test_an_unknown_price_makes_the_cost_unknown_and_not_zero(record: CallRecord) -> None:
    attempt = record.open_attempt(model(priced=False), "first", probe=False)
    attempt.usage = USAGE
    record.close_attempts(None)
    assert record.cost_nanousd is None


def test_a_call_costs_all_its_attempts_and_one_unknown_makes_it_unknown(record: CallRecord) -> None:
    for usage, error in ((USAGE, Overloaded()), (USAGE, None)):
        record.open_attempt(model(), "first", probe=False).usage = usage
        record.close_attempts(error)
    assert record.cost_nanousd == 2 * 2_080_000
    assert record.usage == Usage(input_tokens=2000, output_tokens=20)
    record.open_attempt(model(), "first", probe=False)
    record.close_attempts(None)
    assert record.cost_nanousd is None


class Settled:
    """A reservation that remembers how it was settled."""

    def settle(self, requests: int, tokens: int | None, nanousd: int | None) -> None:
        self.used = (requests, tokens, nanousd)


WORST, NOTHING = (1, None, None), (1, 0, 0)


@pytest.mark.parametrize(
    ("error", "streamed", "seconds", "used"),
    [
        (ConnectionFailed(), False, 0.0, WORST),
        (ConnectionFailed(), True, 60.0, NOTHING),
        (ConnectionFailed(reused=True), False, 0.1, NOTHING),
        (ConnectionFailed(reused=True), False, 60.0, WORST),
        (ConnectionFailed(reached=False), False, 60.0, (0, 0, 0)),
        (Overloaded(), False, 60.0, NOTHING),
    ],
)
def test_a_connection_that_died_while_a_whole_answer_may_have_been_made_is_settled_at_the_worst_case(
    record: CallRecord, clock: ManualClock, error: CallError, streamed: bool, seconds: float, used: tuple[int, ...]
) -> None:
    attempt = record.open_attempt(model(), "first", probe=False)
    settled = Settled()
    attempt.streamed, attempt.reservation = streamed, cast("Any", settled)
    clock.time += seconds
    attempt.close(error)
    assert settled.used == used


@pytest.mark.parametrize("error", [Cancelled(), DeadlineExceeded(), PhaseTimeout("idle", 1.0)])
def test_a_stream_that_was_left_is_settled_at_the_worst_case_whatever_was_counted_so_far(
    record: CallRecord, error: CallError
) -> None:
    attempt = record.open_attempt(model(), "first", probe=False)
    settled = Settled()
    attempt.streamed, attempt.usage, attempt.reservation = True, USAGE, cast("Any", settled)
    attempt.close(error)
    assert settled.used == WORST


@pytest.mark.parametrize(("streamed", "error"), [(True, None), (False, Cancelled()), (True, MalformedResponse())])
def test_usage_that_is_final_is_what_is_settled(record: CallRecord, streamed: bool, error: CallError | None) -> None:
    attempt = record.open_attempt(model(), "first", probe=False)
    settled = Settled()
    attempt.streamed, attempt.usage, attempt.reservation = streamed, USAGE, cast("Any", settled)
    attempt.close(error)
    assert settled.used == (1, 1010, 2_080_000)


def test_the_event_tells_when_each_attempt_ran(record: CallRecord, clock: ManualClock) -> None:
    record.open_attempt(model("a"), "first", probe=False)
    clock.time += 0.25
    record.close_attempts(Overloaded("busy", provider_status=529))
    attempt = record.open_attempt(model("b"), "first", probe=False)
    clock.time += 0.1
    attempt.first_token, attempt.usage, attempt.served_model = clock.time, USAGE, "b-2026"
    clock.time += 0.4
    record.close_attempts(None)
    record.outcome, record.answered_by, record.reply = "answered", attempt, Reply(id="r", model="b-2026", choices=())
    event = record.event()
    assert [(a.model, a.started_us, a.duration_us, a.error, a.provider_status) for a in event.attempts] == [
        ("a", 0, 250_000, "overloaded", 529),
        ("b", 250_000, 500_000, None, None),
    ]
    assert (event.duration_us, event.first_token_us, event.model, event.served_model) == (
        750_000,
        350_000,
        "b",
        "b-2026",
    )
    assert (event.outcome, event.status, event.error) == ("answered", 200, None)


def test_closing_twice_keeps_the_first_end(record: CallRecord) -> None:
    record.open_attempt(model(), "first", probe=False)
    record.close_attempts(Overloaded())
    record.close_attempts(DeadlineExceeded())
    assert isinstance(record.attempts[0].error, Overloaded)
