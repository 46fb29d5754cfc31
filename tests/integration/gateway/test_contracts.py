"""Contracts on the request path: whatever models answer, the caller gets what was asked for, or an error."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.chat import ResponseFormat, Tool
from holdfast.contracts.load import parse_contract
from holdfast.errors import ContractViolated, InvalidRequest
from holdfast.gateway.hints import Hints
from holdfast.providers.dialects.servers import OPENAI
from integration.gateway.contracted import CONTRACT, RIGHT, SCHEMA, WRONG
from integration.gateway.staged import (
    DONE,
    Caller,
    Gateway,
    Play,
    Staged,
    answers,
    breaks,
    delta,
    ends,
    fails,
    play,
    says,
    whole,
)

SAVE = Tool(name="save", parameters=SCHEMA, strict=True)
FENCED = f"Sure!\n```json\n{RIGHT}\n```"


def asked(transport: Staged, index: int) -> list[dict[str, Any]]:
    """Return the messages of a request."""
    messages: list[dict[str, Any]] = json.loads(transport.requests[index].body)["messages"]
    return messages


async def serve(gateway: Gateway, *plays: Play, other: Play | None = None, **options: Any) -> Staged:
    """Serve a feature with a contract whose first model answers so."""
    first = Staged(*plays)
    gateway.model("first", first)
    if other is not None:
        gateway.model("other", Staged(other))
    feature = {"contract": CONTRACT} | options.pop("feature", {})
    gateway.serve(feature=feature, **options)
    return first


# --- whole answers ----------------------------------------------------------------------------------------------------


def test_a_valid_answer_reaches_the_caller_byte_for_byte():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(RIGHT))
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert (call.contract, call.repairs, len(call.attempts)) == ("answer.json", 0, 1)


def test_an_answer_is_repaired_without_asking_again_and_the_ledger_says_how():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(FENCED))
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert len(call.attempts) == 1
    assert call.repairs == len(call.ledger) > 0
    text = FENCED
    for repair in reversed(call.ledger):
        assert text.startswith(repair.before, repair.offset)
        text = text[: repair.offset] + repair.after + text[repair.offset + len(repair.before) :]
    assert text == RIGHT


def test_a_model_is_asked_for_the_failing_part_alone_and_the_answer_is_put_together():
    caller = Caller()
    transports = []

    async def scene(gateway: Gateway) -> None:
        transports.append(await serve(gateway, whole(WRONG), whole('{"/answer": 42}')))
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert json.loads(caller.said) == {"reasoning": "six times seven", "answer": 42}
    assert [(attempt.reason, attempt.error) for attempt in call.attempts] == [
        ("first", "contract_violated"),
        ("reask", None),
    ]
    *_, said, told = asked(transports[0], 1)
    assert (said["role"], told["role"]) == ("assistant", "user")
    assert json.loads(said["content"]) == json.loads(WRONG)
    assert "/answer" in told["content"]
    assert "/reasoning" not in told["content"]


def test_a_model_may_mend_a_part_by_giving_all_of_the_answer_anew():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(WRONG), whole(FENCED))
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert [attempt.reason for attempt in call.attempts] == ["first", "reask"]
    assert call.repairs == len(call.ledger) > 0


def test_the_ledger_tells_the_repairs_of_an_answer_that_was_mended_too():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(f"```json\n{WRONG}\n```"), whole('{"/answer": 42,}'))
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert json.loads(caller.said) == json.loads(RIGHT)
    assert [(repair.attempt, repair.kind) for repair in call.ledger] == [
        (0, "fence"),
        (0, "fence"),
        (1, "trailing_comma"),
    ]
    assert call.repairs == 3


def test_a_model_whose_correction_is_wrong_is_told_why_and_so_is_the_caller():
    caller = Caller()
    transports = []

    async def scene(gateway: Gateway) -> None:
        corrections = (whole('{"/answer": "some"}'), whole('{"/answer": "several"}'))
        transports.append(await serve(gateway, whole(WRONG), *corrections))
        await gateway.call(caller, stream=False)

    play(scene)
    assert '"many"' in asked(transports[0], 1)[-1]["content"]
    assert '"some"' in asked(transports[0], 2)[-1]["content"]
    assert isinstance(caller.error, ContractViolated)
    assert '/answer: "several" is not of type "integer"' in caller.error.message


def test_a_correction_that_tells_nothing_leaves_what_was_wrong_before():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(WRONG), whole("I can't."))
        await gateway.call(caller, stream=False)

    play(scene)
    assert isinstance(caller.error, ContractViolated)
    assert '/answer: "many" is not of type "integer"' in caller.error.message


def test_a_limit_is_named_where_it_cut_the_answer():
    body = json.loads(whole(RIGHT[:-10]).steps[0][1])  # type: ignore[arg-type]
    body["choices"][0]["finish_reason"] = "length"
    cut = Play(((0.0, json.dumps(body).encode()),), headers=((b"content-type", b"application/json"),))
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, cut)
        await gateway.call(caller, stream=False, max_tokens=5)

    play(scene)
    assert isinstance(caller.error, ContractViolated)
    assert "max_tokens" in caller.error.message


def test_a_model_that_stays_wrong_is_asked_at_most_retries_times_and_then_the_next_one():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(WRONG), whole("no"), other=whole(RIGHT), retries=2)
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert [(attempt.model, attempt.reason) for attempt in call.attempts] == [
        ("first", "first"),
        ("first", "reask"),
        ("first", "reask"),
        ("other", "fallback"),
    ]


def test_without_retries_nothing_is_asked_again():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(WRONG), retries=0)
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert isinstance(caller.error, ContractViolated)
    assert "/answer" in caller.error.message
    assert len(call.attempts) == 1
    assert call.error == "contract_violated"


def test_nothing_is_asked_again_beyond_the_tokens_for_that():
    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(WRONG), feature={"reask_tokens": 0})
        await gateway.call(Caller(), stream=False)

    (call,) = play(scene)
    assert len(call.attempts) == 1


def test_a_last_resort_that_does_not_meet_the_contract_is_no_answer():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole("no"), retries=0, last_resort="Later.")
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert isinstance(caller.error, ContractViolated)
    assert call.outcome == "error"


@pytest.mark.parametrize("stream", [False, True])
def test_a_last_resort_that_meets_the_contract_is_the_answer(stream):
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers("no") if stream else whole("no"), retries=0, last_resort=RIGHT)
        await gateway.call(caller, stream=stream)

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert call.outcome == "last_resort"


def test_an_answer_that_is_cut_is_not_asked_for_again_at_the_same_model():
    body = json.loads(whole(RIGHT[:-10]).steps[0][1])  # type: ignore[arg-type]
    body["choices"][0]["finish_reason"] = "length"
    cut = Play(((0.0, json.dumps(body).encode()),), headers=((b"content-type", b"application/json"),))
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, cut, other=whole(RIGHT))
        await gateway.call(caller, stream=False, max_tokens=5)

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert [attempt.model for attempt in call.attempts] == ["first", "other"]


def test_a_model_that_answers_wrong_is_not_taken_for_broken():
    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole("no"), retries=0)
        for _ in range(20):
            await gateway.call(Caller(), stream=False)

    calls = play(scene)
    assert all(call.error == "contract_violated" for call in calls)


# --- streams that are held --------------------------------------------------------------------------------------------


def test_a_stream_comes_when_it_is_known_to_be_right():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers("Sure!\n```json\n", RIGHT[:20], RIGHT[20:], "\n```"))
        await gateway.call(caller)

    (call,) = play(scene)
    assert caller.text == RIGHT
    assert call.stream
    assert call.repairs > 0


def test_a_stream_that_can_not_be_right_any_more_is_given_up_at_that_token():
    caller = Caller()
    endless = Play((*[(0.0, says(piece)) for piece in ('{"reasoning": "x", ', '"answer": [')], (100.0, says("1"))))

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, endless, other=answers(RIGHT), retries=0)
        await gateway.call(caller)
        assert gateway.loop.monotonic() < 5.0

    (call,) = play(scene)
    assert caller.text == RIGHT
    assert call.attempts[0].error == "contract_violated"
    assert call.attempts[0].estimated


def test_tokens_that_were_saved_are_counted():
    wrong = Play((*[(0.0, says(piece)) for piece in ('{"reasoning": "x", ', '"answer": [')], (0.0, ends() + DONE)))

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers(RIGHT), wrong, other=answers(RIGHT), retries=0)
        await gateway.call(Caller())
        await gateway.call(Caller())

    calls = play(scene)
    assert calls[1].attempts[0].saved_tokens > 0


@pytest.mark.parametrize("how", ["hold", "object"])
def test_a_stream_that_breaks_before_the_caller_has_any_of_it_begins_anew(how):
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, breaks(RIGHT[:20]), answers(RIGHT), feature={"stream": how})
        await gateway.call(caller)

    (call,) = play(scene)
    assert caller.text == RIGHT
    assert caller.resets == 0
    assert [attempt.error for attempt in call.attempts] == ["broken_stream", None]


def test_a_held_stream_is_mended_too():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers(WRONG), answers(RIGHT))
        await gateway.call(caller)

    (call,) = play(scene)
    assert caller.text == RIGHT
    assert [attempt.reason for attempt in call.attempts] == ["first", "reask"]


# --- objects ----------------------------------------------------------------------------------------------------------


def test_objects_grow_until_they_are_whole():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers(RIGHT[:22], RIGHT[22:35], RIGHT[35:], every=0.1), feature={"stream": "object"})
        await gateway.call(caller)

    play(scene)
    values = [value for value, _ in caller.objects]
    assert values[-1] == json.loads(RIGHT)
    assert caller.objects[-1][1] == ("/reasoning", "/answer", "")
    known = 0
    for value in values:
        assert set(value) <= {"reasoning", "answer"}
        assert "six times seven".startswith(value.get("reasoning", ""))
        assert len(value.get("reasoning", "")) >= known
        known = len(value.get("reasoning", ""))
    assert any("/reasoning" in complete for _, complete in caller.objects[:-1])
    assert caller.text == RIGHT


def test_objects_of_a_long_answer_are_told_less_often_so_that_they_stay_a_small_multiple_of_it():
    text = json.dumps({"reasoning": "x" * 40_000, "answer": 1})
    pieces = [text[at : at + 10] for at in range(0, len(text), 10)]
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers(*pieces), feature={"stream": "object"})
        await gateway.call(caller)

    play(scene)
    assert len(caller.objects) < len(pieces) / 4
    assert caller.objects[-1][0] == json.loads(text)


def test_a_caller_may_ask_for_objects():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers(RIGHT))
        await gateway.call(caller, hints=Hints(stream="object"))

    play(scene)
    assert caller.objects


@pytest.mark.parametrize("request_", [{}, {"n": 2}])
def test_objects_of_an_answer_that_has_none_are_refused(request_):
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers("Hi."), feature={} if request_ else {"contract": None})
        await gateway.call(caller, hints=Hints(stream="object"), **request_)

    play(scene)
    assert isinstance(caller.error, InvalidRequest)
    assert caller.error.param == "holdfast.stream"


# --- streams that are passed on ---------------------------------------------------------------------------------------


def test_pieces_are_passed_on_as_they_come():
    caller = Caller()
    seen: list[str] = []
    caller.on_chunks = lambda: seen.append(caller.text)

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers(RIGHT[:20], RIGHT[20:], every=1.0), feature={"stream": "pass"})
        await gateway.call(caller)

    play(scene)
    assert seen[0] == RIGHT[:20]
    assert caller.text == RIGHT


def test_no_byte_is_passed_on_after_which_the_answer_can_not_be_right():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        pieces = ('{"reasoning": "x", ', '"answer": [', "1]}")
        await serve(gateway, answers(*pieces, every=0.1), feature={"stream": "pass"})
        await gateway.call(caller)

    (call,) = play(scene)
    assert caller.text == '{"reasoning": "x", '
    assert isinstance(caller.error, ContractViolated)
    assert call.outcome == "error"


def test_a_passed_answer_that_is_wrong_from_its_start_is_mended_and_watched_again():
    caller = Caller()
    transports = []

    async def scene(gateway: Gateway) -> None:
        plays = (answers("Sure! ", RIGHT, every=0.1), answers("Here it is: ", RIGHT, every=0.1))
        transports.append(await serve(gateway, *plays, feature={"stream": "pass"}))
        await gateway.call(caller)

    (call,) = play(scene)
    assert caller.text == ""
    assert isinstance(caller.error, ContractViolated)
    assert [attempt.reason for attempt in call.attempts] == ["first", "reask", "reask"]
    assert [message["content"] for message in asked(transports[0], 1)][-2] == "Sure! "


def test_an_opening_without_a_word_is_no_part_of_an_answer():
    opening = Play((*[(0.0, piece) for piece in (delta(role="assistant", content="") + says("Sure!"),)],))
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, opening, answers(RIGHT), feature={"stream": "pass"})
        await gateway.call(caller)

    play(scene)
    assert caller.text == RIGHT
    assert caller.error is None


def test_what_came_before_the_first_word_is_passed_on_with_it_even_if_what_comes_next_is_wrong():
    opening = delta(role="assistant", content="")
    words = says('{"reasoning": "x", ') + says('"answer": [')
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, Play(((0.0, opening), (0.1, words))), feature={"stream": "pass"}, retries=0)
        await gateway.call(caller)

    play(scene)
    assert b"data: " + (caller.got[0].raw or b"") + b"\n\n" == opening
    assert caller.text == '{"reasoning": "x", '
    assert isinstance(caller.error, ContractViolated)


def test_no_argument_of_a_strict_tool_is_passed_on_after_which_the_call_can_not_be_right():
    def argues(arguments: str, **opening: Any) -> bytes:
        return delta(tool_calls=[{"index": 0, **opening, "function": {**opening, "arguments": arguments}}])

    pieces = (argues("", id="1", name="save", type="function"), argues('{"reasoning": "x", '), argues('"answer": ['))
    stream = Play((*[(0.1, piece) for piece in pieces], (0.0, argues("1]}") + ends("tool_calls") + DONE)))
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, stream, feature={"contract": None, "stream": "pass"})
        await gateway.call(caller, tools=(SAVE,))

    play(scene)
    passed = [piece.arguments for chunk in caller.got for piece in chunk.tool_calls]
    assert "".join(passed) == '{"reasoning": "x", '
    assert isinstance(caller.error, ContractViolated)


def test_an_answer_without_a_word_is_passed_over_for_the_next_model():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        silent = Play(((0.0, delta(role="assistant")), (0.0, ends() + DONE)))
        await serve(gateway, silent, other=answers(RIGHT), feature={"stream": "pass"}, retries=0)
        await gateway.call(caller)

    (call,) = play(scene)
    assert caller.text == RIGHT
    assert [attempt.error for attempt in call.attempts] == ["contract_violated", None]


def test_a_passed_answer_that_is_wrong_in_the_end_does_not_stop_as_if_it_were_right():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers('{"reasoning": "x"', every=0.1), feature={"stream": "pass"})
        await gateway.call(caller)

    (call,) = play(scene)
    assert isinstance(caller.error, ContractViolated)
    assert not any(chunk.finish and caller.error is None for chunk in caller.got)
    assert call.error == "contract_violated"


def test_what_was_wrong_is_told_where_another_model_could_not_go_on():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        wrong = answers('{"reasoning": "x", ', '"answer": [', every=0.1)
        await serve(gateway, wrong, other=answers(RIGHT), feature={"stream": "pass"})
        await gateway.call(caller)

    play(scene)
    assert isinstance(caller.error, ContractViolated)


def test_a_caller_who_takes_resets_gets_the_next_model_s_answer():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        wrong = answers('{"reasoning": "x", ', '"answer": [', every=0.1)
        await serve(gateway, wrong, other=answers(RIGHT), feature={"stream": "pass"})
        await gateway.call(caller, hints=Hints(on_break="reset"))

    play(scene)
    assert caller.resets == 1
    assert caller.text == RIGHT


# --- contracts that come with the call --------------------------------------------------------------------------------


def test_a_schema_in_the_request_is_kept_like_a_feature_s_own():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole(FENCED), feature={"contract": None})
        await gateway.call(
            caller, stream=False, response_format=ResponseFormat(type="schema", schema=SCHEMA, name="answer")
        )

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert call.contract == "request"


def test_a_schema_in_the_request_goes_on_as_it_came_where_the_server_takes_all_of_it():
    transports = []
    format = ResponseFormat(type="schema", schema=SCHEMA, name="sums", description="A sum.", strict=True)

    async def scene(gateway: Gateway) -> None:
        transports.append(await serve(gateway, whole(RIGHT), feature={"contract": None}))
        await gateway.call(Caller(), stream=False, response_format=format)

    play(scene)
    (request,) = transports[0].requests
    sent = json.loads(request.body)["response_format"]["json_schema"]
    assert sent == {"name": "sums", "description": "A sum.", "strict": True, "schema": SCHEMA}


def test_a_model_whose_server_is_not_known_to_enforce_a_schema_is_told_it_in_words_too():
    transports = []

    async def scene(gateway: Gateway) -> None:
        transports.append(await serve(gateway, whole(RIGHT)))
        await gateway.call(Caller(), stream=False)

    play(scene)
    assert "response_format" in json.loads(transports[0].requests[0].body)
    told, _ = asked(transports[0], 0)
    assert told["role"] == "system"
    assert '"reasoning"' in told["content"]


def test_a_model_is_told_beforehand_what_no_server_enforces():
    transports = []
    settings = {"schema": SCHEMA, "fields": {"/reasoning": {"words": {"max": 5}}}}
    contract = parse_contract("answer.json", json.dumps({"contract": settings}))

    async def scene(gateway: Gateway) -> None:
        first = Staged(whole(RIGHT))
        transports.append(first)
        gateway.model("first", first, server=OPENAI)
        gateway.serve(feature={"contract": contract})
        await gateway.call(Caller(), stream=False)

    play(scene)
    told, _ = asked(transports[0], 0)
    assert "5" in told["content"]
    assert '"properties"' not in told["content"]


def test_a_request_for_any_json_gets_json():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, whole("```json\n{'a': 1}\n```"), feature={"contract": None})
        await gateway.call(caller, stream=False, response_format=ResponseFormat(type="json"))

    play(scene)
    assert json.loads(caller.said) == {"a": 1}


def test_a_schema_that_can_not_be_used_is_refused_before_any_model_is_asked():
    caller = Caller()
    transports = []

    async def scene(gateway: Gateway) -> None:
        transports.append(await serve(gateway, whole(RIGHT), feature={"contract": None}))
        broken = {"type": "object", "properties": {"a": {"type": "nothing"}}}
        await gateway.call(caller, stream=False, response_format=ResponseFormat(type="schema", schema=broken))

    play(scene)
    assert isinstance(caller.error, InvalidRequest)
    assert caller.error.param is not None
    assert caller.error.param.startswith("response_format")
    assert transports[0].requests == []


def tool_call(arguments: str) -> Play:
    function = {"name": "save", "arguments": arguments}
    message = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    body = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    return Play(((0.0, json.dumps(body).encode()),), headers=((b"content-type", b"application/json"),))


def test_the_arguments_of_a_strict_tool_are_repaired():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, tool_call(RIGHT[:-1] + ",}"), feature={"contract": None})
        await gateway.call(caller, stream=False, tools=(SAVE,))

    (call,) = play(scene)
    (part,) = caller.whole.choices[0].parts  # type: ignore[union-attr]
    assert json.loads(part.arguments) == json.loads(RIGHT)  # type: ignore[union-attr]
    assert [repair.tool for repair in call.ledger] == [0]


def test_a_strict_tool_refuses_wrong_arguments_and_the_model_calls_it_again():
    caller = Caller()
    transports = []

    async def scene(gateway: Gateway) -> None:
        transports.append(await serve(gateway, tool_call(WRONG), tool_call(RIGHT), feature={"contract": None}))
        await gateway.call(caller, stream=False, tools=(SAVE,))

    (call,) = play(scene)
    assert [attempt.reason for attempt in call.attempts] == ["first", "reask"]
    *_, calling, result = asked(transports[0], 1)
    assert calling["tool_calls"][0]["function"]["arguments"] == WRONG
    assert result["role"] == "tool"
    assert "/answer" in result["content"]


def test_tools_that_are_not_strict_are_left_alone():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, tool_call("{oops"), feature={"contract": None})
        await gateway.call(caller, stream=False, tools=(Tool(name="save", parameters=SCHEMA),))

    play(scene)
    (part,) = caller.whole.choices[0].parts  # type: ignore[union-attr]
    assert part.arguments == "{oops"  # type: ignore[union-attr]


# --- other faults -----------------------------------------------------------------------------------------------------


def test_a_model_that_fails_otherwise_is_retried_as_ever():
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, fails(500), whole(RIGHT))
        await gateway.call(caller, stream=False)

    (call,) = play(scene)
    assert caller.said == RIGHT
    assert [attempt.reason for attempt in call.attempts] == ["first", "retry"]


def test_a_refusal_is_no_violation():
    refused = Play(((0.0, delta(refusal="I won't.")), (0.0, ends() + DONE)))
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, refused)
        await gateway.call(caller)

    (call,) = play(scene)
    assert caller.error is None
    assert call.outcome == "answered"


# --- in process -------------------------------------------------------------------------------------------------------


def test_a_stream_in_process_has_no_end_before_the_whole_is_known_to_be_right():
    got: list[Any] = []

    async def collect(stream: AsyncIterator[Any]) -> None:
        async for chunk in stream:
            got.append(chunk)  # noqa: PERF401 - what came before the error counts

    async def scene(gateway: Gateway) -> None:
        await serve(gateway, answers('{"reasoning": "x"', every=0.1), feature={"stream": "pass"}, retries=0)
        with pytest.raises(ContractViolated):
            await collect(gateway.in_process().stream("answer", "?"))

    play(scene)
    assert "".join(chunk.text for chunk in got) == '{"reasoning": "x"'
    assert not any(chunk.finish for chunk in got)
