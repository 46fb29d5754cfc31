"""Streams that are cut, stall or are not what they should be: the caller gets the whole answer on the same stream."""

from decimal import Decimal

import pytest

from acceptance.resilience.promises import answered, failed, kept, put_into_its_mouth, reasons, said, usage_adds_up
from acceptance.resilience.table import ALL, FEW, IDLE, PAIRS, SLACK, SOME, STREAM, TEXT, WHOLE, Row, Stage, each
from holdfast.providers.simulated.tokens import tokenize

pytestmark = pytest.mark.asyncio(loop_scope="session")

BREAKS = {
    "cut after a token": "cut=1",
    "cut at a line break": "cut=3",
    "cut": "cut=12",
    "cut in a character": "cut=7u",
    "cut in an event": "cut=9e",
    "cut before its end": "cut=end",
    "reset": "reset=12",
    "stalled": "stall=12",
    "ended by an error": "error_event=12",
}
CONTINUES, RESTARTS = {"prefill": "true"}, {"prefill": "false"}
OTHER = "Something else altogether."
RESET = {"x-holdfast-on-break": "reset"}


def _rows(more, streamed, behaviour="", **settings):
    wires = {name: ALL if name in ("cut", "stalled") else SOME for name in BREAKS}
    return [
        Row(f"{name}{more}", fault, behaviour, streamed=streamed, wires=wires[name], **settings)
        for name, fault in BREAKS.items()
    ]


@each(*_rows(" and continued", STREAM, next=CONTINUES))
async def test_a_broken_stream_is_continued_by_a_fallback_that_can(seen, case):
    answered(seen, "fallback")
    (first,), (second,) = seen.primary, seen.fallback
    assert reasons(seen) == ["first", "continue"]
    assert (given := put_into_its_mouth(second))
    assert TEXT.startswith(given)
    assert given == given.rstrip()
    assert first.hung_up_at is None or first.hung_up_at - second.at < 0.1
    _both_are_paid_for(seen)


@each(*_rows(" and restarted", STREAM, next=RESTARTS))
async def test_a_broken_stream_is_restarted_and_what_was_sent_is_not_sent_again(seen, case):
    answered(seen, "fallback")
    (second,) = seen.fallback
    assert reasons(seen) == ["first", "restart"]
    assert put_into_its_mouth(second) is None
    assert len(seen.primary) == 1
    _both_are_paid_for(seen)


def _both_are_paid_for(seen: Stage) -> None:
    """The provider was paid for what it had said before it broke off, told or not."""
    (call,) = seen.log
    broken, whole = call["attempts"]
    assert broken["error"] is not None
    assert broken["usage"]["output_tokens"] > 0
    assert broken["usage"]["input_tokens"] > 0
    assert not whole["estimated"]
    assert Decimal(call["cost_usd"]) > Decimal(whole["cost_usd"])


@each(*[row for row in _rows(", whole", WHOLE) if "error" not in row.name])
async def test_an_answer_that_breaks_off_unseen_is_asked_for_again(seen, case):
    kept(seen)
    answered(seen, "fallback" if seen.fallback else "primary")
    assert case.row.name != "stalled, whole" or len(seen.primary) == 1


@each(Row("stalled, in time", "stall=12", next=RESTARTS, streamed=STREAM, wires=FEW))
async def test_a_stalled_stream_is_given_up_after_idle(seen, case):
    answered(seen, "fallback")
    (first,), (second,) = seen.primary, seen.fallback
    assert IDLE - 0.02 < second.at - first.at < IDLE + SLACK
    assert seen.log[0]["attempts"][0]["error"] in ("broken_stream", "timeout")


# --- fallbacks that can't go on ---------------------------------------------------------------------------------------


@each(
    *[
        Row(
            f"{name}, and the fallback says something else",
            BREAKS[name],
            {"text": OTHER},
            next=RESTARTS,
            streamed=STREAM,
        )
        for name in ("cut", "stalled")
    ]
)
async def test_where_the_answer_differs_the_stream_ends_with_an_error_and_never_with_a_stop(seen, case):
    failed(seen, 502, "broken_stream")
    (told,) = seen.told
    assert told.text
    assert TEXT.startswith(told.text)
    assert told.resets == 0
    assert said(seen.log[0]) == told.text


@each(
    *[
        Row(
            f"{name}, the fallback says something else, reset",
            BREAKS[name],
            {"text": OTHER},
            next=RESTARTS,
            streamed=STREAM,
            headers=RESET,
        )
        for name in ("cut", "stalled")
    ]
)
async def test_a_caller_who_opted_in_gets_the_other_answer_from_its_start_after_a_reset(seen, case):
    answered(seen, "fallback", OTHER)
    assert seen.told[0].resets == 1
    assert len(seen.fallback) == 1


@each(Row("cut, reset, the same answer", "cut=12", next=RESTARTS, streamed=STREAM, headers=RESET, wires=FEW))
async def test_who_opted_in_gets_no_reset_where_none_is_needed(seen, case):
    answered(seen, "fallback")
    assert seen.told[0].resets == 0


@each(Row("cut, and the fallback is down", "cut=12", "status=503", streamed=STREAM, feature={"retries": "0"}))
async def test_where_nobody_can_go_on_the_stream_ends_with_an_error(seen, case):
    (call,) = seen.log
    failed(seen, call["status"], "broken_stream", "overloaded")
    assert TEXT.startswith(seen.told[0].text)
    assert len(seen.fallback) == 1


@each(Row("cut and cut again", "cut=12", "cut=20", next=RESTARTS, streamed=STREAM))
async def test_a_stream_that_breaks_twice_is_an_error_that_keeps_every_word(seen, case):
    kept(seen)
    (told,) = seen.told
    if told.error is None:  # somebody was asked once more
        answered(seen, reasons(seen) and ("primary" if seen.log[0]["model"].endswith("primary") else "fallback"))
    else:
        assert len(tokenize(told.text)) >= 19
        assert TEXT.startswith(told.text)


async def _twice(stage):
    await stage.ask()
    await stage.ask()


@each(Row("the fallback refuses prefill", "cut=12", "prefill=refuse", next=CONTINUES, streamed=STREAM, play=_twice))
async def test_a_fallback_that_refuses_prefill_is_restarted_unseen_and_not_asked_so_again(seen, case):
    kept(seen)
    for told in seen.told:
        assert (told.text, told.finish, told.error) == (TEXT, "stop", None)
    assert [record.status for record in seen.fallback] == [400, 200, 200]
    refused, *plain = seen.fallback
    assert put_into_its_mouth(refused)
    assert [put_into_its_mouth(record) for record in plain] == [None, None]
    said = [[attempt["reason"] for attempt in call["attempts"]] for call in seen.log]
    assert said == [["first", "continue", "restart"], ["first", "restart"]]


# --- the seam ---------------------------------------------------------------------------------------------------------

LIMIT = 20
LIMITED = {"max_tokens": LIMIT}


@each(Row("cut, and a limit of the caller's", "cut=12", next=RESTARTS, streamed=STREAM, fields=LIMITED))
async def test_the_callers_own_limit_holds_across_the_seam(seen, case):
    answered(seen, "fallback", "".join(tokenize(TEXT)[:LIMIT]), "length")


@each(
    *[
        Row(f"cut after {count}{more}", f"cut={count}", next=next, streamed=STREAM, wires=FEW)
        for count in range(1, len(tokenize(TEXT)), 3)
        for more, next in ((", continued", CONTINUES), (", restarted", RESTARTS))
    ]
)
async def test_the_seam_is_right_wherever_it_falls(seen, case):
    answered(seen, "fallback")


@each(
    Row(
        "cut in a tool call",
        "tools=offered,cut=2",
        streamed=STREAM,
        fields={
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "depth",
                        "parameters": {
                            "type": "object",
                            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        },
                    },
                }
            ]
        },
        wires=PAIRS,
    )
)
async def test_a_tool_call_that_breaks_off_is_not_patched_together(seen, case):
    kept(seen)
    (told,) = seen.told
    assert told.error is not None or seen.log[0]["model"].endswith("fallback")
    assert "continue" not in reasons(seen)


# --- malformed streams ------------------------------------------------------------------------------------------------

HARMLESS = (
    *("comments", "crlf", "cr", "bom", "fields", "no_space", "multiline", "empty_event", "no_done", "duplicate_finish"),
    *("duplicate_done", "usage_first", "usage_every", "usage_late"),
)
DAMAGED = ("bad_json", "garbage", "not_object", "invalid_utf8", "no_finish")


@each(
    *[Row(f"harmless: {what}", f"malformed={what},at=3", streamed=STREAM, wires=FEW) for what in HARMLESS],
    *[Row(f"harmless: {what}", what, streamed=STREAM, wires=FEW) for what in ("split=7u", "trickle=7,every=1ms")],
)
async def test_what_only_looks_odd_is_tolerated(seen, case):
    answered(seen, "primary")
    assert len(seen.primary) == 1
    assert seen.fallback == []


@each(
    *[Row(f"damaged: {what}", f"malformed={what},at=9", next=RESTARTS, streamed=STREAM, wires=SOME) for what in DAMAGED]
)
async def test_a_stream_that_is_damaged_is_recovered_as_one_that_was_cut(seen, case):
    answered(seen, "fallback" if seen.fallback else "primary")
    if case.row.name == "damaged: bad_json":
        assert reasons(seen) == ["first", "restart"]


@each(*[Row(f"{what} in place of an answer", f"malformed={what}", wires=SOME) for what in ("html", "empty")])
async def test_what_is_no_answer_at_all_is_answered_by_the_fallback(seen, case):
    answered(seen, "fallback")


@each(*[Row(f"damaged: {what}, whole", f"malformed={what}", streamed=WHOLE, wires=SOME) for what in DAMAGED[:3]])
async def test_a_whole_answer_that_is_damaged_is_answered_by_the_fallback(seen, case):
    answered(seen, "fallback")
    assert usage_adds_up(seen.log[0])
