"""Contracts under attack: whatever comes, a call ends in one way, in time, and with no byte that was not checked."""

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import holdfast
from holdfast.chat import Choice, Refusal, Reply, Tool, ToolCall, Usage
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.text import ChoiceForm, PatternForm
from holdfast.contracts.load import make_contract
from holdfast.contracts.streaming.watch import Watch, complete_of
from holdfast.errors import ContentRefused, ContractViolated
from holdfast.gateway.assembly import Assembly
from holdfast.gateway.catalog import Replay
from holdfast.gateway.hints import Hints
from holdfast.gateway.settings import Vote
from holdfast.providers.prices import Price, Rates
from integration.gateway.contracted import CONTRACT, OTHER, RIGHT, SCHEMA, WRONG
from integration.gateway.staged import (
    DONE,
    SILENT,
    Caller,
    Gateway,
    Play,
    Staged,
    Step,
    answers,
    cut,
    delta,
    ends,
    fails,
    play,
    says,
    whole,
)

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
    monkeypatch.setattr("holdfast.gateway.answers.judge.heavy", lambda *_: False)  # a thread takes no virtual time
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


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_an_answer_that_is_none_was_not_free_where_its_provider_tells_no_usage(finish):
    _, call = asked_one([says_it("whole", WRONG, finish=finish)], retries=0)
    assert call.attempts[0].error in ("contract_violated", "truncated")
    assert call.cost_nanousd is None


# --- several choices --------------------------------------------------------------------------------------------------


def test_of_several_choices_nothing_is_passed_on_before_all_are_right():
    one, two = [delta(0, content=RIGHT), delta(1, content='{"reasoning": "x", ')], [delta(1, content='"answer": "x"}')]
    both = [(0.1, piece) for piece in (*one, *two, ends() + ends(index=1) + DONE)]
    right = [delta(0, content=RIGHT) + delta(1, content=RIGHT), ends() + ends(index=1) + DONE]
    played = [Play((*both,))], [Play((*[(0.1, piece) for piece in right],))]
    caller, call = asked_one(*played, how="pass", request={"n": 2})
    assert (caller.error, [attempt.error for attempt in call.attempts]) == (None, ["contract_violated", None])
    assert caller.text == RIGHT + RIGHT


# --- the table of faults ----------------------------------------------------------------------------------------------

TABLE = {
    "rate limited for a moment": [fails(429, retry_after="0.2"), None],
    "rate limited for good": [fails(429)],
    "overloaded for good": [fails(503)],
    "fails once": [fails(500), None],
    "fails for good": [fails(500)],
    "reset before the headers": [Play(((0.0, cut()),)), None],
    "silent": [SILENT],
    "too long": [fails(400, code="context_length_exceeded")],
    "not json": [Play(((0.0, b"{"),), headers=((b"content-type", b"application/json"),))],
    "empty": ["", "", ""],
    "wrong": [WRONG, WRONG, WRONG],
    "cut off": [RIGHT[:30], RIGHT[:30], RIGHT[:30]],
    "wrong once": [WRONG, '{"/answer": 42}'],
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("hedge", [False, 0.05])
@pytest.mark.parametrize("fault", TABLE)
def test_whatever_the_first_model_does_the_answer_is_right(fault, hedge, how):
    script = [says_it(how, said or RIGHT) if said is None or isinstance(said, str) else said for said in TABLE[fault]]
    hints = Hints(on_break="reset")  # for what was passed on before it was found to be wrong
    caller, call = asked_one(script, [says_it(how, RIGHT)], how=how, hedge=hedge, hints=hints)
    assert (caller.error, call.outcome) == (None, "answered")
    assert CONTRACT.check(caller.said).ok
    assert caller.ends == 1


@pytest.mark.parametrize("how", ["hold", "object", "pass"])
@pytest.mark.parametrize("prefill", [False, True])
@pytest.mark.parametrize("at", [1, 14, 31, len(RIGHT) - 1, len(RIGHT)])
@pytest.mark.parametrize("end", [(0.0, cut()), (1e6, DONE)])
def test_a_stream_that_is_cut_or_stalls_under_a_contract_is_taken_up(end, at, prefill, how):
    broken = Play(((0.0, says(RIGHT[:at])), end))
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        goes_on = prefill and how == "pass"
        gateway.model("first", Staged(broken))
        gateway.model("other", Staged(answers(RIGHT[at:] if goes_on else RIGHT)), prefill=prefill)
        gateway.serve(feature={"contract": CONTRACT, "stream": how}, deadline=60.0)
        await gateway.call(caller)

    (call,) = play(scene)
    assert (caller.error, caller.text, call.outcome, call.model) == (None, RIGHT, "answered", "other")


def test_a_continuation_that_breaks_the_contract_is_not_passed_on():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        gateway.model("first", Staged(Play(((0.0, says(RIGHT[:43])), (0.0, cut())))))
        gateway.model("other", Staged(answers(' "many', '"}')), prefill=True)
        gateway.serve(feature={"contract": CONTRACT, "stream": "pass"})
        await gateway.call(caller)

    play(scene)
    assert caller.text == RIGHT[:43]
    assert isinstance(caller.error, ContractViolated)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("wrong", "right"), [(0.2, 0.3), (0.3, 0.15), (0.25, 0.15), (0.25, 0.1), (0.2, 0.1)])
@pytest.mark.parametrize("first", ["wrong", "right"])
@pytest.mark.parametrize("said", [["no"], [RIGHT[:20], "]"]])
def test_of_two_answers_at_once_the_right_one_is_given(said, first, wrong, right, how):
    bad = msgspec.structs.replace(says_it(how, *said), after=wrong)
    good = msgspec.structs.replace(says_it(how, RIGHT[:30], RIGHT[30:]), after=right)
    scripts = [[bad], [good]] if first == "wrong" else [[good], [bad]]
    caller, call = asked_one(*scripts, how=how, hedge=0.1, retries=0, hints=Hints(on_break="reset"))
    assert (caller.error, caller.said, call.outcome) == (None, RIGHT, "answered")


@pytest.mark.parametrize("how", HOW)
def test_a_probe_that_answers_wrong_has_found_that_the_model_is_back(how):
    callers = [Caller(), Caller()]

    async def scene(gateway: Gateway) -> None:
        script = [says_it(how, "no"), says_it(how, RIGHT), says_it(how, RIGHT)]
        model = gateway.model("first", Staged(*[msgspec.structs.replace(played, after=0.2) for played in script]))
        gateway.serve(feature={"contract": CONTRACT, "stream": "hold" if how == "whole" else how})
        for _ in range(5):
            model.health.breaker.failed()
        await asyncio.sleep(6.0)
        probe = asyncio.create_task(gateway.call(callers[0], stream=how != "whole"))
        await asyncio.sleep(0.3)
        await gateway.call(callers[1], stream=how != "whole")
        await probe
        assert not model.health.breaker.open
        assert model.health.breaker.probes == 1

    first, _ = play(scene)
    assert [attempt.reason for attempt in first.attempts] == ["first", "reask"]
    assert [caller.said for caller in callers] == [RIGHT, RIGHT]


# --- the law ----------------------------------------------------------------------------------------------------------

SAID = [
    *(RIGHT, RIGHT, RIGHT, f"Sure!\n```json\n{RIGHT}\n```", RIGHT[:-1] + ",}", RIGHT.replace('"', "'")),
    *("{'/answer': 42}", '{"/answer": 42}', WRONG, RIGHT[:-1], RIGHT[:20], "", " ", "Six.", RIGHT + RIGHT),
    *(f"{RIGHT} is it.", '{"reasoning": "x", "answer": [', "null", "[]", "42", "\x00", RIGHT.replace("six", "\ufeff")),
]
FAILURES = [
    *(fails(500), fails(500, after=0.3), fails(503), fails(429, retry_after="0"), fails(429, retry_after="1"), SILENT),
    *(fails(400), fails(400, code="context_length_exceeded"), fails(400, code="content_policy_violation")),
]
WHAT, FAULTS = st.sampled_from(SAID), st.sampled_from(FAILURES)
FINISH = st.sampled_from(["stop", "stop", "stop", "stop", "length", "content_filter", "tool_calls"])
CALLS = [
    {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "save", "arguments": arguments}}]}
    for arguments in ("{}", RIGHT, RIGHT[:-1] + ",}", WRONG)
]
BESIDE = st.sampled_from([None, None, None, None, {"refusal": "No."}, {"reasoning_content": "Hm."}, *CALLS])
CONTRACTS = [
    *(CONTRACT, CONTRACT, CONTRACT, make_contract({"type": "integer"}, name="number")),
    Contract(ChoiceForm(["Six.", "42", "4"]), name="choice"),
    Contract(PatternForm("[0-9]{2}|S[a-z]+[.]"), name="pattern"),
]
AFTER = st.sampled_from([0.0, 0.0, 0.1, 0.2, 0.5, 3.0])


@st.composite
def wholes(draw: st.DrawFn) -> Play:
    played = says_it("whole", draw(WHAT), finish=draw(FINISH), message=draw(BESIDE))
    return msgspec.structs.replace(played, after=draw(AFTER))


@st.composite
def streams(draw: st.DrawFn) -> Play:
    text, beside = draw(WHAT), draw(BESIDE)
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)) | {0, len(text)})
    every = draw(st.sampled_from([0.0, 0.0, 0.1, 1.0]))
    steps: list[Step] = [(every, says(text[start:end])) for start, end in pairwise(places)]
    if beside is not None:
        steps.insert(draw(st.integers(0, len(steps))), (0.0, delta(**beside)))
    used = draw(st.sampled_from([b"", USAGE]))
    last = draw(st.sampled_from(["end", "end", "end", "cut", "stall", "close", "garbage"]))
    if last == "end":
        steps.append((0.0, ends(draw(FINISH)) + used + DONE))
    elif last != "close":
        steps.append({"cut": (0.0, cut()), "stall": (1e6, DONE), "garbage": (0.0, b"data: {broken\n\n")}[last])
    return Play(tuple(steps), after=draw(AFTER))


SAVE = Tool(name="save", parameters=SCHEMA, strict=True)
SCRIPTS = (
    st.lists(st.one_of(wholes(), wholes(), wholes(), FAULTS), min_size=1, max_size=5),
    st.lists(st.one_of(streams(), streams(), streams(), FAULTS), min_size=1, max_size=5),
)


class Watching(Caller):
    """A caller who remembers what was told of the answer as it was then."""

    async def object(self, value: Any, complete: Any) -> None:
        await super().object(json.loads(json.dumps(value)), complete)


def is_kept(choice: Choice, contract: Contract, tools: Sequence[Tool]) -> bool:
    """Whether a choice of an answer is what was promised: checked here by itself."""
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    if calls:
        strict = any(tool.strict for tool in tools)
        return bool(tools) and all(not strict or CONTRACT.check(call.arguments).ok for call in calls)
    declined = choice.finish == "refused" or any(isinstance(part, Refusal) for part in choice.parts)
    return contract.check(choice.text).ok or (declined and not choice.text.strip())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    data=st.data(),
    how=st.sampled_from(HOW),
    contract=st.sampled_from(CONTRACTS),
    reset=st.booleans(),
    models=st.integers(1, 3),
    feature=st.fixed_dictionaries(
        {
            "reask_tokens": st.sampled_from([0, 5, 8192]),
            "vote": st.sampled_from([None, None, None, Vote(samples=3, agree=0.6), Vote(samples=2, fields=True)]),
            "replay": st.sampled_from([None, None, Replay(ttl=60.0, hash=b"x")]),
        }
    ),
    options=st.fixed_dictionaries(
        {
            "retries": st.sampled_from([0, 2, 5]),
            "hedge": st.sampled_from([False, False, 0.001, 0.1]),
            "last_resort": st.sampled_from([None, None, OTHER, "42", "Later."]),
            "route_around_refusals": st.booleans(),
            "deadline": st.sampled_from([0.05, 0.3, 3.0, 10.0]),
        }
    ),
    request=st.sampled_from([{}, {}, {"max_tokens": 5}, {"tools": (SAVE,)}, {"tools": (Tool(name="save"),)}, {"n": 2}]),
    limit=st.sampled_from([None, 1]),
    prefill=st.booleans(),
    calls=st.lists(
        st.fixed_dictionaries(
            {
                "at": st.sampled_from([0.0, 0.0, 0.1, 2.0]),
                "hang_up": st.sampled_from([None, None, None, 0.0, 0.1, 0.2, 0.5]),
            }
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_a_call_under_a_contract_ends_in_one_of_three_ways(
    data: st.DataObject,
    how: str,
    contract: Contract,
    reset: bool,
    models: int,
    feature: dict[str, Any],
    options: dict[str, Any],
    request: dict[str, Any],
    limit: int | None,
    prefill: bool,
    calls: list[dict[str, Any]],
) -> None:
    seconds = options["deadline"]
    several = feature["vote"] is not None
    script = SCRIPTS[how != "whole" and not several]
    callers = [Watching() for _ in calls]

    async def one(gateway: Gateway, caller: Caller, wish: dict[str, Any]) -> None:
        await asyncio.sleep(wish["at"])
        hints = Hints(on_break="reset") if reset else None
        task = asyncio.create_task(gateway.call(caller, stream=how != "whole", hints=hints, **request))
        if wish["hang_up"] is not None:
            gateway.loop.call_later(wish["hang_up"], task.cancel)
        began = gateway.loop.time()
        await asyncio.wait([task])
        assert gateway.loop.time() - began <= seconds + 0.05
        assert task.cancelled() or task.exception() is None

    async def scene(gateway: Gateway) -> None:
        for name in ("first", "other", "third")[:models]:
            gateway.model(name, Staged(*data.draw(script)), concurrency=limit, prefill=prefill)
        gateway.serve(feature={"contract": contract, "stream": "hold" if how == "whole" else how} | feature, **options)
        await asyncio.gather(*[one(gateway, caller, wish) for caller, wish in zip(callers, calls, strict=True)])
        assert gateway.places == (0, 0)
        await asyncio.sleep(60.0)  # then each model that is down is probed, which takes a token that is there
        for model in gateway.models.values():
            if model.health.breaker.open:
                assert model.health.breaker.ask() == "probe"
                model.health.breaker.succeeded()

    logged = play(scene)
    assert len(logged) == len(calls)
    for call in logged:
        assert call.error != "internal_error"
        assert all(attempt.duration_us >= 0 for attempt in call.attempts)
        told = [attempt.usage for attempt in call.attempts if attempt.usage is not None]
        assert (call.usage or Usage()).output_tokens == sum(usage.output_tokens for usage in told)
    for caller in callers:
        check_promise(caller, how, contract, request, options["last_resort"])


def check_promise(caller: Caller, how: str, contract: Contract, request: dict[str, Any], resort: str | None) -> None:
    assert caller.ends <= 1
    if caller.error is not None:
        assert caller.whole is None
    if how != "pass" or request.get("n") == 2:
        if caller.error is not None or not caller.ends:
            assert not any(chunk.speaks for chunk in caller.got)
    elif not any(chunk.tool_calls for chunk in caller.got):
        assert Watch(contract, strict=True).feed(caller.text) is None
    if caller.error is not None or not caller.ends:
        return
    assembly = Assembly()
    for chunk in caller.got:
        assembly.add(chunk)
    reply = assembly.reply() if how != "whole" else caller.whole
    assert isinstance(reply, Reply)
    assert caller.summary is not None
    assert reply.choices
    assert all(is_kept(choice, contract, request.get("tools", ())) for choice in reply.choices)
    assert (caller.summary.outcome == "last_resort") == (caller.summary.model is None)
    if caller.summary.outcome == "last_resort":
        assert [choice.text for choice in reply.choices] == [resort]
    calls = any(isinstance(part, ToolCall) for part in reply.choices[0].parts)
    if caller.objects and contract.check(reply.text).ok and not calls:
        assert caller.objects[-1] == (json.loads(reply.text), complete_of(json.loads(reply.text)))
