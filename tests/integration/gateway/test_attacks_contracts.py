"""Contracts under attack: whatever comes, a call ends in one way, in time, and with no byte that was not checked."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

import holdfast
from holdfast.chat import Tool
from holdfast.contracts.base import Contract
from holdfast.contracts.load import make_contract
from holdfast.errors import ContentRefused, ContractViolated
from holdfast.providers.prices import Price, Rates
from integration.gateway.staged import (
    DONE,
    Caller,
    Gateway,
    Play,
    Staged,
    Step,
    answers,
    delta,
    ends,
    play,
    says,
    whole,
)

SCHEMA = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"type": "integer"}},
    "required": ["reasoning", "answer"],
    "additionalProperties": False,
}
RIGHT = '{"reasoning": "six times seven", "answer": 42}'
WRONG = '{"reasoning": "six times seven", "answer": "many"}'
CONTRACT = make_contract(SCHEMA, name="answer.json")
HOW = ["whole", "hold", "pass", "object"]


def asked_one(
    *scripts: list[Play],
    how: str = "whole",
    contract: Contract | None = CONTRACT,
    hints: Any = None,
    request: dict[str, Any] | None = None,
    feature: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Caller, Any]:
    """Make one call of a feature under a contract, over models that play these scripts."""
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        for name, script in zip(("first", "other", "third"), scripts, strict=False):
            gateway.model(name, Staged(*script))
        shown = {"contract": contract, "stream": "hold" if how == "whole" else how}
        gateway.serve(feature=shown | (feature or {}), **options)
        began = gateway.loop.monotonic()
        await gateway.call(caller, stream=how != "whole", hints=hints, **(request or {}))
        assert gateway.loop.monotonic() - began <= options.get("deadline", 10.0) + 0.05

    (call,) = play(scene)
    return caller, call


def says_it(how: str, *texts: str, finish: str = "stop", message: dict[str, Any] | None = None) -> Play:
    """Return an answer that says these pieces."""
    if how == "whole":
        said = {"role": "assistant", "content": "".join(texts)} | (message or {})
        body = {"id": "c", "model": "m", "choices": [{"index": 0, "message": said, "finish_reason": finish}]}
        return Play(((0.0, json.dumps(body).encode()),), headers=((b"content-type", b"application/json"),))
    steps: list[Step] = [(0.0, says(text)) for text in texts]
    return Play((*steps, *([(0.0, delta(**message))] if message else []), (0.0, ends(finish) + DONE)))


# --- functions of the application -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("failure", [SystemExit(3), GeneratorExit(), asyncio.CancelledError(), RecursionError()])
def test_a_predicate_that_raises_what_would_end_the_process_fails_the_answer_alone(failure, how):
    @holdfast.predicate
    def exits(value: Any) -> bool:
        raise failure

    contract = Contract(CONTRACT.form, [exits], name="answer.json")
    caller, call = asked_one([says_it(how, RIGHT)], how=how, contract=contract, retries=0)
    assert isinstance(caller.error, ContractViolated)
    assert type(failure).__name__ in caller.error.message
    assert call.error == "contract_violated"


def test_a_validator_that_raises_what_would_end_the_process_fails_the_answer_alone():
    from pydantic import BaseModel, field_validator

    class Answer(BaseModel):
        answer: int

        @field_validator("answer")
        @classmethod
        def exits(cls, value: int) -> int:
            raise SystemExit(3)

    caller, _ = asked_one([whole('{"answer": 1}')], contract=make_contract(Answer, name="answer"), retries=0)
    assert isinstance(caller.error, ContractViolated)
    assert "SystemExit" in caller.error.message


# --- answers that are mended ------------------------------------------------------------------------------------------


def test_a_mended_part_that_is_too_large_to_be_put_in_leaves_the_next_model(monkeypatch):
    monkeypatch.setattr("holdfast.gateway.judge.heavy", lambda *_: False)  # a thread takes no virtual time
    schema = {"type": "object", "properties": {"xs": {"type": "array", "items": {"type": "integer"}}}}
    large = whole('{"/xs": [' + ",".join(["1"] * 150_000) + "]}")
    first, other = [whole('{"xs": "none"}'), large], [whole('{"xs": [1]}')]
    caller, call = asked_one(first, other, contract=make_contract(schema, name="xs"))
    assert caller.said == '{"xs": [1]}'
    assert [attempt.error for attempt in call.attempts] == ["contract_violated", "contract_violated", None]


@pytest.mark.parametrize("how", ["whole", "hold", "object", "pass"])
def test_what_a_stream_says_of_a_mended_answer_counts_for_the_tokens_of_mending(how):
    """No usage is told here, and an answer that is given up half-way would not have told any."""
    first = "no" if how == "pass" else '{"reasoning": "", "answer": ['
    wrong = "no" * 40 if how == "pass" else '{"reasoning": "' + "x" * 80 + '", "answer": ['
    script = [says_it(how, first), says_it(how, wrong)]
    _, call = asked_one(script, how=how, feature={"reask_tokens": 10}, retries=5)
    assert [attempt.reason for attempt in call.attempts] == ["first", "reask"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("schema", "said", "right"),
    [({"type": "integer"}, "12", False), ({"type": "object"}, "{}", True), ({"enum": ["no", "nobody"]}, '"no"', True)],
)
def test_a_value_that_may_have_been_cut_is_no_answer(schema, said, right, how):
    contract = make_contract(schema, name="number")
    played = [says_it(how, said, finish="length")]
    caller, call = asked_one(played, how=how, contract=contract, request={"max_tokens": 1})
    assert (caller.error is None) == right
    if not right:
        assert call.attempts[0].error == "contract_violated"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_what_was_said_before_a_filter_broke_the_answer_off_is_no_answer(how):
    caller, call = asked_one(
        [says_it(how, '{"reasoning": "x', finish="content_filter")], [says_it(how, RIGHT)], how=how, last_resort=RIGHT
    )
    assert isinstance(caller.error, ContentRefused)
    assert call.outcome == "error"
    assert len(call.attempts) == 1
    assert caller.said == ('{"reasoning": "x' if how == "pass" else "")


@pytest.mark.parametrize("how", HOW)
def test_a_filter_that_breaks_an_answer_off_is_routed_around_where_that_is_wanted(how):
    scripts = [says_it(how, '{"reasoning": "x', finish="content_filter")], [says_it(how, RIGHT)]
    caller, call = asked_one(*scripts, how=how, route_around_refusals=True)
    if how == "pass":  # of which the caller has a part
        assert isinstance(caller.error, ContentRefused)
    else:
        assert (caller.error, caller.said, call.outcome) == (None, RIGHT, "answered")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("finish", ["stop", "content_filter"])
def test_a_refusal_without_an_answer_reaches_the_caller_as_it_is(finish, how):
    message = {"refusal": "I won't.", "content": None} if how == "whole" else {"refusal": "I won't."}
    caller, call = asked_one([says_it(how, finish=finish, message=message)], how=how)
    assert (caller.error, caller.said, call.outcome, len(call.attempts)) == (None, "", "answered", 1)


@pytest.mark.parametrize("how", HOW)
def test_a_refusal_does_not_let_the_arguments_of_a_call_pass(how):
    calls = [{"index": 0, "id": "1", "type": "function", "function": {"name": "save", "arguments": "{oops"}}]
    said = says_it(how, finish="tool_calls", message={"refusal": "I won't.", "tool_calls": calls, "content": None})
    tool = Tool(name="save", parameters=SCHEMA, strict=True)
    caller, _ = asked_one([said], how=how, retries=0, request={"tools": (tool,)})
    assert isinstance(caller.error, ContractViolated)


# --- calls of tools ---------------------------------------------------------------------------------------------------

CALL = [{"index": 0, "id": "1", "type": "function", "function": {"name": "save", "arguments": "{}"}}]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("text", ["", RIGHT])
def test_a_call_of_a_tool_that_was_not_offered_is_no_answer(text, how):
    message = {"tool_calls": CALL} | ({"content": text or None} if how == "whole" else {})
    said = says_it(how, *[text] if text else [], finish="tool_calls", message=message)
    caller, call = asked_one([said, says_it(how, RIGHT)], how=how)
    assert call.attempts[0].error == "contract_violated"
    if how == "pass":  # the caller has the call
        assert isinstance(caller.error, ContractViolated)
    else:
        assert (caller.error, caller.said, call.attempts[-1].reason) == (None, RIGHT, "reask")


@pytest.mark.parametrize("how", HOW)
def test_a_call_of_a_tool_that_was_offered_may_stand_for_the_answer(how):
    said = says_it(
        how, finish="tool_calls", message={"tool_calls": CALL} | ({"content": None} if how == "whole" else {})
    )
    caller, call = asked_one([said], how=how, request={"tools": (Tool(name="save"),)})
    assert (caller.error, call.outcome, len(call.attempts)) == (None, "answered", 1)


# --- what it costs ----------------------------------------------------------------------------------------------------

USAGE = b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7}}\n\n'


def told_at_the_end(*texts: str) -> Play:
    return Play((*[(0.0, says(text)) for text in texts], (0.0, ends() + USAGE + DONE)))


@pytest.mark.parametrize("how", ["hold", "object", "pass"])
def test_what_a_wrong_answer_used_is_told_by_its_provider_and_not_estimated(how):
    wrong = '{"reasoning": "' + "x" * 400 + '"'
    caller, call = asked_one([told_at_the_end(wrong)], [told_at_the_end(RIGHT)], how=how, retries=0)
    first = call.attempts[0]
    assert (first.error, first.estimated) == ("contract_violated", False)
    assert (first.usage.input_tokens, first.usage.output_tokens) == (30, 7)
    if caller.error is None:  # which it is where the caller has a part of the wrong one
        used = [chunk.usage for chunk in caller.got if chunk.usage]
        assert [usage.output_tokens for usage in used] == [call.usage.output_tokens] == [14]


@pytest.mark.parametrize("how", ["hold", "object", "pass"])
def test_what_was_said_before_an_answer_was_given_up_was_paid_for(how):
    opening = b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":1}}\n\n'
    wrong = '{"reasoning": "' + "x" * 400 + '", "answer": ["'
    price = Price(rates=Rates(input=10**6, output=10**6))
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        script = Play(((0.0, opening + says(wrong)), (0.0, says("1")))), answers(RIGHT)
        model = gateway.model("first", Staged(*script))
        gateway.models["first"] = msgspec.structs.replace(model, price=price)
        gateway.serve(feature={"contract": CONTRACT, "stream": how})
        await gateway.call(caller)

    (call,) = play(scene)
    first, second = call.attempts
    assert caller.text == RIGHT
    assert (first.error, first.estimated, second.reason) == ("contract_violated", True, "reask")
    assert first.usage.output_tokens == -(-len(wrong) // 4)
    assert first.cost_nanousd > 0


# --- several choices --------------------------------------------------------------------------------------------------


def test_of_several_choices_nothing_is_passed_on_before_all_are_right():
    one, two = [delta(0, content=RIGHT), delta(1, content='{"reasoning": "x", ')], [delta(1, content='"answer": "x"}')]
    both = [(0.1, piece) for piece in (*one, *two, ends() + ends(index=1) + DONE)]
    right = [delta(0, content=RIGHT) + delta(1, content=RIGHT), ends() + ends(index=1) + DONE]
    played = [Play((*both,))], [Play((*[(0.1, piece) for piece in right],))]
    caller, call = asked_one(*played, how="pass", request={"n": 2})
    assert (caller.error, [attempt.error for attempt in call.attempts]) == (None, ["contract_violated", None])
    assert caller.text == RIGHT + RIGHT
