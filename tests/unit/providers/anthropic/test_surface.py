"""The Anthropic wire towards callers: what the SDK sends is understood, what we send the SDK understands."""

import json
from typing import Any

import anthropic
import httpx2
import msgspec
import pytest
from anthropic.types import ErrorResponse
from anthropic.types import Message as SdkMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chat import (
    Choice,
    Chunk,
    File,
    Image,
    Message,
    Reasoning,
    Reply,
    Request,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
    Usage,
)
from holdfast.errors import (
    AuthenticationFailed,
    BodyTooLarge,
    CallError,
    ContextTooLong,
    DeadlineExceeded,
    HeadersTooLarge,
    InternalError,
    InvalidRequest,
    LimitExceeded,
    MethodNotAllowed,
    NotAllowed,
    Overloaded,
    PriceUnknown,
    RateLimited,
    Saturated,
    Unauthenticated,
    UnknownModel,
)
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.base import Endpoint, Source
from strategies import replies

SURFACE = AnthropicSurface()
UPSTREAM = AnthropicUpstream(Endpoint(model="m", base_url="https://api.anthropic.com"))
HELLO = [{"role": "user", "content": "Hello"}]


def decode(**fields: Any) -> Request:
    return decode_with_source(**fields)[0]


def decode_with_source(**fields: Any) -> tuple[Request, Source]:
    body = {"model": "answer", "max_tokens": 100, "messages": HELLO} | fields
    return SURFACE.decode(json.dumps(body).encode(), "/v1/messages")


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    return caught.value


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_plain_request_is_decoded() -> None:
    request = decode(system="Be brief.", temperature=0.5, top_p=1, top_k=5, stop_sequences=["END"], stream=True)
    assert request == Request(
        model="answer",
        messages=(
            Message(role="system", parts=(Text(text="Be brief."),)),
            Message(role="user", parts=(Text(text="Hello"),)),
        ),
        max_tokens=100,
        temperature=0.5,
        top_p=1.0,
        top_k=5,
        stop=("END",),
        stream=True,
        stream_usage=True,
    )


def test_every_known_block_becomes_a_part() -> None:
    user = [
        {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
            "title": "t",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_2"}},
        {"type": "search_result", "source": "x", "title": "y", "content": []},
    ]
    assistant = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "text", "text": "I see"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1.50}},
        {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}},
    ]
    request = decode(messages=[{"role": "user", "content": user}, {"role": "assistant", "content": assistant}])
    assert request.messages[0].parts == (
        Text(text="Look"),
        Image(data="aGk=", media_type="image/png"),
        Image(url="https://a.example/b.png"),
        File(name="t", data="aGk=", media_type="application/pdf"),
        File(data="aGk=", media_type="text/plain"),
        File(url="https://a.example/b.pdf"),
        File(id="file_1"),
        Unknown(wire="anthropic", value=user[7]),
        Unknown(wire="anthropic", value=user[8]),
    )
    assert request.messages[1].parts == (
        Reasoning(text="hm", signature="sig"),
        Reasoning(redacted="sealed"),
        Text(text="I see"),
        ToolCall(id="toolu_1", name="f", arguments='{"a": 1.5}'),
        Unknown(wire="anthropic", value=assistant[4]),
    )


def test_results_of_tools_are_messages_apart_from_the_users_words() -> None:
    content = [
        {"type": "tool_result", "tool_use_id": "a", "content": "21 degrees"},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "is_error": True,
            "content": [{"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}],
        },
        {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}},
    ]
    request, source = decode_with_source(messages=[{"role": "user", "content": content}])
    assert request.messages == (
        Message(
            role="tool",
            parts=(
                ToolResult(call_id="a", content=(Text(text="21 degrees"),)),
                ToolResult(call_id="b", content=(Image(url="https://a.example/b.png"),), is_error=True),
            ),
        ),
        Message(role="user", parts=(Text(text="Well?"),)),
    )
    raws = [json.loads(bytes(source.message(message) or b"")) for message in request.messages]
    assert [raw["role"] for raw in raws] == ["user", "user"]
    assert raws[0]["content"] + raws[1]["content"] == content


def test_a_system_prompt_of_blocks_is_one_message() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]
    assert decode(system=blocks).messages[0] == Message(role="system", parts=(Text(text="a"), Text(text="b")))


@pytest.mark.parametrize("system", [None, []])
def test_an_empty_system_prompt_is_no_message(system: Any) -> None:
    assert decode(system=system).messages[0].role == "user"


def test_system_messages_within_the_conversation_keep_their_place() -> None:
    request = decode(messages=[*HELLO, {"role": "system", "content": "Be brief."}])
    assert [message.role for message in request.messages] == ["user", "system"]


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(mode="auto"), None),
        ({"type": "none"}, ToolChoice(mode="none"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice(mode="required"), False),
        (
            {"type": "tool", "name": "f", "disable_parallel_tool_use": False},
            ToolChoice(mode="named", name="f"),
            True,
        ),
    ],
)
def test_tool_choices_are_decoded(choice: Any, expected: ToolChoice, parallel: bool | None) -> None:
    request = decode(tool_choice=choice)
    assert (request.tool_choice, request.parallel_tool_calls) == (expected, parallel)


def test_tools_are_decoded_with_what_only_this_wire_knows() -> None:
    schema = {"type": "object", "properties": {}}
    custom = {"name": "f", "description": "d", "input_schema": schema, "strict": True, "defer_loading": True}
    search = {"type": "web_search_20260318", "name": "web_search", "max_uses": 3}
    toolset = {"type": "mcp_toolset", "mcp_server_name": "s"}
    assert decode(tools=[custom, search, toolset]).tools == (
        Tool(name="f", description="d", parameters=schema, strict=True, extra={"defer_loading": True}),
        Tool(name="web_search", extra={"type": "web_search_20260318", "max_uses": 3}),
        Tool(name="mcp_toolset", extra=toolset),
    )


@pytest.mark.parametrize(
    ("fields", "effort", "tokens"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, None, 2048),
        ({"thinking": {"type": "disabled"}}, "none", None),
        ({"thinking": {"type": "between_tools"}, "output_config": {"effort": "low"}}, "none", None),
        ({"thinking": {"type": "adaptive"}}, None, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium", None),
        ({"output_config": {"effort": "max"}}, "xhigh", None),
        ({"thinking": None, "output_config": None}, None, None),
    ],
)
def test_thinking_is_decoded(fields: Any, effort: str | None, tokens: int | None) -> None:
    request = decode(**fields)
    assert (request.reasoning_effort, request.reasoning_tokens) == (effort, tokens)


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema_for_the_answer_is_decoded(field: str) -> None:
    format_ = {"type": "json_schema", "schema": {"type": "object"}}
    request = decode(**{field: {"format": format_} if field == "output_config" else format_})
    assert request.response_format == ResponseFormat(type="schema", schema={"type": "object"})


def test_every_other_field_lands_in_extra() -> None:
    extra = {"metadata": {"user_id": "u"}, "service_tier": "auto", "holdfast": {"session": "s"}, "new_field": [1]}
    assert decode(**extra).extra == extra


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 10**40}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [7]}, "messages.0"),
        ({"messages": [*HELLO, {"role": "user"}]}, "messages.1.content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
            "messages.0.content.0.source",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": 7}}]}]},
            "messages.0.content.0.source.url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages.0.content.0.tool_use_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": 7}]}]},
            "messages.0.content.0.content",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}]},
            "messages.0.content.0",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f"}]}]},
            "messages.0.content.0.input",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": []}]}
                ]
            },
            "messages.0.content.0.input",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
            "messages.0.content.0",
        ),
        ({"system": 7}, "system"),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "x"}}]}, "system.0.type"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": [7]}, "stop_sequences.0"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools.0"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "input_schema": {}, "strict": "yes"}]}, "tools.0.strict"),
        ({"tools": [{"type": 7, "name": "f"}]}, "tools.0.type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": {"type": "json_schema", "schema": 7}}, "output_format.schema"),
    ],
)
def test_what_the_api_refuses_is_refused_with_the_field_at_fault(fields: Any, param: str) -> None:
    error = refused(**fields)
    assert error.param == param
    assert error.message.startswith(f"{param}: ")


@pytest.mark.parametrize("field", ["model", "messages", "max_tokens"])
def test_required_fields_are_required(field: str) -> None:
    body = {"model": "answer", "max_tokens": 100, "messages": HELLO}
    del body[field]
    with pytest.raises(InvalidRequest) as caught:
        SURFACE.decode(json.dumps(body).encode(), "/v1/messages")
    assert (caught.value.param, caught.value.message) == (field, f"{field}: Field required")


DEEP = b"[" * 100_000 + b"]" * 100_000
CALL = b',"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"a":%b}}]}]}'
VALID = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"\xef\xbb\xbf" + VALID + b"}",
        VALID + b"} trailing",
        VALID + b',"x":NaN}',
        VALID + b',"x":Infinity}',
        VALID + b',"x":1e999}',
        VALID + b',"x":' + b"9" * 5000 + b"}",
        VALID + b',"x":"\xff"}',
        VALID + b',"x":"\\ud800"}',
        VALID + b',"x":' + DEEP + b"}",
        VALID + b',"system":' + DEEP + b"}",
        VALID + b',"system":"\xff"}',
        VALID + b',"tools":[' + DEEP + b"]}",
        VALID + b',"tools":[{"name":"f","input_schema":{"a":' + DEEP + b"}}]}",
        VALID + b',"messages":' + DEEP + b"}",
        VALID + b',"messages":[{"role":"user","content":[{"type":"text","text":"\xff"}]}]}',
        VALID + CALL % b'"\xff"',
        VALID + CALL % b"1e999",
        VALID + CALL % DEEP,
        VALID + b',"messages":[{"role":"user","content":[{"type":"new","x":"\xff"}]}]}',
        VALID + b',"temperature":1e999}',
    ],
)
def test_hostile_bodies_are_invalid_requests(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        SURFACE.decode(body, "/v1/messages")


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_understood(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        SURFACE.decode(body, "/v1/messages")


_FUZZ = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["user", "text", "tool_use", "image", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "source", "name", "input", "id", "tool_use_id", "data"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(
            ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata", "top_k"]
        ),
        _FUZZ,
        max_size=3,
    )
)
def test_any_json_is_refused_or_can_be_sent_on(fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", "max_tokens": 1, "messages": HELLO} | fields).encode()
    try:
        request, source = SURFACE.decode(body, "/v1/messages")
    except InvalidRequest:
        return
    json.loads(UPSTREAM.encode(request, source).body)


# --- answers ----------------------------------------------------------------------------------------------------------

SAYABLE = {
    "choices": 1,
    "tool_signatures": False,
    "valid_arguments": True,
    "refusal": False,
    "logprob": False,
    "fingerprint": False,
    "created": False,
    "usage_switches": {"audio": False},
}


@given(replies(**SAYABLE))
def test_an_answer_is_decoded_again(reply: Reply) -> None:
    expected = msgspec.structs.replace(reply, usage=reply.usage or Usage())
    assert UPSTREAM.decode(SURFACE.encode(reply)) == expected


@given(replies())
def test_the_sdk_takes_every_answer(reply: Reply) -> None:
    message = SdkMessage.model_validate_json(SURFACE.encode(reply))
    assert message.id == reply.id
    texts = [part.text for part in reply.choices[0].parts if part.__class__.__name__ in ("Text", "Refusal")]
    assert [block.text for block in message.content if block.type == "text"] == texts


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (Choice(finish="stop"), "end_turn"),
        (Choice(finish="stop", stop_sequence="END"), "stop_sequence"),
        (Choice(finish="length"), "max_tokens"),
        (Choice(finish="tool_calls"), "tool_use"),
        (Choice(finish="refused", refusal_reason="cyber"), "refusal"),
    ],
)
def test_how_an_answer_ended_is_said_in_the_words_of_the_wire(choice: Choice, reason: str) -> None:
    message = SdkMessage.model_validate_json(SURFACE.encode(Reply(id="a", model="m", choices=(choice,))))
    assert message.stop_reason == reason
    assert message.stop_sequence == choice.stop_sequence
    assert (message.stop_details.category if message.stop_details else None) == choice.refusal_reason


def test_the_first_of_several_choices_is_taken() -> None:
    choices = (Choice(parts=(Text(text="a"),)), Choice(parts=(Text(text="b"),), finish="length"))
    message = SdkMessage.model_validate_json(SURFACE.encode(Reply(id="a", model="m", choices=choices)))
    assert (message.content[0].text, message.stop_reason) == ("a", "end_turn")


def test_input_tokens_are_said_without_the_cached() -> None:
    usage = Usage(input_tokens=100, output_tokens=9, cache_read_tokens=60, cache_write_tokens=30, reasoning_tokens=4)
    message = json.loads(SURFACE.encode(Reply(id="a", model="m", choices=(Choice(),), usage=usage)))
    assert message["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "type"),
    [
        (InvalidRequest("no"), "invalid_request_error"),
        (UnknownModel(), "not_found_error"),
        (NotAllowed(), "permission_error"),
        (Unauthenticated(), "authentication_error"),
        (PriceUnknown(), "permission_error"),
        (LimitExceeded(), "rate_limit_error"),
        (MethodNotAllowed(), "invalid_request_error"),
        (BodyTooLarge(), "request_too_large"),
        (HeadersTooLarge(), "invalid_request_error"),
        (ContextTooLong(), "invalid_request_error"),
        (RateLimited(), "rate_limit_error"),
        (InternalError(), "api_error"),
        (AuthenticationFailed(), "api_error"),
        (Saturated(), "overloaded_error"),
        (Overloaded(), "overloaded_error"),
        (DeadlineExceeded(), "timeout_error"),
    ],
)
def test_errors_are_said_in_the_words_of_the_wire(error: CallError, type: str) -> None:
    envelope = json.loads(SURFACE.error(error, "01CALL"))
    assert envelope == {"type": "error", "error": {"type": type, "message": error.message}, "request_id": "01CALL"}


def test_an_error_names_the_field_at_fault() -> None:
    envelope = json.loads(SURFACE.error(InvalidRequest("Too many.", param="n"), "01CALL"))
    assert envelope["error"]["message"] == "n: Too many."


def test_the_sdk_takes_an_error() -> None:
    assert ErrorResponse.model_validate_json(SURFACE.error(RateLimited("Slow down."), "01CALL")).request_id == "01CALL"


# --- with the real client ---------------------------------------------------------------------------------------------


def client(
    answer: bytes, status: int = 200, media_type: str = "application/json"
) -> tuple[anthropic.Anthropic, list[Any]]:
    seen: list[Any] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        seen.append(SURFACE.decode(request.content, request.url.path))
        return httpx2.Response(status, content=answer, headers={"content-type": media_type})

    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return anthropic.Anthropic(api_key="k", http_client=transport, max_retries=0), seen


def test_the_client_is_understood_and_understands() -> None:
    call = ToolCall(id="toolu_1", name="f", arguments='{"a":1}')
    reply = Reply(
        id="msg_1",
        model="gpt",
        choices=(Choice(parts=(Reasoning(text="hm"), Text(text="Hi"), call), finish="tool_calls"),),
        usage=Usage(input_tokens=3, output_tokens=4),
    )
    sdk, seen = client(SURFACE.encode(reply))
    message = sdk.messages.create(
        model="answer",
        max_tokens=50,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        tools=[{"name": "f", "input_schema": {"type": "object"}}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        output_config={"effort": "low"},
    )
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.stop_reason == "tool_use"
    (request, _), *_ = seen
    assert request.tool_choice == ToolChoice(mode="required")
    assert request.parallel_tool_calls is False
    assert request.reasoning_effort == "low"


def test_the_client_streams() -> None:
    encoder = SURFACE.stream(decode(), id="msg_1", model="gpt", created=0)
    chunks = [
        Chunk(reasoning="hm"),
        Chunk(text="Hel"),
        Chunk(text="lo"),
        Chunk(finish="length", usage=Usage(output_tokens=2)),
    ]
    body = b"".join([*(encoder.chunk(chunk, "openai") for chunk in chunks), encoder.end({"attempts": 1})])
    sdk, seen = client(body, media_type="text/event-stream")
    with sdk.messages.stream(model="answer", max_tokens=50, messages=[{"role": "user", "content": "Hello"}]) as stream:
        assert "".join(stream.text_stream) == "Hello"
        message = stream.get_final_message()
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)
    assert seen[0][0].stream


def test_the_client_raises_an_error_in_the_stream() -> None:
    encoder = SURFACE.stream(decode(), id="msg_1", model="gpt", created=0)
    body = encoder.chunk(Chunk(text="Hel"), "openai") + encoder.error(Overloaded("Busy."), "01CALL", {"attempts": 2})
    sdk, _ = client(body, media_type="text/event-stream")
    with (
        pytest.raises(anthropic.APIStatusError, match=r"Busy\."),
        sdk.messages.stream(model="answer", max_tokens=50, messages=[{"role": "user", "content": "Hello"}]) as stream,
    ):
        stream.get_final_message()


def test_the_client_raises_an_error_of_the_right_class() -> None:
    sdk, _ = client(SURFACE.error(RateLimited("Slow down."), "01CALL"), status=429)
    with pytest.raises(anthropic.RateLimitError, match=r"Slow down\."):
        sdk.messages.create(model="answer", max_tokens=50, messages=[{"role": "user", "content": "Hello"}])
