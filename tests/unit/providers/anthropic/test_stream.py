"""Streams of the Anthropic wire: decoded from a model, encoded for a caller, and passed through."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from holdfast.chat import Chunk, Reasoning, Request, Text, ToolCall, ToolCallDelta, Usage
from holdfast.errors import (
    AuthenticationFailed,
    ContextTooLong,
    MalformedResponse,
    Overloaded,
    PhaseTimeout,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.base import Endpoint, StreamEncoder
from strategies import Streamed, assemble, streamed

UPSTREAM = AnthropicUpstream(Endpoint(model="m", base_url="https://api.anthropic.com", api_key="secret-key-1"))
REQUEST = Request(model="m", messages=(), stream=True)
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
RECORDED = Path(__file__).parent / "recorded"
WHOLE = ["text", "tools", "server_tools", "refusal"]
SAYABLE = {
    "choices": 1,
    "tool_signatures": False,
    "valid_arguments": True,
    "refusal": False,
    "logprob": False,
    "fingerprint": False,
    "usage_switches": {"audio": False},
}


def encoder() -> StreamEncoder:
    return AnthropicSurface().stream(REQUEST, id="msg_call", model="fallback", created=0)


def parse(stream: bytes) -> list[ServerSentEvent]:
    events = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(ServerSentEvent(data.removeprefix("data: ").encode(), name.removeprefix("event: ").encode()))
    return events


def recorded(name: str) -> list[ServerSentEvent]:
    return parse((RECORDED / f"{name}.sse").read_bytes())


def decode(events: list[ServerSentEvent]) -> list[Chunk]:
    decoder = UPSTREAM.stream()
    return [chunk for event in events for chunk in decoder.feed(event)]


def encode(chunks: list[Chunk], wire: str = "openai", summary: dict[str, Any] | None = None) -> bytes:
    encode_ = encoder()
    return b"".join([*(encode_.chunk(chunk, wire) for chunk in chunks), encode_.end(summary or {})])


def accumulate(stream: bytes) -> Any:
    """Put a message together as the SDK does, each event checked against its types."""
    message, buffers = None, {}
    for event in parse(stream):
        payload = json.loads(event.data)
        assert payload["type"] == event.name.decode()
        if payload["type"] != "ping":
            value = EVENT.validate_python(payload)
            message = accumulate_event(event=value, current_snapshot=message, json_bufs=buffers)
    return message


def neutral(chunks: list[Chunk]) -> list[Chunk]:
    return [msgspec.structs.replace(chunk, raw=None) for chunk in chunks]


# --- decoding ---------------------------------------------------------------------------------------------------------


def test_text_is_decoded_with_usage_that_counts_cached_tokens_as_input() -> None:
    reply = assemble(decode(recorded("text")))
    assert reply.text == "The tide is out — 潮が引いた."
    assert reply.id == "msg_01Vgx9BVg9pQhRBRVGZsQ5Qm"
    assert reply.model == "claude-haiku-4-5-20251001"
    assert reply.choices[0].finish == "stop"
    expected = Usage(input_tokens=2112, output_tokens=15, cache_read_tokens=2000, cache_write_tokens=100)
    assert reply.usage == expected


def test_thinking_and_parallel_tool_calls_are_decoded() -> None:
    choice = assemble(decode(recorded("tools"))).choices[0]
    assert choice.finish == "tool_calls"
    assert choice.parts == (
        Reasoning(
            text="Two cities, two calls.",
            signature="EqQBCgIYAhIM1gbcDa9GJwZA2b3h",
            redacted="EmwKAhgBEgy3va3pzix",
        ),
        ToolCall(id="toolu_01T1x1fJ34qAmk2tNTrN7Up6", name="get_weather", arguments='{"location": "San Francisco"}'),
        ToolCall(id="toolu_01Nz2", name="get_time", arguments="{}"),
    )


def test_usage_of_the_start_stays_where_the_end_does_not_repeat_it() -> None:
    usage = assemble(decode(recorded("tools"))).usage
    assert usage == Usage(input_tokens=472, output_tokens=89, reasoning_tokens=20)


def test_tokens_of_the_start_alone_are_no_count_of_the_answer() -> None:
    start = b'{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":9,"output_tokens":1}}}'
    ends = (
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}}',
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":9}}',
    )
    for end in ends:
        assert assemble(decode([ServerSentEvent(start), ServerSentEvent(end)])).usage is None


def test_blocks_of_server_tools_travel_as_raw_only() -> None:
    chunks = decode(recorded("server_tools"))
    assert [chunk.text for chunk in chunks if chunk.speaks] == ["Kelp holds fast."]
    assert assemble(chunks).choices[0].finish == "length", "a paused turn must not pass for a complete answer"
    assert b"encrypted_content" in b"".join(chunk.raw or b"" for chunk in chunks)


def test_a_refusal_carries_the_providers_reason() -> None:
    choice = assemble(decode(recorded("refusal"))).choices[0]
    assert (choice.finish, choice.refusal_reason, choice.text) == ("refused", "bio", "First, ")


@pytest.mark.parametrize("name", WHOLE)
def test_a_stream_is_complete_when_it_has_said_why_it_ended_and_not_before(name: str) -> None:
    decoder = UPSTREAM.stream()
    for event in recorded(name):
        ended = any(chunk.finish is not None for chunk in decoder.feed(event))
        assert decoder.complete == ended
        if ended:
            return
    pytest.fail("it never said why it ended")


def test_usage_that_comes_with_the_very_last_event_is_not_lost() -> None:
    decoder = UPSTREAM.stream()
    *before, stop = recorded("text")
    for event in before:
        decoder.feed(event)
    late = json.loads(stop.data) | {"usage": {"output_tokens": 77}}
    (chunk,) = decoder.feed(ServerSentEvent(json.dumps(late).encode()))
    assert chunk.usage is not None
    assert chunk.usage.output_tokens == 77
    assert chunk.usage.input_tokens > 0


@pytest.mark.parametrize("at", [0, 2])
def test_usage_that_is_told_elsewhere_reaches_the_end_of_the_callers_stream(at: int) -> None:
    request = Request(model="m", messages=())
    encoder, decoder = AnthropicSurface().stream(request, id="msg_1", model="m", created=0), UPSTREAM.stream()
    out = b""
    for number, event in enumerate(recorded("text")):
        payload = json.loads(event.data)
        payload.pop("usage", None)
        told = payload | ({"usage": {"output_tokens": 77}} if number == at else {})
        for chunk in decoder.feed(ServerSentEvent(json.dumps(told).encode())):
            out += encoder.chunk(chunk, "anthropic")
    events = [json.loads(line[6:]) for line in (out + encoder.end({})).splitlines() if line.startswith(b"data: ")]
    (ending,) = [event for event in events if event["type"] == "message_delta"]
    assert ending["usage"]["output_tokens"] == 77


@pytest.mark.parametrize("name", WHOLE)
def test_every_event_gives_one_chunk_that_carries_it(name: str) -> None:
    events = recorded(name)
    assert [chunk.raw for chunk in decode(events)] == [event.data for event in events]


def test_an_error_in_the_stream_is_raised_after_what_came_before() -> None:
    decoder = UPSTREAM.stream()
    *before, error = recorded("overloaded")
    assert "".join(chunk.text for event in before for chunk in decoder.feed(event)) == "Half an"
    with pytest.raises(Overloaded, match="Overloaded"):
        decoder.feed(error)
    assert not decoder.complete


@pytest.mark.parametrize(
    ("type", "message", "expected"),
    [
        ("overloaded_error", "Overloaded", Overloaded),
        ("rate_limit_error", "Slow down", RateLimited),
        ("api_error", "Internal server error", ProviderFailed),
        ("timeout_error", "Too slow", ProviderFailed),
        ("authentication_error", "invalid x-api-key", AuthenticationFailed),
        ("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum", ContextTooLong),
        ("new_error", "", ProviderFailed),
    ],
)
def test_errors_in_the_stream_have_their_type(type: str, message: str, expected: type[ProviderError]) -> None:
    data = json.dumps({"type": "error", "error": {"type": type, "message": message}}).encode()
    with pytest.raises(expected) as caught:
        UPSTREAM.stream().feed(ServerSentEvent(data, b"error"))
    assert caught.type is expected


def test_an_error_in_the_stream_does_not_repeat_the_key() -> None:
    data = b'{"type":"error","error":{"type":"api_error","message":"bad key secret-key-1"}}'
    with pytest.raises(ProviderFailed) as caught:
        UPSTREAM.stream().feed(ServerSentEvent(data))
    assert "secret-key-1" not in caught.value.message


def test_events_of_unknown_types_pass_whatever_they_hold() -> None:
    data = b'{"type":"progress","delta":7,"index":"three","message":[]}'
    assert UPSTREAM.stream().feed(ServerSentEvent(data)) == (Chunk(raw=data),)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"type":7}',
        b'{"type":"content_block_delta","index":0}',
        b'{"type":"content_block_delta","index":0,"delta":"x"}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":7}}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xff"}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text"}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":7,"name":"f"}}',
        b'{"type":"message_start"}',
        b'{"type":"message_delta","usage":{}}',
        b'{"type":"error","error":null}',
        b'{"type":"x","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_events_that_do_not_follow_the_format_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedResponse):
        UPSTREAM.stream().feed(ServerSentEvent(data))


def test_an_event_without_data_says_nothing() -> None:
    assert UPSTREAM.stream().feed(ServerSentEvent(b"", b"ping")) == ()


def test_input_that_is_whole_when_its_block_opens_is_taken() -> None:
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {"b": 1}}
    data = msgspec.json.encode({"type": "content_block_start", "index": 0, "content_block": block})
    (chunk,) = UPSTREAM.stream().feed(ServerSentEvent(data))
    assert chunk.tool_calls == (ToolCallDelta(index=0, id="a", name="f", arguments='{"b":1}'),)


# --- encoding ---------------------------------------------------------------------------------------------------------


@given(streamed(**SAYABLE))
def test_what_is_encoded_is_decoded_again(value: Streamed) -> None:
    expected = msgspec.structs.replace(value.reply, usage=value.reply.usage or Usage())
    assert assemble(decode(parse(encode(value.chunks)))) == expected


@given(streamed(**SAYABLE))
def test_the_sdk_puts_the_same_message_together(value: Streamed) -> None:
    message = accumulate(encode(value.chunks))
    said = value.reply.choices[0]
    assert "".join(block.text for block in message.content if block.type == "text") == said.text
    calls = [json.loads(part.arguments) for part in said.parts if isinstance(part, ToolCall)]
    assert [block.input for block in message.content if block.type == "tool_use"] == calls
    assert message.stop_reason in {"end_turn", "stop_sequence", "max_tokens", "tool_use", "refusal"}
    assert message.usage.output_tokens == (value.reply.usage or Usage()).output_tokens


@given(streamed(tool=True, choices=3), st.booleans())
def test_blocks_follow_each_other_and_every_one_is_closed(value: Streamed, passed: bool) -> None:
    stream = encode(value.chunks)
    if passed:
        stream = encode(decode(parse(stream)), "anthropic")
    open_, seen, names = None, 0, []
    for event in parse(stream):
        payload = json.loads(event.data)
        names.append(payload["type"])
        if payload["type"] == "content_block_start":
            assert (open_, payload["index"]) == (None, seen)
            open_, seen = payload["index"], seen + 1
        elif payload["type"] == "content_block_delta":
            assert payload["index"] == open_
        elif payload["type"] == "content_block_stop":
            assert payload["index"] == open_
            open_ = None
    assert open_ is None
    assert (names[0], names[-2:]) == ("message_start", ["message_delta", "message_stop"])


def test_calls_that_interleave_come_one_after_the_other() -> None:
    def piece(index: int, arguments: str, id: str | None = None) -> Chunk:
        return Chunk(tool_calls=(ToolCallDelta(index=index, id=id, name=id and f"f_{id}", arguments=arguments),))

    chunks = [
        piece(0, "", "a"),
        piece(1, "", "b"),
        piece(0, '{"x":'),
        piece(1, '{"y":'),
        piece(1, "2}"),
        piece(0, "1}"),
    ]
    message = accumulate(encode([*chunks, Chunk(finish="tool_calls")]))
    assert [(block.id, block.name, block.input) for block in message.content] == [
        ("a", "f_a", {"x": 1}),
        ("b", "f_b", {"y": 2}),
    ]


def test_thinking_after_a_signature_is_a_block_of_its_own() -> None:
    chunks = [Chunk(reasoning="a"), Chunk(reasoning_signature="s1"), Chunk(reasoning="b"), Chunk(text="c")]
    message = accumulate(encode([*chunks, Chunk(finish="stop")]))
    assert [block.type for block in message.content] == ["thinking", "thinking", "text"]
    assert [block.thinking for block in message.content[:2]] == ["a", "b"]


def test_ids_of_calls_are_made_where_the_model_gave_none() -> None:
    call = Chunk(tool_calls=(ToolCallDelta(index=0, name="f", arguments="{}"),))
    message = accumulate(encode([call, Chunk(finish="tool_calls")]))
    assert message.content[0].id == "toolu_msg_call_0"


def test_ids_that_the_wire_does_not_allow_are_changed() -> None:
    call = Chunk(tool_calls=(ToolCallDelta(index=0, id="functions.f:0", name="f", arguments="{}"),))
    assert accumulate(encode([call, Chunk(finish="tool_calls")])).content[0].id == "functions_f_0"


def test_nothing_says_how_it_ended_before_the_end() -> None:
    encode_ = encoder()
    sent = encode_.chunk(Chunk(text="Hello", finish="stop", usage=Usage(input_tokens=3, output_tokens=5)), "openai")
    assert b"end_turn" not in sent
    assert b'"output_tokens":5' not in encode_.chunk(Chunk(text="!"), "openai")
    assert b'"stop_reason":"end_turn"' in encode_.end({})


def test_the_last_payload_carries_the_summary() -> None:
    summary = {"model": "gpt", "attempts": 2}
    events = parse(encode([Chunk(text="Hello"), Chunk(finish="stop")], summary=summary))
    assert json.loads(events[-1].data) == {"type": "message_stop", "holdfast": summary}
    assert not any(b"holdfast" in event.data for event in events[:-1])


def test_other_choices_are_left_out() -> None:
    chunks = [Chunk(text="a"), Chunk(choice=1, text="b"), Chunk(choice=1, finish="length"), Chunk(finish="stop")]
    message = accumulate(encode(chunks))
    assert message.content[0].text == "a"
    assert message.stop_reason == "end_turn"


def test_an_empty_answer_is_still_a_whole_message() -> None:
    message = accumulate(encode([]))
    assert (message.id, message.model, message.content, message.stop_reason) == ("msg_call", "fallback", [], "end_turn")


def test_a_refusal_ends_with_its_stop_reason() -> None:
    message = accumulate(encode([Chunk(refusal="I can't."), Chunk(finish="refused", refusal_reason="policy")]))
    assert message.stop_reason == "refusal"
    assert message.stop_details.explanation == "policy"
    assert message.content[0].text == "I can't."


# --- passing through --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_a_stream_of_the_same_wire_passes_unchanged(name: str) -> None:
    assert parse(encode(decode(recorded(name)), "anthropic")) == recorded(name)


@pytest.mark.parametrize("name", WHOLE)
def test_how_a_passed_stream_ends_is_held_back(name: str) -> None:
    encode_ = encoder()
    sent = b"".join(encode_.chunk(chunk, "anthropic") for chunk in decode(recorded(name)))
    assert b"message_delta" not in sent
    assert b"message_stop" not in sent
    end = parse(encode_.end({"attempts": 1}))
    assert end[0] == recorded(name)[-2]
    assert json.loads(end[1].data) == {"type": "message_stop", "holdfast": {"attempts": 1}}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("wire", ["openai", "google"])
def test_a_stream_of_another_wire_is_made_from_its_neutral_fields(name: str, wire: str) -> None:
    chunks = decode(recorded(name))
    expected = assemble(neutral(chunks))
    assert assemble(neutral(decode(parse(encode(chunks, wire))))) == expected


def test_text_goes_on_in_the_same_block_when_another_model_takes_over() -> None:
    first = decode(recorded("overloaded")[:-1])
    encode_ = encoder()
    sent = b"".join(encode_.chunk(chunk, "anthropic") for chunk in first)
    sent += encode_.chunk(Chunk(text=" answer", id="chatcmpl-1", model="gpt"), "openai")
    sent += encode_.chunk(Chunk(finish="stop"), "openai") + encode_.end({})
    message = accumulate(sent)
    assert [block.text for block in message.content] == ["Half an answer"]
    assert message.id == "msg_01O"


def test_a_second_model_of_the_same_wire_does_not_begin_a_second_message() -> None:
    encode_ = encoder()
    sent = b"".join(encode_.chunk(chunk, "anthropic") for chunk in decode(recorded("overloaded")[:-1]))
    sent += b"".join(encode_.chunk(chunk, "anthropic") for chunk in decode(recorded("text"))) + encode_.end({})
    message = accumulate(sent)
    assert [block.text for block in message.content] == ["Half anThe tide is out — 潮が引いた."]
    assert sent.count(b"event: message_start") == 1
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 15


def test_a_raw_event_can_not_smuggle_in_another() -> None:
    encode_ = encoder()
    encode_.chunk(decode(recorded("text"))[0], "anthropic")
    raw = json.dumps({"type": "x\ndata: {}\n\nevent: y"}).encode()
    assert encode_.chunk(Chunk(raw=raw), "anthropic") == b""
    assert b"\n" not in encode_.chunk(Chunk(raw=b'{"type":"ping",\n"a":1}'), "anthropic").strip().split(b"\n", 1)[1]


def test_what_is_known_of_an_answer_comes_after_the_beginning_of_its_message() -> None:
    encode_ = encoder()
    sent = encode_.object({"a": 1}, ["/a"]) + encode_.object({"a": 1}, [""])
    sent += encode_.chunk(Chunk(text='{"a": 1}', id="m", model="m"), "last_resort")
    sent += encode_.chunk(Chunk(finish="stop"), "last_resort") + encode_.end({})
    names = [event.name for event in parse(sent)]
    assert names[:3] == [b"message_start", b"holdfast.object", b"holdfast.object"]
    assert names.count(b"message_start") == 1
    told = json.loads(parse(sent)[1].data)
    assert told == {
        "type": "holdfast.object",
        "holdfast": {"event": "object", "object": {"a": 1}, "complete": ["/a"]},
    }


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_event_names_the_call_and_ends_no_message() -> None:
    encode_ = encoder()
    encode_.chunk(Chunk(text="Half"), "openai")
    (event,) = parse(encode_.error(PhaseTimeout("idle", 15), "01CALL", {"attempts": 2}))
    assert event.name == b"error"
    assert json.loads(event.data) == {
        "type": "error",
        "error": {"type": "timeout_error", "message": "The provider was silent for 15 s (phase: idle)."},
        "request_id": "01CALL",
        "holdfast": {"attempts": 2},
    }


def test_text_chunks_are_parts_of_one_text() -> None:
    reply = assemble(decode(parse(encode([Chunk(text="a"), Chunk(text="b"), Chunk(finish="length")]))))
    assert reply.choices[0].parts == (Text(text="ab"),)
    assert reply.choices[0].finish == "length"
