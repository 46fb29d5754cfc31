"""A stream comes back with the originals whatever its pieces, and is hardly held back."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.pii.restoring import Decoded, escaped
from holdfast.guards.pii.standins import Hidden

HIDDEN = Hidden(
    {
        "kim@ab.example.com": 'bob "the\nbuilder"@acme.com',
        "+1 212-555-0100": "+1 415-555-2671",
        "+12125550100": "+14155552671",
        "212-555-0100": "030/1",
        "555-0100": "467 3395",
        "12 Oak Street": "é 7\nB",
        "12 Oak": "nothing",
        "4000001": "99",
        "(21) 22": "(1) \\",
        "东路8": "西路9",
    }
)
ALPHABET = '+1 25-0(4Ookim@ab.example\\/nu0é东路8\n"'
TEXTS = st.lists(
    st.sampled_from([*HIDDEN.originals, *(s[:-1] for s in HIDDEN.originals), *(s[:4] for s in HIDDEN.originals)])
    | st.text(ALPHABET, max_size=4),
    max_size=10,
).map("".join)
CUTS = st.lists(st.integers(0, 300), max_size=30)


def chunked(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(ends)]


@given(text=TEXTS, cuts=CUTS, in_json=st.booleans())
def test_a_stream_is_restored_as_the_whole_text_is(text, cuts, in_json):
    restorer = HIDDEN.restorer(in_json)
    released = "".join(map(restorer.feed, chunked(text, cuts))) + restorer.end()
    assert released == HIDDEN.restore(text, in_json)


@given(text=TEXTS, cuts=CUTS, ascii_only=st.booleans())
def test_a_stream_of_json_means_what_the_restored_strings_mean(text, cuts, ascii_only):
    raw = json.dumps({"a": text}, ensure_ascii=ascii_only)
    restorer = HIDDEN.restorer(in_json=True)
    released = "".join(map(restorer.feed, chunked(raw, cuts))) + restorer.end()
    assert json.loads(released) == {"a": HIDDEN.restore(text)}


@given(text=TEXTS)
def test_no_more_is_held_back_than_a_stand_in_may_be_long(text):
    restorer = Hidden(dict.fromkeys(HIDDEN.originals, "")).restorer()
    fed = ""
    for char in text:
        fed += char
        restorer.feed(char)
        assert len(restorer.held) <= max(map(len, HIDDEN.originals))
        assert fed.endswith(restorer.held)


def test_what_cannot_begin_a_stand_in_goes_at_once():
    restorer = HIDDEN.restorer()
    assert restorer.feed("Hello, my dear ") == "Hello, my dear "
    assert restorer.feed("+1 212-555-01") == ""
    assert restorer.feed("00") == ""
    assert restorer.feed("!") == "+1 415-555-2671!"
    assert restorer.end() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4000001", "99"),
        ("44000001", "44000001"),
        ("40000012", "40000012"),
        ("x4000001x", "x99x"),
        ("12 Oak Streets", "nothing Streets"),
        ("12 Oaks", "12 Oaks"),
        ("xkim@ab.example.com", "xkim@ab.example.com"),
        ("+1 212-555-0100", "+1 415-555-2671"),
        ("1 212-555-0100", "1 030/1"),
        ("555-0100", "467 3395"),
    ],
)
def test_a_stand_in_is_found_where_it_stands_by_itself_the_longest_first(text, expected):
    assert HIDDEN.restore(text) == expected


@pytest.mark.parametrize("raw", [r"\u0034000001", r"\n4000001\n", r"\"4000001\"", r"\\4000001", r"\u005c4000001"])
def test_escapes_in_json_are_what_they_mean(raw):
    assert json.loads(f'"{HIDDEN.restore(raw, in_json=True)}"') == json.loads(f'"{raw}"').replace("4000001", "99")


@pytest.mark.parametrize("raw", ["\\", "\\u12", "\\x", "\\ud83d", "\\ud83d\\ude00", "a\\"])
def test_broken_escapes_are_let_be(raw):
    restorer = HIDDEN.restorer(in_json=True)
    assert "".join(map(restorer.feed, raw)) + restorer.end() == raw


@given(text=st.text())
def test_decoding_undoes_what_json_escapes(text):
    raw = json.dumps(text)[1:-1]
    decoded = Decoded(raw, True)
    assert decoded.text.encode("utf-16", "surrogatepass").decode("utf-16") == text
    assert decoded.at(len(decoded.text)) == len(raw)
    assert json.loads(f'"{escaped(text)}"') == text


def test_without_stand_ins_nothing_is_held_back():
    restorer = Hidden().restorer()
    assert restorer.feed("4000001") == "4000001"
    assert restorer.end() == ""
