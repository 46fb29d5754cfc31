"""A guard over a stream says what it says of the whole text, and what it blocks has not left."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.base import PASS, Context, Finding, Guard, Kind, Span, Verdict, rewritten
from holdfast.guards.streaming import LONGEST_SENTENCE, Blocked, Stream, sentences

CONTEXT = Context("output", "session")


class Numbers:
    """Finds numbers of three to eight digits, unless a word before says that they are harmless."""

    name = "numbers"
    span: Span = 16

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def check(self, text: str, context: Context) -> Verdict:
        found = tuple(
            Finding("number", *match.span(), replacement="#" if self.kind == "rewrite" else None)
            for match in re.finditer(r"(?<![0-9])[0-9]{3,8}(?![0-9])", text)
            if not text[max(match.start() - 4, 0) : match.start()].endswith("no. ")
        )
        if not found:
            return PASS
        return Verdict(self.kind, "a number", 1.0, rewritten(text, found), found)


class Sentences:
    """Finds sentences with a word in them, by themselves."""

    name = "sentences"
    span: Span = "sentence"

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def check(self, text: str, context: Context) -> Verdict:
        found, at = [], 0
        for sentence in sentences(text):
            if "aa" in sentence:
                found.append(Finding("aa", at, at + len(sentence), replacement="[gone]"))
            at += len(sentence)
        return Verdict(self.kind, "", 0.5, rewritten(text, found), tuple(found)) if found else PASS


class Whole(Sentences):
    name = "whole"
    span: Span = "whole"

    def check(self, text: str, context: Context) -> Verdict:
        found = (Finding("long", 0, len(text)),)
        return Verdict(self.kind, "", None, text.upper(), found) if len(text) > 30 else PASS


def chunked(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(ends)]


def streamed(guard: Guard, chunks: list[str]) -> tuple[str, Verdict]:
    stream, released = Stream(guard, CONTEXT), ""
    try:
        for chunk in chunks:
            released += stream.feed(chunk)
        released += stream.end()
    except Blocked as blocked:
        return released, blocked.verdict
    return released, stream.verdict


TEXTS = st.text("12 3.ano!\n", max_size=120) | st.lists(
    st.sampled_from(["123", "no. ", " 4567", "99", "aa", "b. ", "!\n", "x" * 20, "1" * 9, "12345678"]), max_size=30
).map("".join)
CUTS = st.lists(st.integers(0, 400), max_size=40)
GUARDS = [Numbers, Sentences, Whole]


@pytest.mark.parametrize("make", GUARDS)
@given(text=TEXTS, cuts=CUTS)
def test_a_stream_that_is_rewritten_is_the_rewritten_text(make, text, cuts):
    at_once = make("rewrite").check(text, CONTEXT)
    released, verdict = streamed(make("rewrite"), chunked(text, cuts))
    assert released == (text if at_once.text is None else at_once.text)
    assert (verdict.kind, verdict.findings) == (at_once.kind, at_once.findings)


@pytest.mark.parametrize("make", GUARDS)
@given(text=TEXTS, cuts=CUTS)
def test_a_stream_is_blocked_when_the_text_is_and_nothing_of_what_is_blocked_left(make, text, cuts):
    at_once = make("block").check(text, CONTEXT)
    released, verdict = streamed(make("block"), chunked(text, cuts))
    assert verdict.kind == at_once.kind
    if at_once.kind == "block":
        assert text[: at_once.findings[0].start].startswith(released)
        assert verdict.findings[0] == at_once.findings[0]
    else:
        assert released == text


@given(text=TEXTS, cuts=CUTS)
def test_a_character_waits_for_no_more_than_the_span_behind_it_unless_it_is_in_a_finding(text, cuts):
    guard = Numbers("pass")
    findings = guard.check(text, CONTEXT).findings
    stream, fed, released = Stream(guard, CONTEXT), 0, 0
    for chunk in chunked(text, cuts):
        fed += len(chunk)
        released += len(stream.feed(chunk))
        settled = max(fed - guard.span, 0)
        assert released >= min([settled, *(found.start for found in findings if found.end > settled)])
        assert released <= settled


@pytest.mark.parametrize("make", GUARDS)
def test_a_stream_without_text_ends_as_the_empty_text(make):
    assert streamed(make("block"), []) == ("", PASS)


@given(text=TEXTS)
def test_sentences_joined_are_the_text(text):
    assert "".join(sentences(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three", ["One. ", "Two! ", "Three"]),
        ("He said “no.” And left.", ["He said “no.” ", "And left."]),
        ("v1.2.3 is out", ["v1.2.3 is out"]),
        ("一。二！三", ["一。", "二！", "三"]),
        ("a\n\nb", ["a\n", "\n", "b"]),
        ("", []),
    ],
)
def test_a_sentence_ends_where_people_end_it(text, expected):
    assert sentences(text) == expected


def test_a_sentence_that_never_ends_is_let_go_in_pieces():
    stream = Stream(Sentences("block"), CONTEXT)
    text = "b" * (3 * LONGEST_SENTENCE + 5)
    assert stream.feed(text) == text[:-5]
    assert stream.end() == text[-5:]
    assert [len(sentence) for sentence in sentences(text)] == [LONGEST_SENTENCE] * 3 + [5]


def test_a_blocked_stream_says_why_and_quotes_nothing():
    stream = Stream(Numbers("block"), CONTEXT)
    with pytest.raises(Blocked, match="a number") as blocked:
        stream.feed("here it comes: 1234 and then a lot of other words")
    assert blocked.value.verdict.findings == (Finding("number", 15, 19),)
    assert "1234" not in str(blocked.value)
