import random

import pytest

from holdfast.providers.simulated.faults import (
    Close,
    Cut,
    ErrorEvent,
    Malformed,
    Moment,
    Reset,
    Split,
    Stall,
    Status,
    Trickle,
    WrongLength,
    strike,
)
from holdfast.providers.simulated.framing import frames
from holdfast.providers.simulated.plan import Piece, Plan, Position
from holdfast.settings import Duration

EVENTS = ['data: {"t":"ä"}\n\n'.encode(), b'data: {"t":" b"}\n\n', b'data: {"t":" c"}\n\n', b"data: [DONE]\n\n"]


def stream():
    pieces = [Piece(event, tokens=event != EVENTS[-1], wait=0.1) for event in EVENTS]
    return Plan(
        wire="openai", headers=[("x-request-id", "req_1")], pieces=pieces, stream=True, framing="chunked"
    )  # fmt: skip


def whole():
    return Plan(wire="openai", headers=[("content-type", "application/json")], pieces=[Piece(b'{"t":"abc"}', 3)])


def struck(plan, *faults):
    strike(plan, faults, Moment(random.Random(1)))
    return plan


def test_a_cut_leaves_what_comes_before_and_closes():
    plan = struck(stream(), Cut(at=Position("2")))
    assert (plan.body, plan.tokens, plan.ending) == (b"".join(EVENTS[:2]), 2, "cut")


def test_a_reset_before_the_headers_sends_nothing():
    plan = struck(stream(), Reset())
    assert (frames(plan), plan.ending) == ([], "reset")


def test_a_stall_for_good_holds():
    plan = struck(stream(), Stall(at=Position("0")))
    assert (plan.body, plan.ending, len(frames(plan))) == (b"", "hold", 1)


def test_a_stall_for_a_while_delays_what_follows():
    plan = struck(stream(), Stall(at=Position("1"), seconds=Duration(5)))
    assert [round(frame.at, 3) for frame in frames(plan)] == [0, 0.1, 5.2, 5.3, 5.4]
    assert (plan.body, plan.ending) == (b"".join(EVENTS), "complete")


def test_a_stall_before_the_headers_delays_them():
    plan = struck(stream(), Stall(at=Position("start"), seconds=Duration(5)))
    assert frames(plan)[0].at == 5


def test_a_stall_at_the_very_end_delays_only_the_terminator():
    plan = struck(stream(), Stall(at=Position("9999b"), seconds=Duration(5)))
    assert frames(plan)[-1].data == b"0\r\n\r\n"


def test_a_trickle_sends_everything_bit_by_bit():
    plan = struck(stream(), Trickle(bytes=4, every=Duration(0.5)))
    assert plan.body == b"".join(EVENTS)
    assert max(len(piece.data) for piece in plan.pieces) == 4
    assert plan.tokens == 3


def test_a_split_can_part_a_character():
    plan = struck(stream(), Split())
    assert [frame.size for frame in frames(plan)][1:3] == [13, 5]
    assert plan.body == b"".join(EVENTS)


def test_a_status_replaces_the_answer_by_the_error_of_the_wire():
    plan = struck(stream(), Status(status=429, retry_after=1.5, headers={"x-own": "1"}))
    assert plan.status == 429
    assert b'"code":"rate_limit_exceeded"' in plan.body
    assert ("retry-after", "2") in plan.headers
    assert ("retry-after-ms", "1500") in plan.headers
    assert ("x-own", "1") in plan.headers
    assert ("x-request-id", "req_1") in plan.headers
    assert frames(plan)[0].at == 0


def test_a_status_may_bring_any_body():
    assert struck(whole(), Status(status=502, body="<html>")).body == b"<html>"


def test_an_error_event_ends_a_stream_without_done():
    plan = struck(stream(), ErrorEvent(at=Position("1")))
    assert plan.body.startswith(EVENTS[0] + b'data: {"error":{"message":"The engine')
    assert plan.body.count(b"\n\n") == 2
    assert plan.ending == "complete"


def test_an_error_event_leaves_whole_answers_alone():
    assert struck(whole(), ErrorEvent(at=Position("1"))).body == whole().body


@pytest.mark.parametrize(("by", "announced"), [(10, 21), (-3, 8), (-99, 0)])
def test_a_wrong_length_is_announced(by, announced):
    plan = struck(whole(), WrongLength(by=by))
    assert b"content-length: %d\r\n" % announced in frames(plan)[0].data
    assert (plan.body, plan.ending) == (whole().body, "cut")


@pytest.mark.parametrize("announced", [True, False])
def test_a_connection_closes_after_an_answer_with_or_without_saying_so(announced):
    plan = struck(whole(), Close(announced=announced))
    assert not plan.keep_alive
    assert (b"connection: close" in frames(plan)[0].data) == announced


def test_a_fault_with_a_probability_strikes_that_share_of_requests():
    chance, fault = random.Random(7), Cut(probability=0.3)
    hits = sum([bool(strike(stream(), (fault,), Moment(chance))) for _ in range(1000)])
    assert 260 < hits < 340


def test_faults_strike_in_their_order_and_are_named():
    plan = stream()
    names = strike(plan, (Malformed(what="comments"), Cut(at=Position("1"))), Moment(random.Random(1)))
    assert names == ["malformed", "cut"]
    assert plan.body == b": keep-alive\n\n" + EVENTS[0]


def strikes(fault, **moment):
    return fault.strikes(Moment(random.Random(1), **moment))


@pytest.mark.parametrize(
    ("when", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"times": 2}, [1, 2]),
        ({"after": 2}, [3, 4, 5]),
        ({"after": 1, "times": 2}, [2, 3]),
    ],
)
def test_a_fault_strikes_the_requests_that_it_is_for(when, numbers):
    assert [number for number in range(1, 6) if strikes(Reset(**when), number=number)] == numbers


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ({"down": Duration(2)}, [0, 1]),
        ({"up": Duration(2)}, [2, 3, 4, 5, 6]),
        ({"down": Duration(1), "up": Duration(2)}, [0, 3, 6]),
        ({"down": Duration(0), "up": Duration(0)}, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_fault_comes_and_goes(when, seconds):
    assert [second for second in range(7) if strikes(Reset(**when), since=float(second))] == seconds


@pytest.mark.parametrize(("on", "fresh", "kept"), [("any", True, True), ("fresh", True, False), ("kept", False, True)])
def test_a_fault_can_be_for_fresh_or_for_kept_connections(on, fresh, kept):
    assert (strikes(Reset(on=on), kept=False), strikes(Reset(on=on), kept=True)) == (fresh, kept)
