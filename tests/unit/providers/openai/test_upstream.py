import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import (
    Choice,
    Chunk,
    Image,
    Logprob,
    Message,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Unknown,
    Usage,
)
from holdfast.errors import (
    BadRequest,
    ContextTooLong,
    MalformedResponse,
    Overloaded,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.base import Endpoint, Source
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream
from strategies import json_values

HELLO = Message(role="user", parts=(Text(text="hello"),))


def upstream(*quirks: str, **fields: Any) -> OpenAIUpstream:
    settings = {"model": "served", "base_url": "https://host.example/v1", "api_key": "secret-key"} | fields
    return OpenAIUpstream(Endpoint(quirks=frozenset(quirks), **settings))


def sent(request: Request, *quirks: str, source: Source | None = None, **fields: Any) -> Any:
    return json.loads(upstream(*quirks, **fields).encode(request, source).body)


def spoken(**fields: Any) -> tuple[Request, Source]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]} | fields
    return OpenAISurface().decode(json.dumps(body).encode(), "")


def ask(**fields: Any) -> Request:
    return Request(**({"model": "m", "messages": (HELLO,)} | fields))


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_goes_to_the_endpoint_with_its_key() -> None:
    request = upstream(headers=((b"x-team", b"a"),), query={"v": "1 2"}).encode(ask())
    assert (request.method, request.url) == ("POST", "https://host.example/v1/chat/completions?v=1+2")
    headers = dict(request.headers)
    assert headers[b"authorization"] == b"Bearer secret-key"
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"x-team"] == b"a"


def test_azure_has_its_own_header() -> None:
    headers = dict(upstream("azure").encode(ask()).headers)
    assert headers[b"api-key"] == b"secret-key"
    assert b"authorization" not in headers


def test_an_endpoints_own_header_replaces_ours() -> None:
    headers = upstream(headers=((b"authorization", b"Custom x"),)).encode(ask()).headers
    assert [value for name, value in headers if name == b"authorization"] == [b"Custom x"]


def test_the_callers_own_words_are_kept() -> None:
    fields = {"max_tokens": 5, "temperature": 1, "x_new": {"a": 1}, "metadata": {"k": "v"}, "stop": "x", "n": None}
    request, source = spoken(**fields)
    body = sent(request, source=source)
    assert {key: body[key] for key in fields} == fields
    assert body["model"] == "served"


def test_only_what_changed_is_written_anew() -> None:
    developer = {"role": "developer", "content": "x", "cache_hint": 1}
    user = {"role": "user", "content": [{"type": "text", "text": "y", "prompt_cache_breakpoint": {"mode": "explicit"}}]}
    request, source = spoken(messages=[developer, user], temperature=1.0, seed=3)
    added = msgspec.structs.replace(request, messages=(*request.messages, HELLO), temperature=0.5, seed=None)
    body = sent(added, source=source)
    assert body["messages"] == [developer, user, {"role": "user", "content": "hello"}]
    assert body["temperature"] == 0.5
    assert "seed" not in body


def test_extra_fields_follow_what_became_of_them() -> None:
    request, source = spoken(a=1, b={"x": 1}, holdfast={"session": "s"})
    changed = msgspec.structs.replace(request, extra={"b": {"x": 2}, "c": 3})
    body = sent(changed, source=source)
    assert ("a" in body, body["b"], body["c"], "holdfast" in body) == (False, {"x": 2}, 3, False)


@pytest.mark.parametrize(
    ("quirks", "spoke", "key"),
    [
        ((), None, "max_completion_tokens"),
        (("max_tokens",), None, "max_tokens"),
        ((), "max_tokens", "max_tokens"),
        ((), "max_completion_tokens", "max_completion_tokens"),
        (("max_tokens",), "max_completion_tokens", "max_tokens"),
    ],
)
def test_the_key_of_max_tokens_suits_the_server(quirks: tuple[str, ...], spoke: str | None, key: str) -> None:
    request, source = spoken(**{spoke: 9}) if spoke else (ask(max_tokens=9), None)
    body = sent(request, *quirks, source=source, body={"max_tokens": 1, "max_completion_tokens": 1})
    assert {k: v for k, v in body.items() if "tokens" in k} == {key: 9}


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_obfuscation": False}])
def test_every_stream_asks_for_usage(options: Any) -> None:
    request, source = spoken(stream=True, stream_options=options)
    assert sent(request, source=source)["stream_options"] == {**(options or {}), "include_usage": True}
    assert "stream_options" not in sent(request, "no_stream_usage", source=source)
    whole = msgspec.structs.replace(request, stream=False)
    assert not {"stream", "stream_options"} & sent(whole, source=source).keys()


def test_defaults_of_the_endpoint_fill_what_the_caller_left_open() -> None:
    body = sent(ask(temperature=0.5), body={"temperature": 1.0, "seed": 4})
    assert (body["temperature"], body["seed"]) == (0.5, 4)


def test_private_fields_of_another_wire_stay_behind() -> None:
    extra = {"thinking": {"type": "enabled"}, "metadata": {"user_id": "u"}, "verbosity": "low"}
    request = ask(extra=extra, top_k=5)
    source = Source(wire="anthropic", request=request, fields={}, messages={}, tools={})
    body = sent(request, source=source)
    assert body.keys() == {"model", "messages", "verbosity"}
    assert sent(request, "top_k", source=source)["top_k"] == 5


def test_tools_of_another_wire_lose_what_only_it_says() -> None:
    request = ask(tools=(Tool(name="f", extra={"cache_control": {}}),))
    source = Source(wire="anthropic", request=request, fields={}, messages={}, tools={})
    for origin in (source, None):
        tools = sent(request, source=origin)["tools"]
        assert tools[0]["function"] == {"name": "f"}
    assert "cache_control" not in sent(request, source=source)["tools"][0]


def test_several_tool_results_become_several_messages() -> None:
    results = (ToolResult(call_id="a", content=(Text(text="1"),)), ToolResult(call_id="b"), Text(text="and?"))
    assert sent(ask(messages=(Message(role="user", parts=results),)))["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "and?"},
    ]


def test_reasoning_goes_back_only_to_servers_that_take_it() -> None:
    parts = (
        Reasoning(text="hm", signature="s"),
        Text(text="yes"),
        ToolCall(id="a", name="f", arguments="{}", signature="t"),
    )
    request = ask(messages=(Message(role="assistant", parts=parts),))
    plain = sent(request)["messages"][0]
    assert plain.keys() == {"role", "content", "tool_calls"}
    assert "extra_content" not in plain["tool_calls"][0]
    assert sent(request, "reasoning_content")["messages"][0]["reasoning_content"] == "hm"
    assert sent(request, "reasoning_details")["messages"][0]["reasoning_details"][0]["signature"] == "s"
    signed = sent(request, "extra_content")["messages"][0]["tool_calls"][0]
    assert signed["extra_content"] == {"google": {"thought_signature": "t"}}


@pytest.mark.parametrize("tokens", [(1024, "low"), (8000, "medium"), (32_000, "high")])
def test_a_budget_of_reasoning_becomes_a_word(tokens: tuple[int, str]) -> None:
    assert sent(ask(reasoning_tokens=tokens[0]))["reasoning_effort"] == tokens[1]


def test_a_tool_that_another_provider_runs_itself_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        sent(ask(tools=(Tool(name="web_search", extra={"type": "web_search_20260318"}),)))
    assert caught.value.param == "tools"


@pytest.mark.parametrize("part", [Unknown(wire="anthropic", value={"type": "search"}), Image(), Reasoning(text="x")])
def test_what_the_wire_cannot_say_is_refused_with_its_place(part: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        upstream().encode(ask(messages=(HELLO, Message(role="user", parts=(part,)))))
    assert caught.value.param == "messages[1]"


# --- whole answers ----------------------------------------------------------------------------------------------------


def answer(message: dict[str, Any], **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": "stop"}
    choice.update(fields.pop("choice", {}))
    return json.dumps({"id": "r", "model": "m", "created": 7, "choices": [choice]} | fields).encode()


def choice(message: dict[str, Any], **fields: Any) -> Choice:
    return upstream().decode(answer(message, choice=fields)).choices[0]


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "refused"),
        ("eos_token", "stop"),
        (None, "stop"),
    ],
)
def test_every_finish_reason_is_understood(word: str | None, finish: str) -> None:
    assert choice({"content": "x"}, finish_reason=word).finish == finish


@pytest.mark.parametrize(
    ("word", "error"),
    [("error", ProviderFailed), ("abort", ProviderFailed), ("insufficient_system_resource", Overloaded)],
)
def test_an_answer_that_was_broken_off_is_no_answer(word: str, error: type[ProviderError]) -> None:
    with pytest.raises(error):
        choice({"content": "x"}, finish_reason=word)
    with pytest.raises(error):
        upstream().stream().feed(event({"content": "x"}, finish_reason=word))


THOUGHT = (Reasoning(text="hm"), Text(text="yes"))


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "yes", "reasoning_content": "hm"}, THOUGHT),  # DeepSeek, SGLang, xAI
        ({"content": "yes", "reasoning": "hm"}, THOUGHT),  # vLLM, Groq, Ollama
        (  # Mistral
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "yes"},
                ]
            },
            THOUGHT,
        ),
        (  # OpenRouter
            {
                "content": "yes",
                "reasoning": "hm",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "s"},
                    {"type": "reasoning.encrypted", "data": "z"},
                ],
            },
            (Reasoning(text="hm", signature="s"), Reasoning(redacted="z"), Text(text="yes")),
        ),
        (  # Ollama, with arguments as an object and no id
            {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            (ToolCall(id="call_r_0", name="f", arguments='{"a":1}'),),
        ),
        (  # Gemini
            {
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                        "extra_content": {"google": {"thought_signature": "s"}},
                    }
                ]
            },
            (ToolCall(id="c", name="f", arguments="{}", signature="s"),),
        ),
        ({"content": None, "audio": {"id": "a"}}, (Unknown(wire="openai", value={"audio": {"id": "a"}}),)),
        (
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            (ToolCall(id="", name="f", arguments="{}"),),
        ),
    ],
)
def test_messages_of_every_server_are_read(message: dict[str, Any], parts: Any) -> None:
    assert choice(message).parts == parts


def test_tool_calls_that_finish_with_stop_are_tool_calls() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert choice({"tool_calls": [call]}, finish_reason="stop").finish == "tool_calls"


def test_azure_says_why_it_withheld_an_answer() -> None:
    results = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False}}
    read = choice({"content": ""}, finish_reason="content_filter", content_filter_results=results)
    assert (read.finish, read.refusal_reason) == ("refused", "hate")


def test_vllm_says_which_sequence_stopped_it() -> None:
    assert choice({"content": "x"}, stop_reason="###").stop_sequence == "###"
    assert choice({"content": "x"}, stop_reason=128009).stop_sequence is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (  # OpenAI
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 15,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
            },
            Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4, input_audio_tokens=1, reasoning_tokens=2),
        ),
        (  # DeepSeek
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 2},
            Usage(input_tokens=10, output_tokens=5, cache_read_tokens=8),
        ),
        (  # xAI, which counts reasoning beside the completion
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 115,
                "completion_tokens_details": {"reasoning_tokens": 100},
            },
            Usage(input_tokens=10, output_tokens=105, reasoning_tokens=100),
        ),
        ({"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None}, Usage(input_tokens=3)),
        (None, None),
    ],
)
def test_usage_of_every_server_is_read(usage: Any, expected: Usage | None) -> None:
    assert upstream().decode(answer({"content": "x"}, usage=usage)).usage == expected


def test_fields_beyond_ours_are_kept() -> None:
    reply = upstream().decode(answer({"content": "x"}, service_tier="flex", system_fingerprint="fp"))
    assert (reply.extra, reply.fingerprint, reply.created) == ({"service_tier": "flex"}, "fp", 7)


def test_a_server_that_says_more_than_the_api_is_read_in_full_every_time() -> None:
    server = upstream()
    more = {"provider": "p", "timings": {"ms": [1.5, None]}, "service_tier": None}
    for said in ({}, more, {"service_tier": "flex"}, more, {}):
        assert server.decode(answer({"content": "x"}, object="chat.completion", **said)).extra == said


def test_what_only_this_wire_says_of_an_answer_is_kept_after_the_calls() -> None:
    custom = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}, "more": 1}
    call = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    read = choice(
        {"content": "x", "tool_calls": [custom, call], "annotations": [{"type": "url_citation"}], "audio": None}
    )
    assert read.finish == "tool_calls"
    assert read.parts == (
        Text(text="x"),
        ToolCall(id="c2", name="f", arguments="{}"),
        Unknown(wire="openai", value=custom),
        Unknown(wire="openai", value={"annotations": [{"type": "url_citation"}]}),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"choices":"x"}',
        b'{"choices":[{"message":{"content":5}}]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"a","function":{}}]}}]}',
        b"[" * 100_000,
    ],
)
def test_garbage_is_a_malformed_response(body: bytes) -> None:
    with pytest.raises(MalformedResponse):
        upstream().decode(body)
    with pytest.raises(MalformedResponse):
        upstream().decode_embeddings(body)


@pytest.mark.parametrize("rest", [b'"x":"\xff"', b'"x":"\\ud800"', b'"x":1e999', b'"x":' + b"[" * 500 + b"]" * 500])
def test_garbage_beside_the_answer_is_never_a_stray_exception(rest: bytes) -> None:
    body = (
        b'{"id":"r","choices":[{"message":{"content":"x"},"delta":{"content":"x"},"finish_reason":"stop"}],'
        + rest
        + b"}"
    )
    with suppress(MalformedResponse):
        upstream().decode(body)
    with suppress(MalformedResponse):
        (chunk,) = feed(ServerSentEvent(body))
        encoder = OpenAISurface().stream(ask(), id="i", model="m", created=1)
        assert b"[DONE]" in encoder.chunk(chunk, "openai") + encoder.end({})


def test_an_error_inside_a_200_is_that_error() -> None:
    with pytest.raises(RateLimited, match="slow down"):
        upstream().decode(b'{"error":{"code":429,"message":"slow down"}}')
    with pytest.raises(ProviderFailed, match="gone"):
        upstream().decode(answer({"content": ""}, choice={"error": {"code": 502, "message": "gone"}}))


# --- streams ----------------------------------------------------------------------------------------------------------


def event(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **fields: Any) -> ServerSentEvent:
    choice = {"index": fields.pop("index", 0), "delta": delta or {}, "finish_reason": finish_reason}
    choice.update(fields.pop("choice", {}))
    return ServerSentEvent(json.dumps({"id": "r", "model": "m", "choices": [choice]} | fields).encode())


DONE = ServerSentEvent(b"[DONE]")


def feed(*events: ServerSentEvent) -> list[Chunk]:
    decoder = upstream().stream()
    return [chunk for event in events for chunk in decoder.feed(event)]


def test_a_text_delta_is_a_chunk_with_its_bytes() -> None:
    source = event({"role": "assistant", "content": "hi"}, system_fingerprint="fp", usage=None)
    assert feed(source) == [Chunk(text="hi", id="r", model="m", fingerprint="fp", raw=source.data)]


@pytest.mark.parametrize(
    ("delta", "chunk"),
    [
        ({"reasoning_content": "hm"}, Chunk(reasoning="hm")),
        ({"content": None, "reasoning": "hm"}, Chunk(reasoning="hm")),
        ({"refusal": "no"}, Chunk(refusal="no")),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, Chunk(reasoning="hm")),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "z"}]}, Chunk(reasoning_redacted="z")),
    ],
)
def test_deltas_of_every_server_are_read(delta: dict[str, Any], chunk: Chunk) -> None:
    (read,) = feed(event(delta))
    assert msgspec.structs.replace(read, id="", model="", raw=None) == chunk


def calls(*deltas: dict[str, Any]) -> list[ToolCallDelta]:
    return [call for chunk in feed(*(event({"tool_calls": [delta]}) for delta in deltas)) for call in chunk.tool_calls]


def function(name: str | None, arguments: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


F = [ToolCallDelta(index=0, id="a", name="f", arguments="{"), ToolCallDelta(index=0, arguments="}")]
TWO = [
    ToolCallDelta(index=0, id="a", name="f", arguments="{}"),
    ToolCallDelta(index=1, id="b", name="g", arguments="{}"),
]


@pytest.mark.parametrize(
    ("deltas", "read"),
    [
        ([{"index": 0, "id": "a"} | function("f", "{"), {"index": 0} | function(None, "}")], F),
        ([{"id": "a"} | function("f", "{"), function(None, "}")], F),  # no index
        ([{"index": 0, "id": "a"} | function("f", "{"), {"index": 0, "id": "a"} | function("f", "}")], F),  # repeated
        ([{"index": 0, "id": "a"} | function("f", "{"), {"index": 0, "id": ""} | function("", "}")], F),  # empty
        ([{"index": 0, "id": "a"} | function("f", "{}"), {"index": 1, "id": "b"} | function("g", "{}")], TWO),
        ([{"index": 0, "id": "a"} | function("f", "{}"), {"index": 0, "id": "b"} | function("g", "{}")], TWO),  # Gemini
        ([{"id": "a"} | function("f", "{}"), {"id": "b"} | function("g", "{}")], TWO),
        ([{"index": 1, "id": "a"} | function("f", "{"), {"index": 1} | function(None, "}")], F),  # counted from 1
        ([{"index": 0} | function("f", {})], [ToolCallDelta(index=0, id="call_r_0", name="f", arguments="{}")]),
    ],
)
def test_tool_calls_are_put_in_order_whatever_the_server_does(deltas: Any, read: list[ToolCallDelta]) -> None:
    assert calls(*deltas) == read


def test_a_tool_call_that_had_to_be_mended_does_not_pass_as_it_came() -> None:
    proper = event({"tool_calls": [{"index": 0, "id": "a", "type": "function"} | function("f", "{}")]})
    assert feed(proper)[0].raw == proper.data
    assert feed(event({"tool_calls": [function("f", "{}")]}))[0].raw is None


def test_a_stream_is_complete_when_it_says_so() -> None:
    decoder = upstream().stream()
    decoder.feed(event({"content": "x"}))
    assert not decoder.complete
    decoder.feed(event({}, "stop"))
    assert decoder.complete
    assert not decoder.feed(DONE)


def test_a_stream_of_two_choices_is_complete_when_both_have_finished() -> None:
    decoder = upstream().stream()
    for index in (0, 1):
        decoder.feed(event({"content": "x"}, index=index))
    decoder.feed(event({}, "stop", index=0))
    assert not decoder.complete
    decoder.feed(event({}, "length", index=1))
    assert decoder.complete


def test_a_server_that_only_says_done_has_finished() -> None:
    *_, last = feed(event({"content": "x"}), DONE)
    assert last.finish == "stop"
    with pytest.raises(MalformedResponse):
        feed(DONE)


@pytest.mark.parametrize(
    "last",
    [
        [event({}, "stop", usage={"prompt_tokens": 4, "completion_tokens": 2})],
        [event({}, "stop"), ServerSentEvent(b'{"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}')],
        [event({}, "stop"), ServerSentEvent(b'{"usage":{"prompt_tokens":4,"completion_tokens":2}}')],
        [event({}, "stop", x_groq={"id": "q", "usage": {"prompt_tokens": 4, "completion_tokens": 2}})],
        [event({}, "stop", choice={"usage": {"prompt_tokens": 4, "completion_tokens": 2}})],
    ],
)
def test_usage_is_found_wherever_a_server_puts_it(last: list[ServerSentEvent]) -> None:
    chunks = feed(event({"content": "x"}, usage={"prompt_tokens": 4, "completion_tokens": 1}), *last, DONE)
    assert [chunk.usage for chunk in chunks if chunk.usage][-1] == Usage(input_tokens=4, output_tokens=2)


def test_azures_filter_results_are_not_part_of_the_answer() -> None:
    first = ServerSentEvent(b'{"id":"","model":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}')
    assert feed(first) == []


def test_logprobs_are_read() -> None:
    token = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": [{"token": "y", "logprob": -1.0}]}
    (chunk,) = feed(event({"content": "x"}, choice={"logprobs": {"content": [token]}}))
    assert chunk.logprobs == (Logprob(token="x", logprob=-0.5, bytes=(120,), top=(Logprob(token="y", logprob=-1.0),)),)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (ServerSentEvent(b'{"error":{"message":"m","type":"server_error"}}'), ProviderFailed),
        (ServerSentEvent(b'{"error":{"message":"m","code":"rate_limit_exceeded"}}'), RateLimited),
        (ServerSentEvent(b'{"error":{"message":"m","code":503}}'), Overloaded),
        (ServerSentEvent(b'{"error":"m"}'), ProviderFailed),
        (ServerSentEvent(b'{"message":"m","code":429}', b"error"), RateLimited),
        (ServerSentEvent(b"m", b"error"), ProviderFailed),
        (ServerSentEvent(b'{"object":"error","message":"m","code":400}'), BadRequest),
        (ServerSentEvent(b'{"error":{"message":"m: context length","code":400}}'), ContextTooLong),
        (event({}, choice={"error": {"message": "m", "code": 502}}), ProviderFailed),
        (event({}, x_groq={"error": "m"}), ProviderFailed),
    ],
)
def test_an_error_in_the_stream_is_that_error(source: ServerSentEvent, error: type[ProviderError]) -> None:
    decoder = upstream().stream()
    decoder.feed(event({"content": "x"}))
    with pytest.raises(error, match="m") as caught:
        decoder.feed(source)
    assert type(caught.value) is error
    assert not decoder.complete


@pytest.mark.parametrize("data", [b"x", b"{", b"{}", b"[]", b"null", b'{"choices":5}', b'{"x":"\xff"}', b"[" * 100_000])
def test_a_garbled_event_is_a_malformed_response(data: bytes) -> None:
    with pytest.raises(MalformedResponse):
        feed(ServerSentEvent(data))


@given(json_values(), st.sampled_from(["choices", "usage", "error", "message", "id", "delta", "tool_calls"]))
def test_any_json_is_read_or_a_provider_error(value: Any, key: str) -> None:
    call = {"message": {key: value}, "delta": {key: value}, "finish_reason": value}
    for payload in (value, {key: value}, {"choices": [call]}, {"choices": [{"message": value, "delta": value}]}):
        body = json.dumps(payload).encode()
        for read in (
            upstream().decode,
            upstream().decode_embeddings,
            lambda body: upstream().stream().feed(ServerSentEvent(body)),
        ):
            with suppress(ProviderError):
                read(body)
        assert isinstance(upstream().error(400, (), body), ProviderError)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("gpt-4o", True),
        ("gpt-5-mini", False),
        ("openai/o3", False),
        ("o4-mini-2025-04-16", False),
        ("gpt-5-chat-latest", True),
    ],
)
def test_a_temperature_that_the_gateway_wishes_is_not_sent_to_models_that_refuse_one(name, sent):
    upstream = OpenAIUpstream(Endpoint(model=name, base_url="http://127.0.0.1/v1"))
    request, source = OpenAISurface().decode(b'{"model": "m", "messages": [{"role": "user", "content": "?"}]}', "/")
    wished = msgspec.structs.replace(request, temperature=0.0)
    assert ("temperature" in json.loads(upstream.encode(wished, source).body)) is sent
    own = b'{"model": "m", "temperature": 0.5, "messages": [{"role": "user", "content": "?"}]}'
    request, source = OpenAISurface().decode(own, "/")
    changed = msgspec.structs.replace(request, seed=1)
    assert json.loads(upstream.encode(changed, source).body)["temperature"] == 0.5
