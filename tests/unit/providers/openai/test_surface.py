import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIError, OpenAI
from openai.types.chat import ChatCompletion

from holdfast import errors
from holdfast.chat import (
    Choice,
    Chunk,
    EmbeddingReply,
    File,
    Image,
    Reply,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Unknown,
    Usage,
)
from holdfast.errors import InvalidRequest
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.base import Endpoint
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream
from strategies import json_values

SURFACE = OpenAISurface()
HELLO = {"role": "user", "content": "hello"}


def decode(**fields: Any) -> Request:
    body = {"model": "m", "messages": [HELLO]} | fields
    return SURFACE.decode(json.dumps(body).encode(), "/v1/chat/completions")[0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [HELLO, {"role": "robot", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].name"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}]},
            "messages[0].tool_calls[0].function",
        ),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop": [1]}, "stop[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param
    assert param in caught.value.message


HEAD = b'{"model":"m","messages":[{"role":"user","content":"x"}],'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "model"),
        (HEAD + b'"x":NaN}', "not valid JSON"),
        (HEAD + b'"temperature":Infinity}', "not valid JSON"),
        (HEAD + b'"x":1e999}', "not valid JSON"),
        (HEAD + b'"seed":' + b"9" * 40 + b"}", "seed"),
        (HEAD + b'"x":' + b"9" * 10_000 + b"}", "not valid JSON"),
        (HEAD + b'"x":"\xff\xfe"}', "UTF-8"),
        (HEAD + b'"x":"\xed\xa0\x80"}', "UTF-8"),
        (HEAD + b'"x":"\\ud800"}', "not valid JSON"),
        (HEAD + b'"x":"\\ud800 and more"}', "not valid JSON"),
        (HEAD + b'"x":"\x01"}', "not valid JSON"),
        (HEAD + b'"x":' + b"[" * 100_000 + b"}", "nested too deeply"),
        (HEAD + b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (HEAD + b'"x":1}garbage', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"<html>", "not valid JSON"),
    ],
)
def test_a_hostile_body_is_an_invalid_request(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        SURFACE.decode(body, "/v1/chat/completions")
    with pytest.raises(InvalidRequest):
        SURFACE.decode_embeddings(body, "/v1/embeddings")


@given(st.binary(max_size=200))
def test_noise_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        SURFACE.decode(body, "")


FIELDS = ["tools", "tool_choice", "response_format", "stop", "n", "stream", "stream_options", "logprobs", "x", "user"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values()), json_values())
def test_any_json_is_decoded_or_refused_and_nothing_else(fields: dict[str, Any], message: Any) -> None:
    for messages in ([HELLO], message, [message], [HELLO | {"content": message}], [HELLO | {"tool_calls": [message]}]):
        with suppress(InvalidRequest):
            decode(**fields, messages=messages)


def test_of_a_field_that_stands_twice_the_last_counts_and_is_sent_once() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"x":1,"seed":1,"se\\u0065d":2,"x":2}'
    request, source = SURFACE.decode(body, "")
    assert (request.seed, request.extra) == (2, {"x": 2})
    sent = OpenAIUpstream(Endpoint(model="m", base_url="https://host.example")).encode(request, source).body
    assert (sent.count(b"seed"), sent.count(b'"x":')) == (1, 1)
    assert (json.loads(sent)["seed"], json.loads(sent)["x"]) == (2, 2)


@pytest.mark.parametrize(
    ("unread", "message"),
    [(b'"x":"\xff"', "UTF-8"), (b'"x":"\xed\xa0\x80"', "UTF-8"), (b'"x":"\\ud800"', "not valid JSON")],
)
def test_what_is_forwarded_unread_is_text_all_the_same(unread: bytes, message: str) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x",%b}]}' % unread
    with pytest.raises(InvalidRequest, match=message):
        SURFACE.decode(body, "")


def test_spaced_and_escaped_bodies_mean_the_same() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": 'é "x" : 😀'}], "x": {"a": [1.0, None]}}
    compact = SURFACE.decode(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), "")[0]
    assert SURFACE.decode(json.dumps(body, indent=2).encode(), "")[0] == compact
    assert compact.extra == {"x": {"a": [1.0, None]}}


def test_developer_messages_are_system_messages_whose_bytes_are_kept() -> None:
    message = b'{"role":"developer","content":"be brief"}'
    request, source = SURFACE.decode(b'{"model":"m","messages":[' + message + b"]}", "")
    assert request.messages[0].role == "system"
    assert bytes(source.message(request.messages[0]) or b"") == message


def test_content_parts_are_decoded() -> None:
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://host.example/a.png"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        {"type": "video_url", "video_url": {"url": "https://host.example/a.mp4"}},
    ]
    assert decode(messages=[{"role": "user", "content": content}]).messages[0].parts == (
        Text(text="look"),
        Image(data="aGk=", media_type="image/png", detail="low"),
        Image(url="https://host.example/a.png"),
        File(id="file-1"),
        File(name="a.pdf", data="aGk=", media_type="application/pdf"),
        Unknown(wire="openai", value=content[5]),
    )


def test_what_only_this_wire_says_is_kept_in_extra() -> None:
    fields = {
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        "response_format": {"type": "grammar", "grammar": "x"},
        "reasoning_effort": "max",
        "functions": [{"name": "f"}],
        "metadata": {"a": "b"},
    }
    request = decode(**fields)
    assert request.extra == fields
    assert request.tool_choice is request.response_format is request.reasoning_effort is None


def test_deprecated_function_calls_come_out_as_they_went_in() -> None:
    messages = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "4"},
    ]
    request = decode(messages=messages)
    assert request.messages[0].parts == (ToolCall(id="", name="f", arguments="{}"),)
    assert request.messages[1].parts == (ToolResult(call_id="", name="f", content=(Text(text="4"),)),)
    sent = OpenAIUpstream(Endpoint(model="m", base_url="https://host.example")).encode(request).body
    assert json.loads(sent)["messages"] == messages


def test_custom_tools_and_their_calls_come_out_as_they_went_in() -> None:
    call = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    tool = {"type": "custom", "custom": {"name": "sql", "description": "run it"}}
    body = {"messages": [HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}], "tools": [tool]}
    request = decode(**body)
    assert request.messages[1].parts == (Unknown(wire="openai", value=call),)
    assert (request.tools[0].name, request.tools[0].description) == ("sql", "run it")


@pytest.mark.parametrize("value", [None, False])
def test_null_means_unset(value: Any) -> None:
    request = decode(
        temperature=None, stop=None, n=None, tools=None, stream=value, logprobs=value, max_tokens=None, seed=None
    )
    assert request == decode()


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_reply_parses_in_the_sdk() -> None:
    parts = (Text(text="hi"), ToolCall(id="c1", name="f", arguments="{}"))
    reply = Reply(
        id="r", model="m", choices=(Choice(parts=parts, finish="tool_calls"),), usage=Usage(input_tokens=3), created=5
    )
    parsed = ChatCompletion.model_validate_json(SURFACE.encode(reply), strict=True)
    assert parsed.choices[0].message.content == "hi"
    assert parsed.choices[0].message.tool_calls[0].function.name == "f"  # type: ignore[index, union-attr]
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 3


def test_unknown_fields_of_a_reply_never_replace_ours() -> None:
    reply = Reply(id="r", model="m", choices=(Choice(),), extra={"service_tier": "flex", "id": "other"})
    encoded = json.loads(SURFACE.encode(reply))
    assert (encoded["service_tier"], encoded["id"]) == ("flex", "r")


@pytest.mark.parametrize(
    ("error", "type", "code"),
    [
        (errors.InvalidRequest("x", param="n"), "invalid_request_error", "invalid_request"),
        (errors.UnknownModel("x"), "invalid_request_error", "model_not_found"),
        (errors.NotAllowed("x"), "permission_error", "not_allowed"),
        (errors.Unauthenticated("x"), "invalid_request_error", "invalid_api_key"),
        (errors.PriceUnknown("x"), "permission_error", "price_unknown"),
        (errors.LimitExceeded("x", retry_after=60), "rate_limit_error", "limit_exceeded"),
        (errors.LimitExceeded("x", retry_after=61), "insufficient_quota", "limit_exceeded"),
        (errors.LimitExceeded("x"), "insufficient_quota", "limit_exceeded"),
        (errors.RateLimited("x"), "rate_limit_error", "rate_limit_exceeded"),
        (errors.ContextTooLong("x"), "invalid_request_error", "context_length_exceeded"),
        (errors.ContentRefused("x"), "invalid_request_error", "content_filter"),
        (errors.Saturated("x"), "server_error", "saturated"),
        (errors.DeadlineExceeded("x"), "server_error", "deadline_exceeded"),
    ],
)
def test_an_error_has_the_words_of_the_wire(error: errors.CallError, type: str, code: str) -> None:
    envelope = json.loads(SURFACE.error(error, "01CALL"))
    assert envelope == {"error": {"message": "x", "type": type, "param": error.param, "code": code, "call": "01CALL"}}


# --- streams ----------------------------------------------------------------------------------------------------------


def encoder(*, usage: bool = False) -> Any:
    request = Request(model="m", messages=(), stream=True, stream_usage=usage)
    return SURFACE.stream(request, id="own", model="own-model", created=7)


def payloads(sent: bytes) -> list[Any]:
    return [json.loads(event[6:]) for event in sent.split(b"\n\n")[:-1] if event != b"data: [DONE]"]


def test_an_event_of_the_same_wire_passes_as_it_came() -> None:
    raw = b'{"id":"a","choices":[{"index":0,"delta":{"content":"x"}}],"obfuscation":"zzz"}'
    assert encoder().chunk(Chunk(text="x", raw=raw), "openai") == b"data: " + raw + b"\n\n"
    assert b"zzz" not in encoder().chunk(Chunk(text="x", raw=raw), "anthropic")


def test_line_breaks_in_an_event_do_not_break_the_stream() -> None:
    raw = b'{"choices":\r\n[{"index":0,\n"delta":{"content":"x"}}]}'
    sent = encoder().chunk(Chunk(text="x", raw=raw), "openai")
    assert sent.count(b"\n") == 2
    assert payloads(sent)[0]["choices"][0]["delta"] == {"content": "x"}


def test_the_end_is_held_back_with_what_the_upstream_said_beyond_ours() -> None:
    raw = (
        b'{"id":"a","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop","stop_reason":42}],"usage":{}}'
    )
    stream = encoder()
    now = payloads(stream.chunk(Chunk(text="x", finish="stop", usage=Usage(), raw=raw), "openai"))
    assert now[0]["choices"][0]["finish_reason"] is None
    assert "usage" not in now[0]
    sent = stream.end({"call": "01"})
    assert sent.endswith(b"data: [DONE]\n\n")
    (last,) = payloads(sent)
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 42}]
    assert last["holdfast"] == {"call": "01"}


def test_usage_comes_last_and_as_the_upstream_said_it() -> None:
    stream = encoder(usage=True)
    stream.chunk(Chunk(finish="length"), "anthropic")
    raw = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"cost":0.1}}'
    stream.chunk(Chunk(usage=Usage(input_tokens=1, output_tokens=2), raw=raw), "openai")
    end, usage = payloads(stream.end({"call": "01"}))
    assert end["choices"][0]["finish_reason"] == "length"
    assert "holdfast" not in end
    assert usage["usage"]["cost"] == 0.1
    assert usage["choices"] == []
    assert usage["holdfast"] == {"call": "01"}


def test_nothing_is_said_of_the_call_when_there_is_no_summary() -> None:
    stream = encoder()
    stream.chunk(Chunk(text="x", finish="stop"), "google")
    assert b"holdfast" not in stream.end({})


def test_the_first_event_of_each_choice_names_its_role() -> None:
    stream = encoder()
    sent = b"".join(stream.chunk(Chunk(choice=i % 2, text="x", id="a"), "google") for i in range(4))
    assert [event["choices"][0]["delta"].get("role") for event in payloads(sent)] == ["assistant"] * 2 + [None] * 2
    assert payloads(sent)[0]["id"] == "a"


def test_the_sdk_raises_on_an_error_event() -> None:
    httpx = pytest.importorskip("httpx2")
    stream = encoder()
    body = stream.chunk(Chunk(text="half"), "google")
    body += stream.error(errors.BrokenStream("it broke"), "01CALL", {"attempts": 2})
    assert b"[DONE]" not in body

    def answer(request: Any) -> Any:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = OpenAI(api_key="k", base_url="http://host.example/v1", http_client=http)
        events = client.chat.completions.create(model="m", messages=[HELLO], stream=True)  # type: ignore[list-item]
        assert next(events).choices[0].delta.content == "half"
        with pytest.raises(APIError, match="it broke") as caught:
            next(events)
    assert caught.value.body["holdfast"] == {"attempts": 2}  # type: ignore[index, call-overload]
    assert caught.value.code == "broken_stream"


def test_an_error_event_is_an_error_to_another_gateway() -> None:
    sent = encoder().error(errors.Overloaded("busy"), "01CALL", {})
    decoder = OpenAIUpstream(Endpoint(model="m", base_url="https://host.example")).stream()
    with pytest.raises(errors.ProviderError, match="busy"):
        decoder.feed(ServerSentEvent(sent[6:-2]))
    assert not decoder.complete


# --- embeddings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("input", "expected"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_every_form_of_input_is_decoded(input: Any, expected: Any) -> None:
    body = json.dumps({"model": "m", "input": input, "encoding_format": "base64", "user": "u"}).encode()
    request = SURFACE.decode_embeddings(body, "")
    assert (request.input, request.encoding_format, request.extra) == (expected, "base64", {"user": "u"})


@pytest.mark.parametrize("input", [[], [[]], [1, "a"], [[1], []], {}, None, 5, [None], [1.5], [True]])
def test_a_wrong_input_is_named(input: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SURFACE.decode_embeddings(json.dumps({"model": "m", "input": input}).encode(), "")
    assert caught.value.param == "input"


def test_base64_is_little_endian_float32() -> None:
    reply = EmbeddingReply(model="m", vectors=((1.0, -2.0),))
    assert json.loads(SURFACE.encode_embeddings(reply, "base64"))["data"][0]["embedding"] == "AACAPwAAAMA="
