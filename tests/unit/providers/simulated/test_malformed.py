import random

import msgspec
import pytest

from holdfast.chat import Choice, Reply, Request, Text, Usage
from holdfast.providers.simulated.malformed import HTML, MALFORMATIONS, malform
from holdfast.providers.simulated.plan import Piece, Plan
from holdfast.providers.simulated.providers import SURFACES
from holdfast.providers.simulated.replies import chunks

WIRES = ("openai", "anthropic", "google")
ENDS = {"openai": b"data: [DONE]", "anthropic": b"event: message_stop"}


def stream(wire):
    usage = Usage(input_tokens=3, output_tokens=2)
    reply = Reply(id="x-1", model="m", choices=(Choice(parts=(Text(text="Hé du"),)),), usage=usage)
    request = Request(model="m", messages=(), stream=True, stream_usage=True)
    encoder = SURFACES[wire].stream(request, id="x-1", model="m", created=1)
    pieces = [Piece(encoder.chunk(chunk, "simulated"), int(chunk.speaks)) for chunk in chunks(reply)]
    return Plan(
        wire=wire,
        headers=[("content-type", "text/event-stream")],
        stream=True,
        pieces=[*pieces, Piece(encoder.end({}))],
    )


def malformed(wire, what, offset=0):
    plan = stream(wire)
    malform(plan, what, offset, random.Random(3))
    return plan.body


def payloads(body):
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    return [msgspec.json.decode(line[6:]) for line in lines if line.startswith(b"data: {")]


def normal(body):
    return body.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("what", MALFORMATIONS)
def test_every_malformation_changes_the_body(wire, what):
    unchanged = {("google", "no_done"), ("google", "duplicate_done"), ("google", "crlf")}  # it has no end marker
    assert (malformed(wire, what) == stream(wire).body) == ((wire, what) in unchanged)


@pytest.mark.parametrize("wire", WIRES)
def test_comments_stand_between_the_events(wire):
    body = malformed(wire, "comments")
    assert body.replace(b": keep-alive\n\n", b"") == stream(wire).body


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("what", "ending"), [("crlf", b"\r\n"), ("cr", b"\r")])
def test_lines_may_end_otherwise(wire, what, ending):
    body = malformed(wire, what)
    assert body == normal(stream(wire).body).replace(b"\n", ending)


@pytest.mark.parametrize("wire", WIRES)
def test_no_space_after_the_colon(wire):
    assert b"data: " not in malformed(wire, "no_space")


@pytest.mark.parametrize("wire", WIRES)
def test_multiline_events_are_still_the_same_json(wire):
    events = normal(malformed(wire, "multiline")).split(b"\n\n")
    first = next(event for event in events if b"data: {" in event)
    data = b"\n".join([line[6:] for line in first.split(b"\n") if line.startswith(b"data: ")])
    assert msgspec.json.decode(data) == payloads(stream(wire).body)[0]


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_the_end_marker_is_missing_or_twice_there(wire):
    assert malformed(wire, "no_done").count(ENDS[wire]) == 0
    assert malformed(wire, "duplicate_done").count(ENDS[wire]) == 2


@pytest.mark.parametrize(
    ("wire", "word"), [("openai", b'"finish_reason":"stop"'), ("anthropic", b'"end_turn"'), ("google", b'"STOP"')]
)
def test_the_finish_is_missing_or_twice_there(wire, word):
    assert stream(wire).body.count(word) == 1
    assert malformed(wire, "no_finish").count(word) == 0
    assert malformed(wire, "duplicate_finish").count(word) == 2


@pytest.mark.parametrize(("wire", "key"), [("openai", "usage"), ("anthropic", "usage"), ("google", "usageMetadata")])
def test_usage_turns_up_in_odd_places(wire, key):
    def told(what):
        return [bool(payload.get(key)) for payload in payloads(malformed(wire, what))]

    assert told("usage_first")[0]
    assert not any(told("usage_first")[1:])
    assert told("usage_late")[-1]
    assert not any(told("usage_late")[:-1])
    every = [payload for payload in payloads(malformed(wire, "usage_every")) if payload.get("type") != "message_stop"]
    assert all(payload[key] for payload in every)


def test_usage_comes_even_after_done():
    assert malformed("openai", "usage_late").index(b"[DONE]") < malformed("openai", "usage_late").index(b'"usage"')


@pytest.mark.parametrize("what", ["bad_json", "garbage", "not_object", "invalid_utf8", "empty_event"])
def test_a_broken_event_is_put_where_it_was_asked_for(what):
    clean = stream("openai").body
    first = clean.index(b"\n\n") + 2
    body = malformed("openai", what, first)
    added = len(body) - len(clean)
    assert added > 0
    assert body[:first] + body[first + added :] == clean


def test_garbage_depends_only_on_the_seed():
    assert malformed("openai", "garbage") == malformed("openai", "garbage")


@pytest.mark.parametrize(
    ("what", "check"),
    [
        ("bad_json", lambda body: body == b'{"a":"b"'),
        ("not_object", lambda body: body == b"42"),
        ("invalid_utf8", lambda body: body == b'{"a":"\xff\xfeb","c":1}'),
        ("bom", lambda body: body == b'\xef\xbb\xbf{"a":"b","c":1}'),
        ("empty", lambda body: body == b""),
        ("html", lambda body: body == HTML),
        ("garbage", lambda body: len(body) == 15 and b"{" not in body[:1]),
    ],
)
def test_whole_answers_break_too(what, check):
    body = b'{"a":"b","c":1}' if what != "bad_json" else b'{"a":"b"' + b"," * 8
    plan = Plan(wire="openai", headers=[("content-type", "application/json")], pieces=[Piece(body, 1)])
    malform(plan, what, 0, random.Random(3))
    assert check(plan.body)
    assert plan.headers[0][1] == ("text/html" if what == "html" else "application/json")
