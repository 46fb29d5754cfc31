"""Streamed answers: event by event, with an end that nothing but finishReason marks."""

from typing import Any

import msgspec
import pytest

from holdfast.chat import Chunk, Request, ToolCallDelta, Usage
from holdfast.errors import (
    BrokenStream,
    ContentRefused,
    MalformedResponse,
    Overloaded,
    ProviderFailed,
    RateLimited,
)
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.base import Endpoint, StreamDecoder, StreamEncoder
from holdfast.providers.google import GoogleSurface, GoogleUpstream

NAMES = b'"modelVersion": "gemini-2.5-flash","responseId": "mwTL"}'
RECORDED = [
    b'{"candidates": [{"content": {"parts": [{"text": "**Plan**","thought": true}],"role": "model"},"index": 0}],'
    b'"usageMetadata": {"promptTokenCount": 8,"totalTokenCount": 40,"thoughtsTokenCount": 32},' + NAMES,
    b'{"candidates": [{"content": {"parts": [{"text": "Hello"}],"role": "model"},"index": 0}],"usageMetadata": {'
    b'"promptTokenCount": 8,"candidatesTokenCount": 1,"totalTokenCount": 41,"thoughtsTokenCount": 32},' + NAMES,
    b'{"candidates": [{"content": {"parts": [{"text": " there."}],"role": "model"},"finishReason": "STOP","index": 0,'
    b'"groundingMetadata": {"webSearchQueries": ["hi"]}}],"usageMetadata": {'
    b'"promptTokenCount": 8,"candidatesTokenCount": 3,"totalTokenCount": 43,"thoughtsTokenCount": 32},' + NAMES,
]
USAGE = Usage(input_tokens=8, output_tokens=35, reasoning_tokens=32)


def decoder() -> StreamDecoder:
    return GoogleUpstream(Endpoint(model="gemini-9", base_url="https://host.example", api_key="key")).stream()


def encoder() -> StreamEncoder:
    return GoogleSurface().stream(Request(model="f", messages=()), id="C1", model="house", created=1)


def event(**fields: Any) -> ServerSentEvent:
    return ServerSentEvent(msgspec.json.encode(fields))


def candidate(*parts: Any, index: int = 0, **fields: Any) -> Any:
    return {"content": {"parts": list(parts), "role": "model"}, "index": index} | fields


def payloads(data: bytes) -> list[Any]:
    assert data.endswith(b"\r\n\r\n")
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in data.split(b"\r\n\r\n")[:-1]]


# --- from a model


def test_a_recorded_stream_is_read() -> None:
    stream = decoder()
    chunks, complete = [], []
    for data in RECORDED:
        chunks += stream.feed(ServerSentEvent(data))
        complete.append(stream.complete)
    assert complete == [False, False, True]
    assert [chunk.reasoning for chunk in chunks] == ["**Plan**", "", ""]
    assert [chunk.text for chunk in chunks] == ["", "Hello", " there."]
    assert [chunk.finish for chunk in chunks] == [None, None, "stop"]
    assert [chunk.usage for chunk in chunks] == [None, None, USAGE]
    assert [chunk.raw for chunk in chunks] == RECORDED
    assert {(chunk.id, chunk.model) for chunk in chunks} == {("mwTL", "gemini-2.5-flash")}


def test_calls_are_numbered_within_their_choice_and_their_choice_ends_with_tool_calls() -> None:
    stream = decoder()
    call = {"functionCall": {"name": "f", "args": {}}}
    stream.feed(event(candidates=[candidate(call)], responseId="r"))
    (chunk,) = stream.feed(event(candidates=[candidate(call | {"thoughtSignature": "c2ln"})], responseId="r"))
    assert chunk.tool_calls == (ToolCallDelta(index=1, id="call_r_1", name="f", arguments="{}", signature="c2ln"),)
    (chunk,) = stream.feed(event(candidates=[candidate({"text": ""}, finishReason="STOP")]))
    assert chunk.finish == "tool_calls"


def test_a_stream_is_complete_when_every_candidate_has_ended() -> None:
    stream = decoder()
    both = stream.feed(event(candidates=[candidate({"text": "a"}), candidate({"text": "b"}, index=1)]))
    assert [(chunk.choice, chunk.text, chunk.raw) for chunk in both] == [(0, "a", None), (1, "b", None)]
    stream.feed(event(candidates=[candidate(finishReason="STOP")], usageMetadata={"promptTokenCount": 1}))
    assert not stream.complete
    (last,) = stream.feed(
        event(candidates=[candidate(index=1, finishReason="MAX_TOKENS")], usageMetadata={"promptTokenCount": 2})
    )
    assert stream.complete
    assert (last.finish, last.usage) == ("length", Usage(input_tokens=2))


def test_a_second_finish_changes_nothing_and_later_usage_counts() -> None:
    stream = decoder()
    stream.feed(event(candidates=[candidate({"text": "a"}, finishReason="STOP")]))
    (again,) = stream.feed(event(candidates=[candidate(finishReason="STOP")]))
    (usage,) = stream.feed(event(usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 1}))
    assert again.finish is None
    assert usage.usage == Usage(input_tokens=3, output_tokens=1)
    assert stream.complete


def test_an_event_that_says_nothing_is_borne() -> None:
    stream = decoder()
    assert stream.feed(ServerSentEvent(b"")) == ()
    assert not any(chunk.speaks for chunk in stream.feed(event(candidates=[{"index": 0}])))
    assert not any(chunk.speaks for chunk in stream.feed(event(usageMetadata={"promptTokenCount": 1})))
    assert not stream.complete


def test_code_that_the_provider_ran_travels_raw() -> None:
    part = {"executableCode": {"language": "PYTHON", "code": "1"}}
    (chunk,) = decoder().feed(event(candidates=[candidate(part)]))
    assert not chunk.speaks
    assert chunk.raw is not None
    assert payloads(encoder().chunk(chunk, "google"))[0]["candidates"][0]["content"]["parts"] == [part]


def test_a_refusal_in_the_middle_ends_the_choice_as_refused() -> None:
    (chunk,) = decoder().feed(event(candidates=[{"finishReason": "SAFETY", "index": 0}]))
    assert (chunk.finish, chunk.refusal_reason) == ("refused", "SAFETY")


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}, Overloaded),
        ({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}, RateLimited),
        ({"error": {"status": "INTERNAL"}}, ProviderFailed),
        ({"error": 5}, ProviderFailed),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, ContentRefused),
        ({"candidates": [candidate(finishReason="MALFORMED_FUNCTION_CALL")]}, MalformedResponse),
        ({"candidates": [candidate({})]}, MalformedResponse),
        ({"candidates": 1}, MalformedResponse),
    ],
)
def test_an_event_that_ends_the_call_is_a_typed_error(payload: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        decoder().feed(event(**payload))


@pytest.mark.parametrize("data", [b"{", b"[]", b"42", b"null", b"\xff", b"[DONE]", b"[" * 100_000, b'{"a":NaN}'])
def test_an_event_that_is_none_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedResponse):
        decoder().feed(ServerSentEvent(data))


# --- to a caller


def test_what_the_upstream_does_not_name_is_named_by_us_and_the_summary_comes_last() -> None:
    out = encoder()
    sent = out.chunk(Chunk(text="Hi"), "openai")
    assert out.chunk(Chunk(finish="stop", usage=USAGE), "openai") == b""
    end = out.end({"call": "C1"})
    assert payloads(sent) == [
        {
            "candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}, "index": 0}],
            "modelVersion": "house",
            "responseId": "C1",
        }
    ]
    (last,) = payloads(end)
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["usageMetadata"]["thoughtsTokenCount"] == 32
    assert last["holdfast"] == {"call": "C1"}


def test_an_empty_summary_is_not_sent() -> None:
    assert "holdfast" not in payloads(encoder().end({}))[0]


def test_calls_in_pieces_are_sent_whole_when_their_choice_ends() -> None:
    out = encoder()
    pieces = [
        ToolCallDelta(index=0, id="c0", name="f", signature="c2ln"),
        ToolCallDelta(index=0, arguments='{"a"'),
        ToolCallDelta(index=1, id="c1", name="g", arguments=""),
        ToolCallDelta(index=0, arguments=":1}"),
    ]
    assert b"".join(out.chunk(Chunk(tool_calls=(piece,)), "openai") for piece in pieces) == b""
    (sent,) = payloads(out.chunk(Chunk(finish="tool_calls"), "openai"))
    assert sent["candidates"][0]["content"]["parts"] == [
        {"functionCall": {"id": "c0", "name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "c1", "name": "g", "args": {}}},
    ]
    assert payloads(out.end({}))[0]["candidates"][0]["finishReason"] == "STOP"


def test_raw_events_are_relayed_and_the_last_one_without_its_end() -> None:
    stream, out = decoder(), encoder()
    chunks = [chunk for data in RECORDED for chunk in stream.feed(ServerSentEvent(data))]
    sent = [out.chunk(chunk, "google") for chunk in chunks]
    assert sent[:2] == [b"data: " + data + b"\r\n\r\n" for data in RECORDED[:2]]
    (third,) = payloads(sent[2])
    assert third["candidates"][0] == candidate({"text": " there."}, groundingMetadata={"webSearchQueries": ["hi"]})
    assert "usageMetadata" not in third
    (last,) = payloads(out.end({}))
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["responseId"] == "mwTL"


def test_a_raw_event_of_several_lines_stays_one_event() -> None:
    raw = b'{\r\n"candidates":\n[]}'
    assert payloads(encoder().chunk(Chunk(raw=raw), "google")) == [{"candidates": []}]


def test_a_stream_that_broke_ends_with_an_error_and_without_a_finish() -> None:
    out = encoder()
    out.chunk(Chunk(text="Hi", finish="stop"), "openai")
    (last,) = payloads(out.error(BrokenStream("Cut."), "C1", {"attempts": 1}))
    assert last["error"]["message"] == "Cut."
    assert last["holdfast"] == {"attempts": 1}
    assert "candidates" not in last
