"""Answers of a given form from Claude models that know no format: through a tool that nobody but the model sees."""

import json
from itertools import pairwise
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from holdfast.chat import Chunk, Message, Reply, Request, ResponseFormat, Text, Tool, ToolCall, ToolChoice
from holdfast.errors import BadRequest
from holdfast.http.sse import ServerSentEvent, SSEParser
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.anthropic.answer_tool import NAME
from holdfast.providers.base import Endpoint, Source
from holdfast.providers.dialects import servers
from strategies import assemble

OLD = "claude-3-7-sonnet-latest"
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"type": "string", "minLength": 2}, "metres": {"type": "integer", "minimum": 1}},
    "required": ["place", "metres"],
    "additionalProperties": False,
}
FORMAT = ResponseFormat(type="schema", schema=SCHEMA, name="depth")
HELLO = Message(role="user", parts=(Text(text="How deep?"),))
OWN = Tool(name="look_up", parameters={"type": "object"})
ANSWER = '{"place": "the kelp forest", "metres": 30}'


def upstream(model: str = OLD, **endpoint: Any) -> AnthropicUpstream:
    return AnthropicUpstream(
        Endpoint(**({"model": model, "base_url": "https://host.example", "server": servers.ANTHROPIC} | endpoint))
    )


def ask(**fields: Any) -> Request:
    return Request(**({"model": "m", "messages": (HELLO,), "response_format": FORMAT} | fields))


def body(request: Request, source: Source | None = None, model: str = OLD, **endpoint: Any) -> Any:
    return json.loads(upstream(model, **endpoint).encode(request, source).body)


def of(schema: Any) -> Any:
    return body(ask(response_format=ResponseFormat(type="schema", schema=schema)))


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_schema_is_the_input_of_a_tool_that_the_model_is_forced_to_call() -> None:
    assert body(ask()) == {
        "model": OLD,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "How deep?"}]}],
        "tools": [
            {
                "name": "holdfast_answer",
                "description": "Gives the answer. The input of this tool is the whole answer.",
                "input_schema": SCHEMA,
            }
        ],
        "tool_choice": {"type": "tool", "name": "holdfast_answer", "disable_parallel_tool_use": True},
    }


def test_what_is_made_of_a_format_is_the_same_when_it_is_constrained_before() -> None:
    found = upstream().constrain(FORMAT)
    assert (found.format, found.enforced) == (FORMAT, ())
    assert {keyword.keyword for keyword in found.checked} >= {"type", "required", "minLength", "minimum"}
    assert body(ask(response_format=found.format)) == body(ask())


@pytest.mark.parametrize("model", ["claude-opus-4-1", "claude-sonnet-4-20250514", "claude-3-5-haiku-latest"])
def test_models_before_4_5_are_forced(model: str) -> None:
    assert body(ask(), model=model)["tool_choice"]["name"] == NAME


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-6", "claude-haiku-5-5", "house-model"])
def test_models_that_know_formats_are_not(model: str) -> None:
    sent = body(ask(), model=model)
    assert sent.keys().isdisjoint({"tools", "tool_choice", "system"})
    assert sent["output_config"]["format"]["schema"] == SCHEMA


def test_what_a_tool_can_not_say_of_a_schema_stands_in_its_description() -> None:
    schema = SCHEMA | {"not": {"required": ["depth"]}, "$schema": "http://json-schema.org/draft-07/schema#"}
    (tool,) = of(schema)["tools"]
    assert tool["input_schema"] == SCHEMA
    purpose, told = tool["description"].split("It is valid under this JSON Schema:\n")
    assert purpose.startswith("Gives the answer.")
    assert json.loads(told) == schema


def test_the_description_of_a_format_is_the_tool_s_too() -> None:
    format = ResponseFormat(type="schema", schema=SCHEMA, description="A depth below the surface.")
    assert "\n\nA depth below the surface." in body(ask(response_format=format))["tools"][0]["description"]


def test_an_object_that_is_defined_elsewhere_in_the_schema_is_an_input() -> None:
    schema = {"$ref": "#/$defs/Depth", "$defs": {"Depth": SCHEMA}}
    assert of(schema)["tools"][0]["input_schema"] == SCHEMA
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}
    recursive = of({"$ref": "#/$defs/Tree", "$defs": {"Tree": tree}})["tools"][0]["input_schema"]
    assert recursive == tree | {"$defs": {"Tree": tree}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": SCHEMA},
        {"type": ["object", "null"], "properties": {}},
        {"anyOf": [SCHEMA, {"type": "null"}]},
        {"type": "object", "anyOf": [SCHEMA, SCHEMA | {"required": []}]},
        {"type": "object", "properties": {"/metres": {"type": "integer"}}},
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"how deep": {"type": "integer"}}}}},
        {"type": "object", "properties": {"a" * 65: {}}},
        {"enum": [1, 2]},
        {"$ref": "#/nowhere"},
    ],
    ids=["array", "nullable", "alternatives", "object_of_alternatives", "slash", "space", "long", "enum", "nowhere"],
)
def test_a_schema_that_no_input_can_have_is_told_in_words(schema: Any) -> None:
    sent = of(schema)
    assert sent.keys() == {"model", "max_tokens", "messages", "system"}
    words, told = sent["system"].split("It is valid under this JSON Schema:\n")
    assert words.startswith("Answer with JSON and nothing else")
    assert json.loads(told) == schema


@pytest.mark.parametrize("schema", [None, {}])
def test_a_schema_that_says_nothing_asks_for_json(schema: Any) -> None:
    assert of(schema)["system"] == "Answer with JSON and nothing else: no code fence, no words around it."


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (OWN,)},
        {"tools": (OWN,), "tool_choice": ToolChoice(mode="required")},
        {"stop": ("END",)},
        {"reasoning_effort": "low"},
        {"reasoning_tokens": 2048},
        {"messages": (HELLO, Message(role="assistant", parts=(Text(text='{"place":'),)))},
        {"extra": {"thinking": {"type": "enabled", "budget_tokens": 2048}}},
    ],
    ids=["tools", "forced_tools", "stop", "effort", "budget", "prefill", "extra"],
)
def test_where_no_tool_can_be_forced_the_model_is_told_in_words(fields: dict[str, Any]) -> None:
    sent, plain = body(ask(**fields)), body(ask(**fields, response_format=None))
    assert json.dumps(SCHEMA, separators=(",", ":")) in sent.pop("system")
    assert sent == plain


@pytest.mark.parametrize(
    "settings",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"stop_sequences": ["END"]},
    ],
)
def test_settings_of_the_model_that_go_with_no_forced_tool_stay(settings: dict[str, Any]) -> None:
    sent = body(ask(), body=settings)
    assert "tool_choice" not in sent
    assert sent["system"].startswith("Answer with JSON")
    assert sent | settings == sent


def test_models_without_tools_are_told_in_words() -> None:
    assert body(ask(), model="claude-2.1").keys() == {"model", "max_tokens", "messages", "system"}


def test_thinking_that_is_declined_or_unknown_to_the_model_hinders_nothing() -> None:
    declined = body(ask(reasoning_effort="none"))
    assert (declined["tool_choice"]["name"], declined["thinking"]) == (NAME, {"type": "disabled"})
    unknown = body(ask(reasoning_effort="high"), model="claude-3-5-haiku-latest")
    assert unknown["tool_choice"]["name"] == NAME
    assert "thinking" not in unknown


def test_words_stand_after_the_system_s_own() -> None:
    system = Message(role="system", parts=(Text(text="You are a diver."),))
    blocks = body(ask(messages=(system, HELLO), tools=(OWN,)))["system"]
    assert [block["text"][:11] for block in blocks] == ["You are a d", "Answer with"]
    assert body(ask(messages=(system, HELLO)))["system"] == "You are a diver."


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_caller_s_own_format_becomes_the_tool_and_the_rest_stays_as_it_came(field: str) -> None:
    format = {"type": "json_schema", "schema": SCHEMA}
    said = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "How  deep?"}]}
    said[field] = {"format": format} if field == "output_config" else format
    request, source = AnthropicSurface().decode(json.dumps(said).encode(), "/v1/messages")
    sent = body(request, source)
    assert sent.keys() == {"model", "max_tokens", "messages", "tools", "tool_choice"}
    assert sent["messages"] == said["messages"]
    assert sent["tools"][0]["input_schema"] == SCHEMA


def test_the_thinking_of_a_caller_of_this_wire_stays() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    said = {"model": "m", "max_tokens": 1024, "messages": [{"role": "user", "content": "?"}], "thinking": thinking}
    said["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    sent = body(*AnthropicSurface().decode(json.dumps(said).encode(), "/v1/messages"))
    assert sent["thinking"] == thinking
    assert "tool_choice" not in sent


@pytest.mark.parametrize("model", [OLD, "claude-opus-4-6"])
def test_a_caller_s_tool_can_not_have_the_name(model: str) -> None:
    with pytest.raises(BadRequest, match=NAME) as caught:
        body(ask(tools=(OWN, Tool(name=NAME)), response_format=None), model=model)
    assert caught.value.param == "tools"


def test_a_gateway_may_stand_before_another() -> None:
    outer = upstream().encode(ask()).body
    request, source = AnthropicSurface().decode(outer, "/v1/messages")
    assert body(request, source) == json.loads(outer)


def test_a_schema_that_is_no_json_is_refused() -> None:
    with pytest.raises(BadRequest):
        of({"type": "object", "properties": {"a": {"enum": [object()]}}})


# --- whole answers ----------------------------------------------------------------------------------------------------


def answer(*content: Any, stop_reason: str = "tool_use", **fields: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": OLD, "content": content}
    usage = {"input_tokens": 9, "output_tokens": 5}
    return json.dumps(message | {"stop_reason": stop_reason, "stop_sequence": None, "usage": usage} | fields).encode()


def use(input: Any, name: str = NAME) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": input}


def spoken(reply: Reply) -> SdkMessage:
    return SdkMessage.model_validate_json(AnthropicSurface().encode(reply))


def test_the_input_of_the_tool_is_the_text_of_the_answer() -> None:
    reply = upstream().decode(answer(use(json.loads(ANSWER))))
    (choice,) = reply.choices
    assert (choice.parts, choice.finish) == ((Text(text=ANSWER),), "stop")
    assert reply.usage is not None
    assert reply.usage.output_tokens == 5
    assert NAME not in str(reply)


def test_a_caller_of_the_same_wire_sees_nothing_of_the_tool() -> None:
    said = answer(use(json.loads(ANSWER)), service={"tier": "c"})
    assert upstream().forwardable(said) is None
    message = spoken(upstream().decode(said))
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": ANSWER}]
    assert message.stop_reason == "end_turn"
    assert message.to_dict()["service"] == {"tier": "c"}


@pytest.mark.parametrize("block", [{"type": "text", "text": f'"{NAME}"'}, use({}, "look_up")], ids=["text", "tool"])
def test_an_answer_without_the_tool_is_forwarded_as_it_came(block: Any) -> None:
    said = answer(block)
    assert upstream().forwardable(said) is said


def test_a_model_that_does_not_call_the_tool_answers_all_the_same() -> None:
    (choice,) = upstream().decode(answer({"type": "text", "text": ANSWER}, stop_reason="end_turn")).choices
    assert (choice.text, choice.finish) == (ANSWER, "stop")


def test_words_beside_the_tool_are_not_lost() -> None:
    (choice,) = upstream().decode(answer({"type": "text", "text": "Here: "}, use({}))).choices
    assert (choice.text, choice.finish) == ("Here: {}", "stop")


def test_other_calls_stay_calls() -> None:
    (choice,) = upstream().decode(answer(use({"a": 1}), use({}, "look_up"))).choices
    assert choice.finish == "tool_calls"
    assert [type(part) for part in choice.parts] == [Text, ToolCall]


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [("max_tokens", "length"), ("model_context_window_exceeded", "length"), ("refusal", "refused")],
)
@pytest.mark.parametrize(("input", "text"), [({"place": "the"}, '{"place": "the"'), ({}, "{")])
def test_a_cut_answer_stays_open_though_the_server_closed_it(
    stop_reason: str, finish: str, input: Any, text: str
) -> None:
    (choice,) = upstream().decode(answer(use(input), stop_reason=stop_reason)).choices
    assert (choice.text, choice.finish) == (text, finish)


# --- streams ----------------------------------------------------------------------------------------------------------


def events(pieces: list[str], stop_reason: str = "tool_use", input: Any = None, before: str = "") -> bytes:
    """Return a stream whose answer comes in pieces, or as the whole `input` at once."""
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": OLD, "content": [], "stop_reason": None}
    start |= {"stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
    told: list[Any] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    blocks: list[tuple[Any, list[Any]]] = []
    if before:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": before}]))
    blocks.append((use(input or {}), [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces]]))
    for index, (block, deltas) in enumerate(blocks):
        told.append({"type": "content_block_start", "index": index, "content_block": block})
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        told.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": stop_reason, "stop_sequence": None}
    told += [{"type": "message_delta", "delta": ending, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
    return b"".join(b"event: %s\ndata: %s\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in told)


def streamed(stream: bytes, at: int | None = None) -> list[Chunk]:
    """Return what is decoded of a stream that arrives in two parts."""
    parser, decoder = SSEParser(), upstream().stream()
    found: list[ServerSentEvent] = [*parser.feed(stream[:at]), *parser.feed(stream[at:] if at else b""), *parser.end()]
    chunks = [chunk for event in found for chunk in decoder.feed(event)]
    assert decoder.complete
    return chunks


def heard(chunks: list[Chunk]) -> Any:
    """Return the message that a caller of the same wire puts together."""
    encoder = AnthropicSurface().stream(ask(stream=True), id="msg_call", model="m", created=0)
    out = b"".join([*(encoder.chunk(chunk, "anthropic") for chunk in chunks), encoder.end({})])
    assert NAME.encode() not in out
    message, buffers = None, {}
    for line in out.splitlines():
        if line.startswith(b"data: ") and b'"ping"' not in line:
            event = EVENT.validate_json(line.removeprefix(b"data: "))
            message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)
    return message


@given(st.lists(st.integers(0, len(ANSWER)), max_size=9), st.integers(1, 2000))
def test_a_streamed_input_is_text_however_it_is_cut_into_pieces(cuts: list[int], at: int) -> None:
    places = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[a:b] for a, b in pairwise(places)]
    chunks = streamed(events(pieces), at)
    (choice,) = assemble(chunks).choices
    assert (choice.parts, choice.finish) == ((Text(text=ANSWER),), "stop")
    assert [chunk.text for chunk in chunks if chunk.text] == [piece for piece in pieces if piece]
    message = heard(chunks)
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": ANSWER}]
    assert (message.id, message.stop_reason, message.usage.output_tokens) == ("msg_1", "end_turn", 5)


def test_an_input_that_comes_at_once_is_text() -> None:
    (choice,) = assemble(streamed(events([], input=json.loads(ANSWER)))).choices
    assert (choice.text, choice.finish) == (ANSWER, "stop")


def test_an_input_of_nothing_is_an_empty_object() -> None:
    (choice,) = assemble(streamed(events([]))).choices
    assert (choice.text, choice.finish) == ("{}", "stop")


@pytest.mark.parametrize("said", ["", '{"place": "the'])
@pytest.mark.parametrize(("stop_reason", "finish"), [("max_tokens", "length"), ("refusal", "refused")])
def test_a_cut_stream_is_what_came_of_it(said: str, stop_reason: str, finish: str) -> None:
    chunks = streamed(events([said], stop_reason))
    (choice,) = assemble(chunks).choices
    assert (choice.text, choice.finish) == (said, finish)
    assert heard(chunks).stop_reason == stop_reason


def test_words_before_a_streamed_input_go_before_it() -> None:
    chunks = streamed(events([ANSWER], before="Here: "))
    assert assemble(chunks).text == f"Here: {ANSWER}"
    assert [block.text for block in heard(chunks).content] == ["Here: ", ANSWER]
