"""What the wire can say survives being written and read again."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from holdfast.chat import Chunk, EmbeddingReply, EmbeddingRequest, File, Message, Reply, Request, Usage
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.base import Endpoint
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream
from strategies import assemble, embedding_replies, embedding_requests, replies, requests, streamed

QUIRKS = frozenset(("top_k", "reasoning_content", "reasoning_details", "extra_content"))
SURFACE = OpenAISurface()
UPSTREAM = OpenAIUpstream(Endpoint(model="served", base_url="https://host.example/v1", quirks=QUIRKS))
SAYABLE = {"reasoning_tokens": False, "result_name": False, "result_error": False}


def as_sent(request: Request) -> Request:
    """What arrives: streams have usage, the endpoint's model, and inline files a name."""

    def named(part: Any) -> Any:
        if isinstance(part, File) and part.data is not None:
            return msgspec.structs.replace(part, name=part.name or "document")
        if hasattr(part, "content"):
            return msgspec.structs.replace(part, content=tuple(map(named, part.content)))
        return part

    messages = tuple(
        Message(role=message.role, parts=tuple(map(named, message.parts)), name=message.name)
        for message in request.messages
    )
    return msgspec.structs.replace(request, model="served", messages=messages, stream_usage=request.stream)


def validate(model: type[BaseModel], payload: bytes) -> None:
    """Check a payload against the SDK's own type: every declared field has the declared type."""
    model.model_validate(json.loads(payload), strict=True)


@given(requests(**SAYABLE))
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    decoded, source = SURFACE.decode(UPSTREAM.encode(request).body, "/v1/chat/completions")
    assert decoded == as_sent(request)
    assert source.request is decoded


@given(requests(**SAYABLE))
def test_an_unchanged_request_is_forwarded_byte_for_byte_but_for_its_model(request: Request) -> None:
    body = UPSTREAM.encode(request).body
    decoded, source = SURFACE.decode(body, "/v1/chat/completions")
    renamed = msgspec.structs.replace(decoded, model="anything")
    assert UPSTREAM.encode(renamed, source).body == body


@given(requests(**SAYABLE), requests(**SAYABLE))
def test_changed_fields_are_written_anew_beside_unchanged_ones(request: Request, other: Request) -> None:
    decoded, source = SURFACE.decode(UPSTREAM.encode(request).body, "")
    values = {name: getattr(other, name) for name in Request.__struct_fields__ if name != "extra"}
    values["messages"] = (*decoded.messages, *other.messages)
    changed = msgspec.structs.replace(decoded, **values)
    again, _ = SURFACE.decode(UPSTREAM.encode(changed, source).body, "")
    assert again == as_sent(changed)


@given(replies(refusal_reason=False))
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    encoded = SURFACE.encode(reply)
    validate(ChatCompletion, encoded)
    assert UPSTREAM.decode(encoded) == reply


def stream_out(chunks: list[Chunk], wire: str, *, usage: bool) -> list[bytes]:
    encoder = SURFACE.stream(Request(model="m", messages=(), stream_usage=usage), id="id", model="m", created=7)
    sent = b"".join([encoder.chunk(chunk, wire) for chunk in chunks]) + encoder.end({"call": "01"})
    events = sent.split(b"\n\n")
    assert events.pop() == b""
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in events)
    return [event[6:] for event in events]


def read_back(payloads: list[bytes]) -> list[Chunk]:
    decoder = UPSTREAM.stream()
    read = [chunk for payload in payloads for chunk in decoder.feed(ServerSentEvent(payload))]
    assert decoder.complete
    return read


@given(streamed(refusal_reason=False))
def test_a_stream_is_read_as_it_was_written(drawn: Any) -> None:
    payloads = stream_out(drawn.chunks, "anthropic", usage=True)
    for payload in payloads[:-1]:
        validate(ChatCompletionChunk, payload)
    assert payloads[-1] == b"[DONE]"
    assert json.loads(payloads[-2])["holdfast"] == {"call": "01"}
    assert assemble(read_back(payloads)) == drawn.reply


@given(streamed(refusal_reason=False))
def test_a_stream_relayed_from_the_same_wire_says_the_same(drawn: Any) -> None:
    relayed = stream_out(read_back(stream_out(drawn.chunks, "google", usage=True)), "openai", usage=True)
    assert assemble(read_back(relayed)) == drawn.reply


@given(streamed(refusal_reason=False), st.data())
def test_a_stream_says_the_same_under_any_grouping(drawn: Any, data: st.DataObject) -> None:
    """Servers may put any number of choices and deltas in one event."""
    payloads = [json.loads(payload) for payload in stream_out(drawn.chunks, "x", usage=True)[:-1]]
    grouped: list[dict[str, Any]] = []
    for payload in payloads:
        seen = {choice["index"] for choice in grouped[-1]["choices"]} if grouped else set()
        fresh = all(choice["index"] not in seen for choice in payload["choices"])
        if grouped and fresh and data.draw(st.booleans()):
            grouped[-1]["choices"] += payload["choices"]
            grouped[-1].update({key: value for key, value in payload.items() if key != "choices"})
        else:
            grouped.append(payload)
    assert assemble(read_back([json.dumps(payload).encode() for payload in grouped] + [b"[DONE]"])) == drawn.reply


@given(streamed())
def test_usage_that_was_not_asked_for_is_not_sent(drawn: Any) -> None:
    once = stream_out(drawn.chunks, "anthropic", usage=True)
    relayed = stream_out(read_back(once), "openai", usage=False)
    assert all("usage" not in json.loads(payload) for payload in relayed[:-1])


@given(embedding_requests())
def test_a_request_for_embeddings_is_read_as_it_was_written(request: EmbeddingRequest) -> None:
    read = SURFACE.decode_embeddings(UPSTREAM.encode_embeddings(request).body, "/v1/embeddings")
    assert read == msgspec.structs.replace(request, model="served")


@given(embedding_replies())
def test_vectors_survive_floats_and_base64(reply: EmbeddingReply) -> None:
    reply = msgspec.structs.replace(reply, usage=Usage(input_tokens=reply.usage.input_tokens) if reply.usage else None)
    for encoding in ("float", "base64"):
        encoded = SURFACE.encode_embeddings(reply, encoding)
        if encoding == "float":
            validate(CreateEmbeddingResponse, encoded)
        read = UPSTREAM.decode_embeddings(encoded)
        assert UPSTREAM.decode_embeddings(SURFACE.encode_embeddings(read, "float")) == reply
