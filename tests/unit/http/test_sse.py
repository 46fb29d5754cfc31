"""Server-sent events, checked against the standard's own algorithm."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import MalformedResponse
from holdfast.http.sse import ServerSentEvent, SSEParser


def reference(stream: bytes) -> list[ServerSentEvent]:
    """The standard, section 9.2.6, read literally, on a whole stream; at its end a blank line is supposed."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + b"\n\n"
    events, data, name = [], b"", b""
    for line in text.split(b"\n"):
        if line == b"":
            if data:
                events.append(ServerSentEvent(data.removesuffix(b"\n"), name))
            data, name = b"", b""
        elif not line.startswith(b":"):
            field, colon, value = line.partition(b":")
            value = value[1:] if colon and value.startswith(b" ") else value
            if field == b"event":
                name = value
            elif field == b"data":
                data += value + b"\n"
    return events


def parse(*pieces: bytes) -> list[ServerSentEvent]:
    parser = SSEParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.end()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({0, len(stream), *[place % (len(stream) + 1) for place in places]})
    return [stream[a:b] for a, b in pairwise(bounds)]


LINES = st.sampled_from(
    [
        b"",
        b"",
        b"data: x",
        b"data:  y",
        b"data",
        b"data:",
        b"data: \xc3\xa9\xe2\x82\xac",
        b"event: e",
        b"event:f",
        b"event",
        b": comment",
        b":",
        b"id: 1",
        b"retry: 5",
        b"Data: no",
        b"data:a:b",
        b"\xef\xbb\xbfdata: z",
        b"other",
        b" data: q",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=20).map(
    lambda lines: b"".join([line + end for line, end in lines])
)


@given(
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb"]), STREAMS, LINES, st.lists(st.integers(0, 10_000), max_size=12)
)
def test_any_stream_cut_anywhere_gives_the_events_of_the_standard(
    start: bytes, stream: bytes, rest: bytes, places: list[int]
) -> None:
    stream = start + stream + rest
    assert parse(*cut(stream, places)) == reference(stream)


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"\n")), st.lists(st.integers(0, 100), max_size=8))
def test_any_bytes_cut_anywhere_give_the_events_of_the_standard(stream: bytes, places: list[int]) -> None:
    assert parse(*cut(stream, places)) == reference(stream)


@given(st.lists(LINES, max_size=20), st.sampled_from([b"\r\n", b"\r"]), st.lists(st.integers(0, 10_000), max_size=12))
def test_every_line_ending_gives_the_same_events(lines: list[bytes], end: bytes, places: list[int]) -> None:
    assert parse(*cut(end.join(lines), places)) == parse(b"\n".join(lines))


def test_events_come_as_soon_as_their_blank_line() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\nda") == [ServerSentEvent(b"a")]
    assert parser.feed(b"ta: b\n\ndata: c\n\n") == [ServerSentEvent(b"b"), ServerSentEvent(b"c")]


def test_a_carriage_return_ends_an_event_without_waiting_for_a_line_feed() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\r\n\r") == [ServerSentEvent(b"a")]
    assert parser.feed(b"\ndata: b\r\n\r\n") == [ServerSentEvent(b"b")]


def test_the_common_shapes_of_events() -> None:
    stream = b'event: delta\ndata: {"a":1}\n\ndata: {"b":2}\n\n: ping\n\n'
    stream += b"event: stop\nid: 7\ndata: x\ndata: y\n\ndata: [DONE]\n\n"
    assert SSEParser().feed(stream) == [
        ServerSentEvent(b'{"a":1}', b"delta"),
        ServerSentEvent(b'{"b":2}'),
        ServerSentEvent(b"x\ny", b"stop"),
        ServerSentEvent(b"[DONE]"),
    ]


def test_an_event_without_its_blank_line_comes_at_the_end() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\n\ndata: b") == [ServerSentEvent(b"a")]
    assert parser.end() == [ServerSentEvent(b"b")]
    assert parser.end() == []


def test_an_end_without_data_gives_nothing() -> None:
    assert parse(b"data: a\n\nevent: b\n: c") == [ServerSentEvent(b"a")]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 200,
        b"data: " + b"x" * 200 + b"\n\n",
        b"data: xxxxx\n" * 20,
        b":" + b"c" * 200,
        b"data\n" * 200,
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_above_the_limit_is_refused(stream: bytes, size: int) -> None:
    parser = SSEParser(limit=100)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    with pytest.raises(MalformedResponse, match="longer than 100 bytes"):
        [parser.feed(piece) for piece in pieces]


def test_a_stream_may_be_longer_than_the_limit_of_an_event() -> None:
    parser = SSEParser(limit=100)
    assert len(parser.feed(b"data: 12345\n\n" * 50)) == 50
    for _ in range(50):
        assert parser.feed(b": " + b"c" * 60 + b"\n") == []
    assert parser.feed(b"data: a\n\n") == [ServerSentEvent(b"a")]


def _seconds(pieces: int, piece: bytes) -> float:
    parser = SSEParser()
    start = time.process_time()
    for _ in range(pieces):
        parser.feed(piece)
    return time.process_time() - start


@pytest.mark.parametrize("piece", [b"x", b"data: x\n"])
def test_time_is_linear_in_the_length_of_one_event(piece: bytes) -> None:
    short, long = (min(_seconds(count, piece) for _ in range(3)) for count in (50_000, 400_000))
    assert long < 8 * short * 4
