"""The `anthropic` package and contracts: what it gets meets them or is its own exception, whatever the model's wire."""

import json

import anthropic
import pytest

from acceptance.contracts import FENCED, PART, RIGHT, SCHEMA, VALUE, WRONG, says
from acceptance.gateways import MODELS
from acceptance.sdks import QUESTION, USER, Depth, each, listed, opened, settled

pytestmark = pytest.mark.asyncio(loop_scope="session")
every_wire = pytest.mark.parametrize("model", MODELS)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
FORMAT = {"type": "json_schema", "schema": SCHEMA}
TOOL = {"name": "save", "description": "Saves it.", "strict": True, "input_schema": SCHEMA}


async def ask(client, model, streamed, **more):
    """Return a message, put together by the package where it is streamed."""
    if not streamed:
        return await settled(client.messages.create(model=model, messages=USER, max_tokens=99, **more))
    async with opened(client.messages.stream(model=model, messages=USER, max_tokens=99, **more)) as stream:
        return await settled(stream.get_final_message())


async def broken(manager):
    """Return what of a stream came before it failed, and how it did."""
    events = []
    try:
        async with opened(manager) as stream:
            async for event in each(stream):
                events.append(event)  # noqa: PERF401 - kept when it breaks
    except anthropic.APIError as error:
        return events, error
    raise AssertionError("it did not fail")


def text_of(message):
    return "".join([block.text for block in message.content if block.type == "text"])


@every_wire
@both_ways
@pytest.mark.parametrize("said", [RIGHT, FENCED], ids=["valid", "repaired"])
async def test_an_answer_meets_the_feature_s_contract(kept_claude, providers, model, streamed, said):
    says(providers, model, said)
    message = await ask(kept_claude, f"depth-{model}", streamed)
    assert json.loads(text_of(message)) == VALUE
    assert message.stop_reason == "end_turn"
    if said == RIGHT:
        assert text_of(message) == RIGHT


@every_wire
@both_ways
async def test_a_model_is_asked_for_the_failing_part_again(kept_claude, providers, model, streamed):
    says(providers, model, WRONG, RIGHT if streamed else PART)
    message = await ask(kept_claude, f"depth-{model}", streamed)
    assert json.loads(text_of(message)) == VALUE
    _, second = providers.received(model)
    assert message.usage.output_tokens >= second.tokens
    assert "/metres" in json.dumps(second.body)


@every_wire
@both_ways
async def test_a_refused_answer_is_the_sdk_s_own_exception(kept_claude, keeping, providers, model, streamed):
    says(providers, model, "I would rather not say.")
    with pytest.raises(anthropic.InternalServerError) as caught:
        await ask(kept_claude, f"depth-{model}", streamed)
    assert caught.value.status_code == 502
    assert "does not meet its contract 'depth.json'" in caught.value.message
    assert keeping.call(caught.value.body["request_id"])["error"] == "contract_violated"


@every_wire
@both_ways
@pytest.mark.parametrize("said", [RIGHT, FENCED], ids=["valid", "repaired"])
@pytest.mark.parametrize("how", [{"output_config": {"format": FORMAT}}], ids=["output_config"])
async def test_a_schema_comes_with_the_call(kept_claude, providers, model, streamed, said, how):
    says(providers, model, said)
    message = await ask(kept_claude, f"plain-{model}", streamed, **how)
    assert json.loads(text_of(message)) == VALUE


@every_wire
@pytest.mark.parametrize("said", [RIGHT, FENCED], ids=["valid", "repaired"])
async def test_an_answer_is_parsed_into_the_caller_s_type(kept_claude, providers, model, said):
    says(providers, model, said)
    parse = kept_claude.messages.parse
    message = await settled(parse(model=model, messages=USER, max_tokens=99, output_format=Depth))
    assert message.parsed_output == Depth(**VALUE)


@every_wire
async def test_the_older_name_of_the_format_is_kept_as_well(kept_claude, providers, model):
    says(providers, model, FENCED)
    message = await ask(kept_claude, model, False, extra_body={"output_format": FORMAT})
    assert json.loads(text_of(message)) == VALUE


@both_ways
async def test_a_schema_that_can_not_be_used_is_the_caller_s_mistake(kept_claude, providers, streamed):
    broken = {"type": "json_schema", "schema": {"properties": {"a": {"type": "no"}}}}
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(kept_claude, "claude", streamed, output_config={"format": broken})
    assert "output_config.format.schema" in caught.value.message
    assert "/properties/a/type" in caught.value.message
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(kept_claude, "claude", streamed, extra_body={"output_format": broken})
    assert "output_format.schema" in caught.value.message
    assert providers.requests == []


# --- strict tools -----------------------------------------------------------------------------------------------------


@every_wire
@both_ways
async def test_a_strict_tool_is_called_with_what_its_schema_takes(kept_claude, model, streamed):
    message = await ask(kept_claude, model, streamed, tools=[TOOL])
    (use,) = [block for block in message.content if block.type == "tool_use"]
    assert use.input == {"place": QUESTION, "metres": 1}
    assert message.stop_reason == "tool_use"


async def test_a_strict_tool_that_is_called_wrong_is_called_again(kept_claude, providers):
    use = {"type": "tool_use", "id": "toolu_1", "name": "save", "input": json.loads(WRONG)}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [use]}
    answer |= {"stop_reason": "tool_use", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    fault = {"kind": "status", "status": 200, "body": json.dumps(answer), "times": 1}
    providers.follow({"models": {"claude": {"faults": [fault]}}})
    message = await ask(kept_claude, "claude", False, tools=[TOOL])
    assert message.content[-1].type == "text"
    result = providers.received("claude")[1].body["messages"][-1]["content"][0]
    assert (result["type"], result["is_error"]) == ("tool_result", True)
    assert "/metres" in json.dumps(result["content"])


# --- streams ----------------------------------------------------------------------------------------------------------


@every_wire
async def test_the_package_bears_objects_on_the_stream(kept_claude, providers, model):
    says(providers, model, FENCED)
    headers = {"x-holdfast-stream": "object"}
    message = await ask(kept_claude, f"depth-{model}", True, extra_headers=headers)
    assert json.loads(text_of(message)) == VALUE
    events = await listed(
        kept_claude.messages.create(model=f"objects-{model}", messages=USER, max_tokens=99, stream=True)
    )
    assert [event.type for event in events if event.type != "holdfast.object"] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]


@every_wire
async def test_objects_grow_on_the_stream(kept_claude, providers, model):
    providers.follow({"models": {model: {"text": RIGHT, "tps": 100}}})
    stream = kept_claude.messages.create(model=f"objects-{model}", messages=USER, max_tokens=99, stream=True)
    told = [event.holdfast for event in await listed(stream) if event.type == "holdfast.object"]
    assert len(told) > 2
    assert told[-1] == {"event": "object", "object": VALUE, "complete": ["/place", "/metres", ""]}
    assert any("/place" in one["complete"] and "metres" not in one["object"] for one in told)


@every_wire
async def test_a_passed_stream_ends_at_the_token_that_breaks_the_contract(kept_claude, providers, model):
    providers.follow({"models": {model: {"text": WRONG + " and so on" * 50, "tps": 100}}})
    events, error = await broken(kept_claude.messages.stream(model=f"passed-{model}", messages=USER, max_tokens=99))
    assert "contract" in error.message
    said = "".join([event.text for event in events if event.type == "text"])
    assert said
    assert WRONG.startswith(said)
    assert "quite" not in said
    assert not any(event.type == "message_stop" for event in events)
