"""Contracts and Claude models that know no schema: they answer through a tool, of which no caller sees anything."""

import json
from typing import Any

import anthropic
import openai
import pytest

from acceptance.contracts import FILES, PART, RIGHT, VALUE, WRONG
from acceptance.gateways import CALLER_KEY, configuration, running_gateway
from acceptance.sdks import QUESTION, USER

MODEL = "claude-3-7-sonnet-latest"
NAME = "holdfast_answer"
ANSWER = {"place": QUESTION, "metres": 1}
"""What the simulated model makes of the schema."""
HOW = ("hold", "pass", "object")
both_ways = pytest.mark.parametrize("streamed", [False, *HOW], ids=["whole", *HOW])
TOOL = {"name": "look_up", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    features = [
        f'[features.{how}]\nmodels = ["old"]\ncontract = "depth.json"\nstream = "{how}"\nretries = 1' for how in HOW
    ]
    model = f'[models.old]\nprovider = "anthropic"\nname = "{MODEL}"\nbase_url = "{simulator.url("anthropic")}"'
    config = configuration(simulator, more="\n".join([model, *features]))
    with running_gateway(tmp_path_factory.mktemp("forced"), config, files=FILES) as running:
        yield running


@pytest.fixture
def claude(gateway, providers):
    with anthropic.Anthropic(base_url=gateway.url, api_key=CALLER_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(gateway, providers):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=CALLER_KEY, max_retries=0) as client:
        yield client


def asked_of_claude(client: anthropic.Anthropic, streamed: Any, **more: Any) -> Any:
    more = {"messages": USER, "max_tokens": 99, "model": streamed or "hold"} | more
    if not streamed:
        return client.messages.create(**more)
    with client.messages.stream(**more) as stream:
        return stream.get_final_message()


def asked_of_gpt(client: openai.OpenAI, streamed: Any, **more: Any) -> Any:
    more = {"messages": USER, "model": streamed or "hold"} | more
    if not streamed:
        return client.chat.completions.create(**more)
    with client.chat.completions.stream(**more) as stream:
        return stream.get_final_completion()


def forced(request: Any) -> bool:
    return request.body.get("tool_choice", {}).get("name") == NAME


@both_ways
def test_the_anthropic_package_gets_the_input_of_the_tool_as_text(claude, providers, streamed):
    message = asked_of_claude(claude, streamed)
    assert [block.type for block in message.content] == ["text"]
    assert json.loads(message.content[0].text) == ANSWER
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0
    assert NAME not in message.to_json()
    (request,) = providers.received(MODEL)
    assert forced(request)
    assert request.body["tools"][0]["input_schema"] == json.loads(FILES["depth.json"])


@both_ways
def test_the_openai_package_gets_the_input_of_the_tool_as_text(gpt, providers, streamed):
    completion = asked_of_gpt(gpt, streamed)
    (choice,) = completion.choices
    assert json.loads(choice.message.content) == ANSWER
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert NAME not in completion.to_json()
    assert all(forced(request) for request in providers.received(MODEL))


@pytest.mark.parametrize("streamed", [False, "old"], ids=["whole", "streamed"])
def test_a_schema_that_comes_with_the_call_is_the_tool_as_well(claude, gpt, providers, streamed):
    schema = json.loads(FILES["depth.json"])
    format = {"format": {"type": "json_schema", "schema": schema}}
    message = asked_of_claude(claude, streamed, model="old", output_config=format)
    assert json.loads(message.content[0].text) == ANSWER
    format = {"type": "json_schema", "json_schema": {"name": "depth", "schema": schema, "strict": True}}
    completion = asked_of_gpt(gpt, streamed, model="old", response_format=format)
    assert json.loads(completion.choices[0].message.content) == ANSWER
    assert [forced(request) for request in providers.received(MODEL)] == [True, True]


@pytest.mark.parametrize("streamed", [False, "hold", "object"])
def test_a_model_that_does_not_call_the_tool_is_judged_by_what_it_says(claude, providers, streamed):
    never = {"tools": "never"}
    mended = RIGHT if streamed else PART  # a stream is given up in its middle, so there is nothing to mend
    providers.follow({"models": {MODEL: never | {"text": mended, "steps": [never | {"text": WRONG}]}}})
    message = asked_of_claude(claude, streamed)
    assert json.loads(message.content[0].text) == VALUE
    first, second = providers.received(MODEL)
    assert (forced(first), forced(second)) == (True, bool(streamed))
    if not streamed:  # no property of an input can be called as the part is
        assert "/metres" in second.body["system"]


def test_an_input_that_was_cut_is_no_answer_though_it_meets_the_contract(claude, gpt, providers):
    use = {"type": "tool_use", "id": "toolu_1", "name": NAME, "input": VALUE}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [use]}
    answer |= {"stop_reason": "max_tokens", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    fault = {"kind": "status", "status": 200, "body": json.dumps(answer)}
    providers.follow({"models": {MODEL: {"faults": [fault]}}})
    with pytest.raises(anthropic.InternalServerError, match="does not meet its contract"):
        asked_of_claude(claude, False)
    with pytest.raises(openai.InternalServerError):
        asked_of_gpt(gpt, False)


@pytest.mark.parametrize("streamed", [False, "old"], ids=["whole", "streamed"])
def test_a_caller_s_own_tools_are_called_as_ever(claude, streamed):
    message = asked_of_claude(claude, streamed, model="old", tools=[TOOL])
    assert [block.name for block in message.content] == ["look_up"]
    assert message.stop_reason == "tool_use"


@both_ways
def test_a_request_with_tools_or_thinking_is_told_in_words(claude, providers, streamed):
    providers.follow({"models": {MODEL: {"tools": "never", "text": RIGHT}}})
    thinking = {"type": "enabled", "budget_tokens": 1024}
    for more in ({"tools": [TOOL]}, {"thinking": thinking, "max_tokens": 4096}):
        message = asked_of_claude(claude, streamed, **more)
        assert [block.text for block in message.content if block.type == "text"] == [RIGHT]
    for request in providers.received(MODEL):
        assert not forced(request)
        assert "metres" in json.dumps(request.body["system"])
