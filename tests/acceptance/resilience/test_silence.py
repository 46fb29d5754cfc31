"""Providers that say nothing, or begin too late: phase timeouts, and hedges before them."""

import pytest

from acceptance.resilience.promises import HANG_UP, answered, failed, kept, reasons
from acceptance.resilience.table import ANSWER, FEW, FIRST_TOKEN, SLACK, STREAM, WHOLE, Row, each

pytestmark = pytest.mark.asyncio(loop_scope="session")

EARLY = 0.05
"""Seconds by which a provider may have heard of a call later than the gateway sent it."""
SILENT = [
    Row("silence", "stall=start"),
    Row("silence after the headers", "stall=0"),
    Row("first token late", "ttft=20s"),
    Row("first token late and its headers with it", {"ttft": "20s", "late_headers": True}, streamed=STREAM),
    Row("a word at a time, for ever", "tps=0.5", streamed=WHOLE),
    Row("bit by bit before the first token", "trickle=16,every=100ms"),
]


@each(*SILENT)
async def test_a_silent_model_is_left_for_the_fallback_when_its_time_is_over_and_never_asked_again(seen, case):
    answered(seen, "fallback")
    (first,), (second,) = seen.primary, seen.fallback
    patience = FIRST_TOKEN if case.streamed else ANSWER
    assert patience - EARLY < second.at - first.at < patience + SLACK
    assert first.hung_up_at is not None
    assert first.hung_up_at - second.at < HANG_UP
    assert reasons(seen) == ["first", "fallback"]
    assert seen.log[0]["attempts"][0]["error"] == "timeout"


@each(Row("silence and no fallback", "stall=start", alone=True))
async def test_without_another_model_silence_is_a_typed_error_and_still_not_tried_again(seen, case):
    failed(seen, 504, "timeout", "deadline_exceeded")
    assert len(seen.primary) == 1
    assert "first_token" in seen.told[0].error["message"] or not case.streamed


# --- hedges -----------------------------------------------------------------------------------------------------------

HEDGE = {"hedge": '"80ms"'}


@each(Row("first token late, hedged", "ttft=20s", feature=HEDGE), Row("silence, hedged", "stall=start", feature=HEDGE))
async def test_a_hedge_answers_long_before_the_slow_model_is_given_up_which_is_cancelled(seen, case):
    answered(seen, "fallback")
    (first,), (second,) = seen.primary, seen.fallback
    assert 0.08 - EARLY < second.at - first.at < 0.08 + SLACK / 2
    assert first.hung_up_at is not None
    assert first.hung_up_at - (second.first_byte_at or 0) < HANG_UP + SLACK / 2
    assert reasons(seen) == ["first", "hedge"]
    assert seen.log[0]["attempts"][0]["error"] == "cancelled"


@each(Row("first token a little late, hedged in vain", "ttft=160ms", "ttft=20s", feature=HEDGE))
async def test_the_first_to_speak_wins_though_it_was_asked_first(seen, case):
    answered(seen, "primary")
    (first,), (second,) = seen.primary, seen.fallback
    assert second.hung_up_at is not None
    assert second.hung_up_at - (first.first_byte_at or 0) < HANG_UP + SLACK / 2
    assert reasons(seen) == ["first", "hedge"]
    assert seen.log[0]["attempts"][1]["error"] == "cancelled"


@each(Row("a model in time, hedged", "ttft=20ms", feature={"hedge": '"200ms"'}, wires=FEW))
async def test_a_model_that_is_in_time_is_not_hedged(seen, case):
    answered(seen, "primary")
    assert seen.fallback == []
    assert reasons(seen) == ["first"]


@each(Row("the hedge fails", "ttft=200ms", "status=503", feature=HEDGE | {"retries": "0"}, wires=FEW))
async def test_a_hedge_that_fails_does_no_harm(seen, case):
    answered(seen, "primary")
    assert len(seen.primary) == 1


@each(Row("the hedged model fails", "stall=start,for=150ms,status=503", "ttft=200ms", feature=HEDGE, wires=FEW))
async def test_when_the_hedged_model_fails_the_hedge_is_already_on_its_way(seen, case):
    kept(seen)
    answered(seen, "fallback")
    assert len(seen.fallback) == 1
