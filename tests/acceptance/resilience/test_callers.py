"""Callers hang up, and their deadlines pass."""

import asyncio
import time

import pytest

from acceptance.resilience.promises import HANG_UP, kept
from acceptance.resilience.table import LATE, SLACK, SOME, STREAM, WHOLE, Row, each

pytestmark = pytest.mark.asyncio(loop_scope="session")

# --- hanging up -------------------------------------------------------------------------------------------------------


async def _leave(stage):
    """Hang up while nothing comes."""
    await stage.caller().leave(stage.case.streamed, 0.15)
    await _all_hung_up(stage, time.monotonic())


async def _leave_early(stage):
    """Hang up in the middle of a stream."""
    await stage.caller().ask(True, leave_after=4)
    await _all_hung_up(stage, time.monotonic())


async def _all_hung_up(stage, left):
    stage.notes["left"] = left
    patience = left + 1
    while time.monotonic() < patience and not all(
        record.fate != "pending" or _gone(record) for record in stage.requests
    ):
        await asyncio.sleep(0.005)


def _gone(record):
    return record.hung_up_at is not None


def _cancelled(seen, *errors):
    (call,) = seen.log
    assert (call["outcome"], call["error"], call["status"]) == ("cancelled", "cancelled", 499)
    assert tuple(attempt["error"] for attempt in call["attempts"]) == errors


LEFT = [
    Row("hung up in silence", "stall=start", play=_leave),
    Row("hung up before the first token", "ttft=20s", play=_leave),
    Row("hung up in a stream", "tps=20", play=_leave_early, streamed=STREAM),
]


@each(*LEFT)
async def test_when_the_caller_hangs_up_the_provider_hears_it_at_once_and_nobody_else_is_asked(seen, case):
    (record,) = seen.requests
    assert record.hung_up_at is not None
    assert record.hung_up_at - seen.notes["left"] < HANG_UP
    _cancelled(seen, "cancelled")


HEDGED = Row("hung up on two", "ttft=20s", "ttft=20s", feature={"hedge": '"50ms"'}, play=_leave, wires=SOME)


@each(HEDGED)
async def test_when_the_caller_hangs_up_a_hedge_is_cancelled_too(seen, case):
    assert len(seen.primary) == len(seen.fallback) == 1
    for record in seen.requests:
        assert record.hung_up_at is not None
        assert record.hung_up_at - seen.notes["left"] < HANG_UP
    _cancelled(seen, "cancelled", "cancelled")


WAITING = Row("hung up while waiting", "status=429,retry_after=1", alone=True, play=_leave, wires=SOME)


@each(WAITING)
async def test_who_hangs_up_during_a_wait_is_waited_for_no_longer(seen, case):
    assert len(seen.primary) == 1
    _cancelled(seen, "rate_limited")


# --- deadlines --------------------------------------------------------------------------------------------------------

DEADLINE = 0.4
SHORT = {"x-holdfast-deadline-ms": f"{DEADLINE * 1000:.0f}"}
PATIENT = {"timeouts": '{ connect = "5s", first_token = "5s", idle = "5s", answer = "5s" }'}
OVER = [
    Row(name, fault, fault, feature=PATIENT, headers=SHORT, streamed=streamed, wires=SOME)
    for name, fault, streamed in (
        ("deadline in silence", "stall=start", STREAM + WHOLE),
        ("deadline after the headers", "stall=0", STREAM + WHOLE),
        ("deadline before the first token", "ttft=20s", STREAM + WHOLE),
        ("deadline in a trickle", "trickle=16,every=100ms", STREAM + WHOLE),
        ("deadline in a stream", "tps=20", STREAM),
        ("deadline in a stream that stalls", "stall=5", STREAM),
        ("deadline while waiting to try again", "status=429,retry_after=0.3", STREAM + WHOLE),
    )
]
RESORT = {"last_resort": '{ message = "Not now." }'}


@each(*OVER)
async def test_a_deadline_that_passes_is_a_typed_error_in_time(seen, case):
    kept(seen, DEADLINE)
    (told,), (call,) = seen.told, seen.log
    assert told.error is not None
    assert call["status"] in ((504,) if "429" not in str(case.row.primary) else (429, 504))
    assert call["duration_us"] / 1e6 < DEADLINE + LATE
    assert told.took < DEADLINE + LATE + SLACK
    assert told.status == (200 if told.first is not None else call["status"])


@each(
    *[
        Row(
            f"{row.name}, last resort",
            row.primary,
            row.fallback,
            PATIENT | RESORT,
            headers=SHORT,
            streamed=row.streamed,
        )
        for row in OVER
        if "stream" not in row.name
    ]
)
async def test_a_last_resort_comes_before_the_deadline(seen, case):
    kept(seen, DEADLINE)
    (told,), (call,) = seen.told, seen.log
    assert (told.status, told.text, told.finish, told.whole) == (200, "Not now.", "stop", True)
    assert (call["outcome"], call["model"]) == ("last_resort", None)
    assert call["duration_us"] / 1e6 < DEADLINE
    assert told.took < DEADLINE + SLACK


@each(
    Row(
        "deadline gone in a stream, last resort",
        "tps=20",
        feature=PATIENT | RESORT,
        headers=SHORT,
        streamed=STREAM,
        wires=SOME,
    )
)
async def test_a_last_resort_never_follows_half_an_answer(seen, case):
    kept(seen, DEADLINE)
    assert seen.told[0].error is not None
    assert "Not now." not in seen.told[0].text


async def _close(stage):
    """Leave, and see that the gateway has nothing of the case left to do."""
    await stage.ask()
    await asyncio.sleep(0)


@each(
    Row("nothing is left behind", "stall=start", "stall=start", feature=PATIENT, headers=SHORT, play=_close, wires=SOME)
)
async def test_when_a_deadline_has_passed_every_provider_has_been_hung_up_on(seen, case):
    assert seen.requests
    for record in seen.requests:
        assert record.hung_up_at is not None
        assert record.hung_up_at - record.at < DEADLINE + LATE + HANG_UP
