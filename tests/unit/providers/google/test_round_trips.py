"""What the wire can say comes back as it was said, in every direction."""

from contextlib import suppress

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.chat import (
    Choice,
    Chunk,
    EmbeddingReply,
    EmbeddingRequest,
    Part,
    Reasoning,
    Reply,
    Request,
    Text,
    ToolResult,
)
from holdfast.errors import BadRequest, InvalidRequest, ProviderError
from holdfast.http.base import HttpRequest
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.base import Endpoint
from holdfast.providers.google import GoogleSurface, GoogleUpstream
from strategies import (
    Streamed,
    assemble,
    embedding_replies,
    embedding_requests,
    replies,
    requests,
    streamed,
)

BASE = "https://generativelanguage.googleapis.com/v1beta"
SURFACE = GoogleSurface()

law = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

sayable_parts = {
    "names": False,
    "image_urls": False,
    "image_detail": False,
    "file_ids": False,
    "file_urls": False,
    "file_names": False,
    "refusal": False,
    "reasoning_redacted": False,
    "valid_arguments": True,
}
sayable_requests = requests(
    strict=False,
    parallel_tool_calls=False,
    schema_details=False,
    reasoning_effort=False,
    order="alternating",
    results_per_message=2,
    result_image=False,
    result_file=False,
    stream_usage=False,
    **sayable_parts,
)
sayable_replies = {
    "valid_arguments": True,
    "reasoning_redacted": False,
    "refusal": False,
    "logprob_bytes": False,
    "stop_sequence": False,
    "refusal_reason": False,
    "usage_switches": {"cache_write": False},
    "fingerprint": False,
    "created": False,
}


def upstream(model: str = "gemini-3-flash") -> GoogleUpstream:
    return GoogleUpstream(Endpoint(model=model, base_url=BASE, api_key="key"))


def path(request: HttpRequest) -> str:
    return request.url.removeprefix("https://generativelanguage.googleapis.com")


def with_reasons(reply: Reply) -> Reply:
    """The wire never refuses without a reason."""
    choices = tuple(
        msgspec.structs.replace(choice, refusal_reason="SAFETY") if choice.finish == "refused" else choice
        for choice in reply.choices
    )
    return msgspec.structs.replace(reply, choices=choices)


def with_joined_results(request: Request) -> Request:
    """The result of a tool is one value on the wire, so its texts come back as one; usage is always on a stream."""

    def joined(part: Part) -> Part:
        if not isinstance(part, ToolResult):
            return part
        text = "".join(text.text for text in part.content if isinstance(text, Text))
        return msgspec.structs.replace(part, content=(Text(text=text),))

    messages = tuple(
        msgspec.structs.replace(message, parts=tuple(joined(part) for part in message.parts))
        for message in request.messages
    )
    return msgspec.structs.replace(request, messages=messages, stream_usage=request.stream)


def events(data: bytes) -> list[ServerSentEvent]:
    pieces = data.split(b"\r\n\r\n")
    assert pieces.pop() == b""
    return [ServerSentEvent(piece.removeprefix(b"data: ")) for piece in pieces]


@law
@given(sayable_requests)
def test_a_request_comes_back_as_it_was_sent(request: Request) -> None:
    sent = upstream(request.model).encode(request)
    back, source = SURFACE.decode(sent.body, path(sent))
    assert back == with_joined_results(request)
    assert source.request is back


@law
@given(sayable_requests, st.sampled_from(["minimal", "low", "medium", "high"]))
def test_an_effort_comes_back_as_it_was_sent(request: Request, effort: str) -> None:
    request = msgspec.structs.replace(request, reasoning_effort=effort, reasoning_tokens=None)
    sent = upstream(request.model).encode(request)
    assert SURFACE.decode(sent.body, path(sent))[0].reasoning_effort == effort


@law
@given(sayable_requests)
def test_an_unchanged_request_of_this_wire_is_forwarded_byte_for_byte(request: Request) -> None:
    sent = upstream(request.model).encode(request)
    spaced = msgspec.json.format(sent.body, indent=3)
    back, source = SURFACE.decode(spaced, path(sent))
    again = upstream("other").encode(back, source)
    said, forwarded = (msgspec.json.decode(body, type=dict[str, msgspec.Raw]) for body in (spaced, again.body))
    contents = [msgspec.json.decode(fields.pop("contents"), type=list[msgspec.Raw]) for fields in (said, forwarded)]
    assert contents[0] == contents[1]
    assert said == forwarded


@law
@given(requests())
def test_every_request_is_either_sent_or_refused_as_a_bad_request(request: Request) -> None:
    with suppress(BadRequest):
        sent = upstream().encode(request)
        SURFACE.decode(sent.body, path(sent))


@law
@given(replies(**sayable_replies))
def test_a_reply_comes_back_as_it_was_sent(reply: Reply) -> None:
    assert upstream().decode(SURFACE.encode(reply)) == with_reasons(reply)


@law
@given(replies())
def test_every_reply_can_be_sent(reply: Reply) -> None:
    back = upstream().decode(SURFACE.encode(reply))
    assert [choice.finish for choice in back.choices] == [choice.finish for choice in reply.choices]


def through_the_wire(chunks: list[Chunk]) -> tuple[list[Chunk], bytes]:
    encoder = SURFACE.stream(Request(model="m", messages=()), id="i", model="m", created=0)
    sent = b"".join(encoder.chunk(chunk, "openai") for chunk in chunks)
    decoder = upstream().stream()
    before_the_end = [chunk for event in events(sent) for chunk in decoder.feed(event)]
    assert not decoder.complete
    end = encoder.end({})
    (last,) = events(end)
    received = before_the_end + list(decoder.feed(last))
    assert decoder.complete
    return received, sent + end


@law
@given(streamed(**sayable_replies))
def test_a_stream_comes_back_as_it_was_sent(value: Streamed) -> None:
    received, _ = through_the_wire(value.chunks)
    assert assemble(received) == with_reasons(value.reply)


@law
@given(streamed(**sayable_replies))
def test_a_stream_of_this_wire_is_relayed_as_it_came(value: Streamed) -> None:
    received, sent = through_the_wire(value.chunks)
    encoder = SURFACE.stream(Request(model="m", messages=()), id="i", model="m", created=0)
    relayed = b"".join(encoder.chunk(chunk, "google") for chunk in received)
    decoder = upstream().stream()
    again = [chunk for event in events(relayed + encoder.end({})) for chunk in decoder.feed(event)]
    assert assemble(again) == with_reasons(value.reply)
    body = sent[: sent.rindex(b"data: ")]
    assert relayed.startswith(body)


@law
@given(streamed(**sayable_replies))
def test_how_a_choice_ended_and_usage_are_held_back_until_the_end(value: Streamed) -> None:
    encoder = SURFACE.stream(Request(model="m", messages=()), id="i", model="m", created=0)
    sent = b"".join(encoder.chunk(chunk, "openai") for chunk in value.chunks)
    for event in events(sent):
        response = msgspec.json.decode(event.data)
        assert "usageMetadata" not in response
        assert all("finishReason" not in candidate for candidate in response["candidates"])


@law
@given(embedding_requests(tokens=False, base64=False))
def test_a_request_for_embeddings_comes_back_as_it_was_sent(request: EmbeddingRequest) -> None:
    sent = upstream(request.model).encode_embeddings(request)
    assert SURFACE.decode_embeddings(sent.body, path(sent)) == request


@law
@given(embedding_replies())
def test_embeddings_come_back_as_they_were_sent(reply: EmbeddingReply) -> None:
    back = upstream(reply.model).decode_embeddings(SURFACE.encode_embeddings(reply, "float"))
    assert back == reply


@law
@given(st.binary(max_size=300) | sayable_requests.map(lambda request: upstream().encode(request).body), st.data())
def test_no_body_raises_anything_but_invalid_request(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    junk = data.draw(st.sampled_from([b"", b"NaN", b"\xff", b"{", b"]", b"null", b'"', b"1e999", b'"\\ud800"']))
    with suppress(InvalidRequest):
        SURFACE.decode(body[:at] + junk + body[at + data.draw(st.integers(0, 5)) :], "/v1beta/models/m:generateContent")


@law
@given(replies(**sayable_replies).map(SURFACE.encode), st.data())
def test_no_answer_raises_anything_but_a_provider_error(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    junk = data.draw(st.sampled_from([b"", b"NaN", b"\xff", b"{", b"]", b"null", b'"', b"1e999", b'"\\ud800"', b"{}"]))
    damaged = body[:at] + junk + body[at + data.draw(st.integers(0, 5)) :]
    for decode in (upstream().decode, lambda body: upstream().stream().feed(ServerSentEvent(body))):
        with suppress(ProviderError):
            decode(damaged)


def test_a_signature_on_text_goes_back_on_that_text() -> None:
    part = {"text": "Hello.", "thoughtSignature": "c2ln"}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "responseId": "r"}
    reply = upstream().decode(msgspec.json.encode(body))
    assert reply.choices == (Choice(parts=(Text(text="Hello."), Reasoning(signature="c2ln"))),)
    again = msgspec.json.decode(SURFACE.encode(reply))
    assert again["candidates"][0]["content"]["parts"] == [part]
