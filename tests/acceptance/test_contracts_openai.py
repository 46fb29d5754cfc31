"""The `openai` package and contracts: what it gets meets them or is its own exception, whatever the model's wire."""

import json

import openai
import pytest

from acceptance.contracts import FENCED, PART, RIGHT, SCHEMA, VALUE, WRONG, says
from acceptance.gateways import MODELS
from acceptance.sdks import QUESTION, USER, Depth, each, listed, opened, settled

pytestmark = pytest.mark.asyncio(loop_scope="session")
every_wire = pytest.mark.parametrize("model", MODELS)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
FORMAT = {"type": "json_schema", "json_schema": {"name": "depth", "strict": True, "schema": SCHEMA}}
PARSED = Depth(**VALUE)
STRICT = openai.pydantic_function_tool(Depth, name="save")


def joined(chunks):
    return "".join([choice.delta.content or "" for chunk in chunks for choice in chunk.choices])


def objects(chunks):
    """The objects that a stream told, with what of them was complete."""
    told = [(chunk.model_extra or {}).get("holdfast", {}) for chunk in chunks]
    return [(one["object"], one["complete"]) for one in told if one.get("event") == "object"]


async def broken(stream):
    """Return what of a stream came before it failed, and how it did."""
    chunks = []
    try:
        async for chunk in each(stream):
            chunks.append(chunk)  # noqa: PERF401 - kept when it breaks
    except openai.APIError as error:
        return chunks, error
    raise AssertionError("it did not fail")


async def streamed_to_its_end(client, **request):
    """Return what the helper for streams makes of a whole stream."""
    async with opened(client.chat.completions.stream(messages=USER, **request)) as events:
        return await settled(events.get_final_completion())


async def ask(client, model, streamed, **more):
    """Return the text of an answer and the id of its call."""
    create = client.chat.completions.with_raw_response.create
    raw = await settled(create(model=model, messages=USER, stream=streamed, **more))
    answer = raw.parse()
    if not streamed:
        return answer.choices[0].message.content, raw.headers["x-holdfast-call"]
    return joined(await listed(answer)), raw.headers["x-holdfast-call"]


# --- a feature's own contract -----------------------------------------------------------------------------------------


@every_wire
@both_ways
async def test_an_answer_that_meets_the_feature_s_contract_comes_as_it_is(
    kept_gpt, keeping, providers, model, streamed
):
    says(providers, model, RIGHT)
    text, id = await ask(kept_gpt, f"depth-{model}", streamed)
    assert text == RIGHT
    call = keeping.call(id)
    assert (call["contract"], call.get("repairs", 0), len(call["attempts"])) == ("depth.json", 0, 1)
    assert "metres" in json.dumps(providers.received(model)[0].body)


@every_wire
@both_ways
async def test_an_answer_is_repaired_and_the_ledger_says_how(kept_gpt, keeping, providers, model, streamed):
    says(providers, model, FENCED)
    text, id = await ask(kept_gpt, f"depth-{model}", streamed)
    assert json.loads(text) == VALUE
    call = keeping.call(id)
    assert call["repairs"] == len(call["ledger"]) > 4
    kept = FENCED
    for repair in reversed(call["ledger"]):
        before, at = repair["before"], repair["offset"]
        assert kept.startswith(before, at)
        kept = kept[:at] + repair["after"] + kept[at + len(before) :]
    assert kept == text


@every_wire
@both_ways
async def test_a_model_is_asked_for_the_failing_part_again(kept_gpt, keeping, providers, model, streamed):
    says(providers, model, WRONG, RIGHT if streamed else PART)  # a stream is given up before there are parts
    text, id = await ask(kept_gpt, f"depth-{model}", streamed)
    assert json.loads(text) == VALUE
    call = keeping.call(id)
    assert [attempt.get("reason", "first") for attempt in call["attempts"]] == ["first", "reask"]
    assert [attempt.get("error") for attempt in call["attempts"]] == ["contract_violated", None]
    told = json.dumps(providers.received(model)[1].body)
    assert "/metres" in told
    assert "quite" in told


@every_wire
async def test_a_model_may_give_all_of_its_answer_anew_instead_of_a_part(kept_gpt, providers, model):
    says(providers, model, WRONG, FENCED)
    text, _ = await ask(kept_gpt, f"depth-{model}", False)
    assert json.loads(text) == VALUE
    assert len(providers.received(model)) == 2


@every_wire
@both_ways
async def test_a_refused_answer_is_the_sdk_s_own_exception(kept_gpt, keeping, providers, model, streamed):
    says(providers, model, "I would rather not say.")
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(kept_gpt, f"depth-{model}", streamed)
    assert (caught.value.status_code, caught.value.code) == (502, "contract_violated")
    assert "depth.json" in caught.value.message
    call = keeping.call(caught.value.body["call"])
    assert [attempt.get("reason", "first") for attempt in call["attempts"]] == ["first", "reask", "reask"]


@both_ways
async def test_the_next_model_answers_where_one_can_not(kept_gpt, keeping, providers, streamed):
    providers.follow({"models": {"gpt": {"text": "no"}, "claude": {"text": WRONG}, "gemini": {"text": FENCED}}})
    text, id = await ask(kept_gpt, "ladder", streamed)
    assert json.loads(text) == VALUE
    call = keeping.call(id)
    assert [(attempt["model"], attempt.get("error")) for attempt in call["attempts"]] == [
        ("gpt", "contract_violated"),
        ("claude", "contract_violated"),
        ("gemini", None),
    ]
    assert call["model"] == "gemini"


@every_wire
@both_ways
@pytest.mark.parametrize(
    ("name", "said", "text"),
    [
        ("colour", "brown", "brown"),
        ("colour", " `Brown` ", "brown"),
        ("code", "AB-1234", "AB-1234"),
        ("code", "```\nAB-1234\n```", "AB-1234"),
    ],
)
async def test_a_text_is_held_to_choices_and_patterns(kept_gpt, providers, model, streamed, name, said, text):
    says(providers, model, said)
    assert (await ask(kept_gpt, f"{name}-{model}", streamed))[0] == text


@every_wire
@both_ways
async def test_what_python_says_of_an_answer_counts(kept_gpt, keeping, providers, model, streamed):
    deep = RIGHT.replace("30", "3000")
    says(providers, model, deep, RIGHT if streamed else PART)
    text, id = await ask(kept_gpt, f"shallow-{model}", streamed)
    assert text == RIGHT
    assert "no kelp grows 3000 metres deep" in json.dumps(providers.received(model)[1].body)
    assert keeping.call(id)["attempts"][0]["error"] == "contract_violated"


@every_wire
async def test_the_helpers_of_the_sdk_parse_what_the_feature_promises(kept_gpt, providers, model):
    says(providers, model, FENCED)
    parse = kept_gpt.chat.completions.parse
    reply = await settled(parse(model=f"depth-{model}", messages=USER, response_format=Depth))
    assert reply.choices[0].message.parsed == PARSED


async def test_a_call_brings_a_narrower_contract_than_the_feature_s(kept_gpt, providers):
    says(providers, "gpt", RIGHT)
    narrow = {**FORMAT, "json_schema": {"name": "n", "schema": {"properties": {"metres": {"maximum": 3}}}}}
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(kept_gpt, "depth-gpt", False, response_format=narrow)
    assert caught.value.code == "contract_violated"


# --- a contract that comes with the call ------------------------------------------------------------------------------


@every_wire
@pytest.mark.parametrize("said", [RIGHT, FENCED], ids=["valid", "repaired"])
async def test_an_answer_is_parsed_into_the_caller_s_type(kept_gpt, providers, model, said):
    says(providers, model, said)
    reply = await settled(kept_gpt.chat.completions.parse(model=model, messages=USER, response_format=Depth))
    assert reply.choices[0].message.parsed == PARSED


@every_wire
@pytest.mark.parametrize("said", [RIGHT, FENCED], ids=["valid", "repaired"])
async def test_a_streamed_answer_is_parsed_into_the_caller_s_type(kept_gpt, providers, model, said):
    says(providers, model, said)
    final = await streamed_to_its_end(kept_gpt, model=f"plain-{model}", response_format=Depth)
    assert final.choices[0].message.parsed == PARSED


@every_wire
async def test_a_stream_of_a_model_itself_is_passed_on_and_mended_before_its_first_word(kept_gpt, providers, model):
    says(providers, model, FENCED, RIGHT)
    text, _ = await ask(kept_gpt, model, True, response_format=FORMAT)
    assert text == RIGHT
    says(providers, model, FENCED)
    with pytest.raises(openai.InternalServerError) as caught:  # before a stream began
        await ask(kept_gpt, model, True, response_format=FORMAT)
    assert caught.value.code == "contract_violated"


@every_wire
async def test_an_answer_is_mended_into_the_caller_s_type(kept_gpt, providers, model):
    says(providers, model, WRONG, PART)
    reply = await settled(kept_gpt.chat.completions.parse(model=f"{model}", messages=USER, response_format=Depth))
    assert reply.choices[0].message.parsed == PARSED


@both_ways
async def test_a_schema_that_can_not_be_used_is_the_caller_s_mistake(kept_gpt, providers, streamed):
    broken = {"type": "json_schema", "json_schema": {"name": "b", "schema": {"properties": {"a": {"type": "no"}}}}}
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(kept_gpt, "gpt", streamed, response_format=broken)
    assert caught.value.param == "response_format.json_schema.schema"
    assert caught.value.code == "invalid_request"
    assert providers.requests == []


@every_wire
async def test_any_json_object_is_repaired_too(kept_gpt, providers, model):
    says(providers, model, "```json\n{'a': 1,}\n```")
    text, _ = await ask(kept_gpt, model, False, response_format={"type": "json_object"})
    assert json.loads(text) == {"a": 1}


# --- strict tools -----------------------------------------------------------------------------------------------------


@every_wire
@both_ways
async def test_a_strict_tool_is_called_with_what_its_type_takes(kept_gpt, keeping, model, streamed):
    if streamed:
        reply = await streamed_to_its_end(kept_gpt, model=model, tools=[STRICT])
    else:
        reply = await settled(kept_gpt.chat.completions.parse(model=model, messages=USER, tools=[STRICT]))
    (call,) = reply.choices[0].message.tool_calls
    assert call.function.parsed_arguments == Depth(place=QUESTION, metres=1)
    assert reply.choices[0].finish_reason == "tool_calls"


def calling(arguments):
    function = {"name": "save", "arguments": arguments}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    answer["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    return {"kind": "status", "status": 200, "body": json.dumps(answer)}


async def test_the_arguments_of_a_strict_tool_are_repaired(kept_gpt, keeping, providers):
    providers.follow({"models": {"gpt": {"faults": [calling(RIGHT[:-1] + ",}")]}}})
    raw = await settled(kept_gpt.chat.completions.with_raw_response.create(model="gpt", messages=USER, tools=[STRICT]))
    (call,) = raw.parse().choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == VALUE
    logged = keeping.call(raw.headers["x-holdfast-call"])
    assert [repair["tool"] for repair in logged["ledger"]] == [0]


async def test_a_strict_tool_that_is_called_wrong_is_called_again(kept_gpt, providers):
    providers.follow({"models": {"gpt": {"faults": [calling(WRONG) | {"times": 1}]}}})
    raw = await settled(kept_gpt.chat.completions.with_raw_response.create(model="gpt", messages=USER, tools=[STRICT]))
    assert raw.headers["x-holdfast-attempts"] == "2"
    result = providers.received("gpt")[1].body["messages"][-1]
    assert result["role"] == "tool"
    assert "/metres" in result["content"]


# --- streams ----------------------------------------------------------------------------------------------------------


@every_wire
async def test_objects_grow_on_the_stream_and_the_text_comes_at_its_end(kept_gpt, providers, model):
    providers.follow({"models": {model: {"text": RIGHT, "tps": 100}}})
    create = kept_gpt.chat.completions.create
    headers = {"x-holdfast-stream": "object"}
    chunks = await listed(create(model=f"depth-{model}", messages=USER, stream=True, extra_headers=headers))
    told = objects(chunks)
    assert len(told) > 2
    assert told[-1] == (VALUE, ["/place", "/metres", ""])
    assert any("/place" in complete and "metres" not in value for value, complete in told)
    for value, complete in told:
        assert set(value) <= set(VALUE)
        assert VALUE["place"].startswith(value.get("place", ""))
        assert all(value[key[1:]] == VALUE[key[1:]] for key in complete if key)
    assert joined(chunks) == RIGHT
    assert chunks[-1].model_extra["holdfast"]["outcome"] == "answered"


@every_wire
async def test_a_feature_streams_objects_of_a_fenced_answer_without_the_caller_asking(kept_gpt, providers, model):
    says(providers, model, FENCED)
    create = kept_gpt.chat.completions.create
    chunks = await listed(create(model=f"objects-{model}", messages=USER, stream=True))
    assert objects(chunks)[-1] == (VALUE, ["/place", "/metres", ""])
    assert json.loads(joined(chunks)) == VALUE


@every_wire
async def test_the_helper_for_streams_bears_objects(kept_gpt, providers, model):
    says(providers, model, RIGHT)
    final = await streamed_to_its_end(kept_gpt, model=f"objects-{model}", response_format=Depth)
    assert final.choices[0].message.parsed == PARSED


@every_wire
async def test_a_stream_is_held_until_it_is_known_to_be_right(kept_gpt, providers, model):
    providers.follow({"models": {model: {"text": RIGHT, "tps": 50}}})
    fate, chunks = None, []
    async for chunk in each(kept_gpt.chat.completions.create(model=f"depth-{model}", messages=USER, stream=True)):
        fate = fate or providers.received(model)[0].fate
        chunks.append(chunk)
    assert fate == "complete"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]


@every_wire
async def test_a_stream_is_passed_on_as_it_comes(kept_gpt, providers, model):
    providers.follow({"models": {model: {"text": RIGHT, "tps": 50}}})
    fate, chunks = None, []
    async for chunk in each(kept_gpt.chat.completions.create(model=f"passed-{model}", messages=USER, stream=True)):
        if chunk.choices and chunk.choices[0].delta.content:
            fate = fate or providers.received(model)[0].fate
        chunks.append(chunk)
    assert fate == "pending"
    assert joined(chunks) == RIGHT


@every_wire
async def test_a_passed_stream_ends_at_the_token_that_breaks_the_contract(kept_gpt, keeping, providers, model):
    providers.follow({"models": {model: {"text": WRONG + " and so on" * 50, "tps": 100}}})
    stream = kept_gpt.chat.completions.create(model=f"passed-{model}", messages=USER, stream=True)
    chunks, error = await broken(stream)
    assert error.code == "contract_violated"
    assert WRONG.startswith(joined(chunks))
    assert "quite" not in joined(chunks)
    assert not any(choice.finish_reason for chunk in chunks for choice in chunk.choices)
    assert providers.wait_for(lambda record: record.hung_up_at is not None).tokens < 20


@every_wire
async def test_a_held_stream_that_can_not_be_right_is_given_up_at_the_provider(kept_gpt, keeping, providers, model):
    endless = {"text": WRONG + " and so on" * 500, "tps": 100}
    providers.follow({"models": {model: {"text": RIGHT, "steps": [endless]}}})
    text, _ = await ask(kept_gpt, f"depth-{model}", True)
    assert text == RIGHT
    assert providers.wait_for(lambda record: record.hung_up_at is not None).tokens < 20


async def test_a_caller_who_can_bear_it_gets_the_next_answer_from_its_start(kept_gpt, providers):
    other = RIGHT.replace("the kelp forest", "a reef")
    providers.follow({"models": {"gpt": {"text": WRONG, "tps": 100}, "claude": {"text": other}}})
    headers = {"x-holdfast-on-break": "reset"}
    create = kept_gpt.chat.completions.create
    chunks = await listed(create(model="passing-ladder", messages=USER, stream=True, extra_headers=headers))
    (at,) = [
        index
        for index, chunk in enumerate(chunks)
        if (chunk.model_extra or {}).get("holdfast", {}).get("event") == "reset"
    ]
    assert WRONG.startswith(joined(chunks[:at]))
    assert joined(chunks[at:]) == other
    assert chunks[-1].model_extra["holdfast"]["model"] == "claude"


async def test_the_next_model_takes_up_a_passed_stream_where_it_says_the_same(kept_gpt, keeping, providers):
    providers.follow({"models": {"gpt": {"text": WRONG, "tps": 100}, "claude": {"text": RIGHT}}})
    text, id = await ask(kept_gpt, "passing-ladder", True)
    assert text == RIGHT
    assert [attempt.get("reason", "first") for attempt in keeping.call(id)["attempts"]] == ["first", "restart"]


# --- who has none -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["{'a': 1,}", "```json\n{}\n```", "  ", '{"a": 1} \n'])
@both_ways
async def test_without_a_contract_no_byte_is_changed(kept_gpt, keeping, providers, streamed, said):
    says(providers, "gpt", said)
    text, id = await ask(kept_gpt, "answer", streamed)
    assert text == said
    (record,) = providers.received("gpt")
    assert set(record.body) <= {"model", "messages", "stream", "stream_options"}
    assert keeping.call(id)["contract"] is None
