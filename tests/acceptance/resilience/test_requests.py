"""What the caller asked for can't be answered: a context too long, a refusal. No retry, and no way around a refusal."""

import pytest

from acceptance.resilience.promises import answered, failed, kept, put_into_its_mouth, reasons, said
from acceptance.resilience.table import PAIRS, TEXT, Row, each

pytestmark = pytest.mark.asyncio(loop_scope="session")

# --- context ----------------------------------------------------------------------------------------------------------


@each(Row("context too long", "context=3", next={"context": "100000"}))
async def test_a_context_too_long_goes_to_a_model_with_a_larger_one_at_once(seen, case):
    answered(seen, "fallback")
    assert len(seen.primary) == len(seen.fallback) == 1
    assert reasons(seen) == ["first", "fallback"]


@each(Row("context too long and unknown elsewhere", "context=3", wires=PAIRS))
async def test_a_model_of_unknown_context_is_tried(seen, case):
    answered(seen, "fallback")


SMALLER = Row("context too long, smaller elsewhere", "context=3", model={"context": "8000"}, next={"context": "4000"})


@each(SMALLER)
async def test_a_model_with_a_smaller_context_is_not_even_asked(seen, case):
    failed(seen, 400, "context_too_long")
    assert len(seen.primary) == 1
    assert seen.fallback == []
    assert seen.told[0].code == ("context_length_exceeded" if case.caller == "openai" else "invalid_request_error")


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = Row("content refused", "refuse=prompt")


@each(REFUSED)
async def test_a_refused_prompt_is_neither_tried_again_nor_routed_around_and_the_reason_reaches_the_caller(seen, case):
    kept(seen)
    (told,) = seen.told
    assert len(seen.primary) == 1
    assert seen.fallback == []
    if case.primary == "anthropic":  # its own answer is a message without words
        assert (told.text, told.finish) == ("", "refused")
        return
    failed(seen, 400, "content_refused")
    assert told.code == ("content_filter" if case.caller == "openai" else "invalid_request_error")
    assert {"openai": "content management policy", "google": "PROHIBITED_CONTENT"}[case.primary] in told.error[
        "message"
    ]


@each(Row("content refused, next", "refuse=prompt", feature={"on_refusal": '"next"'}))
async def test_a_feature_may_ask_the_next_model_what_one_refused(seen, case):
    answered(seen, "fallback")
    assert len(seen.primary) == len(seen.fallback) == 1
    assert reasons(seen) == ["first", "fallback"]


@each(
    Row(
        "refused by all, next",
        "refuse=prompt",
        "refuse=prompt",
        feature={"on_refusal": '"next"'},
        wires=PAIRS,
    )
)
async def test_what_all_refuse_is_refused(seen, case):
    kept(seen)
    (told,) = seen.told
    assert told.text == ""
    assert told.finish == "refused" or told.code == "content_filter"
    assert len(seen.primary) == len(seen.fallback) == 1


@each(Row("refused in the middle", "refuse=answer"))
async def test_an_answer_that_is_refused_midway_says_so_and_is_not_gone_on_with(seen, case):
    kept(seen)
    (told,) = seen.told
    assert seen.fallback == []
    assert len(seen.primary) == 1
    assert told.text
    assert TEXT.startswith(told.text)
    assert told.finish == "refused"
    assert said(seen.log[0]) == told.text


@each(Row("refused in words", "refuse=message", wires=PAIRS))
async def test_a_refusal_in_words_is_an_answer(seen, case):
    kept(seen)
    assert seen.told[0].error is None
    assert len(seen.primary) == 1
    assert seen.fallback == []


# --- requests that no model understands -------------------------------------------------------------------------------


@each(Row("400 everywhere", "status=400", "status=400"))
async def test_what_no_model_understands_is_the_callers_to_mend(seen, case):
    failed(seen, 400, "bad_request")
    assert len(seen.primary) == len(seen.fallback) == 1
    assert all(put_into_its_mouth(record) is None for record in seen.requests)
