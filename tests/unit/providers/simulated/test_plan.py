import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.providers.simulated.framing import frames
from holdfast.providers.simulated.plan import BEFORE_HEADERS, Piece, Plan, Position

EVENTS = [
    b'data: {"a":"one"}\n\n',
    'data: {"a":" zwölf"}\n\n'.encode(),
    b'data: {"a":" three"}\n\n',
    b"data: [DONE]\n\n",
]


def stream(**fields):
    pieces = [Piece(event, tokens=event != EVENTS[-1]) for event in EVENTS]
    return Plan(wire="openai", headers=[], pieces=pieces, stream=True, framing="chunked", **fields)


def whole(body=b'{"text": "one two"}', tokens=2):
    return Plan(wire="openai", headers=[], pieces=[Piece(body, tokens)])


@pytest.mark.parametrize(
    ("position", "before"),
    [
        ("0", b""),
        ("1", EVENTS[0]),
        ("3", b"".join(EVENTS[:3])),
        ("99", b"".join(EVENTS[:3])),
        ("end", b"".join(EVENTS[:3])),
        ("7b", b"data: {"),
        ("9999b", b"".join(EVENTS)),
        ("1e", b'data: {"'),
        ("4e", b"".join(EVENTS[:3]) + b"data: "),
        ("9e", b"".join(EVENTS[:3]) + b"data: "),
        ("0u", EVENTS[0] + b'data: {"a":" zw\xc3'),
        ("2u", EVENTS[0] + EVENTS[1]),
    ],
)
def test_a_position_in_a_stream_is_after_these_bytes(position, before):
    plan = stream()
    assert plan.body[: plan.offset(Position(position))] == before


def test_the_start_is_before_the_headers():
    assert stream().offset(Position("start")) == BEFORE_HEADERS


@pytest.mark.parametrize(("position", "share"), [("0", 0), ("1", 9), ("2", 18), ("end", 18), ("5b", 5), ("1e", 9)])
def test_tokens_of_a_whole_answer_are_its_shares_and_never_all_of_it(position, share):
    assert whole().offset(Position(position)) == share


@pytest.mark.parametrize("text", ["", "twelve", "-1", "3x", "1.5", None, True, 2.5])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(ValueError, match="expected a position"):
        Position.parse(text)


def test_a_number_is_a_position_in_tokens():
    assert Position.parse(12) == "12"
    assert (Position.parse(12).unit, Position.parse(12).amount) == ("tokens", 12)


@given(st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 3))), st.integers(0, 60))
def test_splitting_changes_neither_bytes_nor_tokens(pieces, offset):
    plan = Plan(wire="openai", headers=[], pieces=[Piece(data, tokens) for data, tokens in pieces])
    body, tokens = plan.body, plan.tokens
    index = plan.split(offset)
    assert (plan.body, plan.tokens) == (body, tokens)
    assert b"".join([piece.data for piece in plan.pieces[:index]]) == body[:offset]


def test_a_truncated_whole_answer_still_announces_its_true_length():
    plan = whole()
    plan.truncate(4)
    plan.ending = "cut"
    assert [frame.data for frame in frames(plan)] == [b'HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n{"te']


def test_pieces_without_a_wait_leave_in_one_write():
    assert len(frames(stream())) == 1


def test_each_wait_begins_a_write_at_its_time():
    plan = stream()
    plan.pieces[0].wait, plan.pieces[2].wait = 0.5, 0.25
    timed = frames(plan)
    assert [frame.at for frame in timed] == [0.0, 0.5, 0.75]
    assert [frame.tokens for frame in timed] == [0, 2, 1]


def test_late_headers_leave_with_the_first_piece():
    plan = stream(late_head=True)
    plan.pieces[0].wait = 0.5
    assert [frame.at for frame in frames(plan)] == [0.5]


def test_only_a_complete_chunked_body_is_terminated():
    complete, cut = stream(), stream(ending="cut")
    assert frames(complete)[-1].data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert frames(cut)[-1].data.endswith(b"data: [DONE]\n\n\r\n")


def test_an_empty_piece_waits_without_ending_the_body():
    plan = stream()
    plan.pieces.insert(1, Piece(b"", wait=1.0))
    assert b"".join([frame.data for frame in frames(plan)]).count(b"0\r\n\r\n") == 1


def test_a_header_can_not_smuggle_another():
    plan = whole()
    plan.headers.append(("x-note", "a\r\nset-cookie: b"))
    assert b"x-note: a  set-cookie: b\r\n" in frames(plan)[0].data
