"""The guard of personal data masks, hides or blocks it, at once and in a stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.base import PASS, Context, Guard, Verdict
from holdfast.guards.pii.guard import PersonalData
from holdfast.guards.pii.standins import Standins
from holdfast.guards.streaming import Blocked, Stream

CONTEXT = Context("output", "session")
TEXT = "Write to bob@acme.com or call +1 415-555-2671 about card 4111 1111 1111 1111."
PIECES = [
    TEXT,
    "bob@acme.com",
    "4111 1111 1111 1111",
    "1234",
    "born ",
    "on 2/8/1935",
    " ",
    "\n",
    "x" * 40,
    "12 Oak Street",
    "@",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text("a1 -@.", max_size=20), max_size=12).map("".join)
CUTS = st.lists(st.integers(0, 1000), max_size=20)


def chunked(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(ends)]


def test_it_is_a_guard():
    assert isinstance(PersonalData("mask"), Guard)


def test_masking_puts_the_kind_in_its_place():
    verdict = PersonalData("mask").check(TEXT, CONTEXT)
    assert verdict.text == "Write to [email] or call [phone] about card [card]."
    assert verdict.kind == "rewrite"


def test_blocking_says_why_without_quoting():
    verdict = PersonalData("block").check(TEXT, CONTEXT)
    assert verdict.kind == "block"
    assert verdict.reason == "personal data: 1 card, 1 email, 1 phone"
    assert [finding.kind for finding in verdict.findings] == ["email", "phone", "card"]


def test_hiding_puts_the_stand_ins_of_the_session():
    verdict = PersonalData("restore", key=b"key").check(TEXT, CONTEXT)
    hidden, back = Standins(b"key", "session").hide(TEXT)
    assert verdict.text == hidden
    assert back.restore(hidden) == TEXT


def test_a_harmless_text_passes():
    assert PersonalData("block").check("nothing here", CONTEXT) == PASS


def test_only_some_kinds_or_only_what_is_sure_can_be_asked_for():
    assert PersonalData("mask", {"email"}).check(TEXT, CONTEXT).text == TEXT.replace("bob@acme.com", "[email]")
    assert PersonalData("block", least=0.9).check("my mobile: 467 3395", CONTEXT) == PASS
    assert PersonalData("block", least=0.8).check("my mobile: 467 3395", CONTEXT).kind == "block"


def test_what_makes_no_sense_is_told():
    with pytest.raises(ValueError, match="unknown kinds of personal data: shoe"):
        PersonalData("mask", {"email", "shoe"})
    with pytest.raises(ValueError, match="key"):
        PersonalData("restore")


@given(text=TEXTS, cuts=CUTS)
def test_a_masked_stream_is_the_masked_text(text, cuts):
    guard = PersonalData("mask")
    stream = Stream(guard, CONTEXT)
    released = "".join(map(stream.feed, chunked(text, cuts))) + stream.end()
    verdict = guard.check(text, CONTEXT)
    assert released == (verdict.text if verdict.text is not None else text)
    assert stream.verdict.findings == verdict.findings


@given(text=TEXTS, cuts=CUTS)
def test_a_stream_is_blocked_when_the_text_is_before_anything_personal_left(text, cuts):
    guard, released, verdict = PersonalData("block"), "", Verdict("pass")
    stream = Stream(guard, CONTEXT)
    try:
        for chunk in chunked(text, cuts):
            released += stream.feed(chunk)
        released += stream.end()
    except Blocked as blocked:
        verdict = blocked.verdict
    at_once = guard.check(text, CONTEXT)
    assert verdict.kind == at_once.kind
    assert text[: at_once.findings[0].start if at_once.findings else None].startswith(released)
