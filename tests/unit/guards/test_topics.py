"""Lists of what may be talked about."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.guards.base import Context
from holdfast.guards.streaming import Blocked, Stream
from holdfast.guards.topics import SPAN, Topics

CONTEXT = Context()


def kind(text, **lists):
    return Topics(**lists).check(text, CONTEXT).kind


@pytest.mark.parametrize("text", ["We like ACME.", "*acme*", "a-c-m-e ACME!", "ａｃｍｅ", "ac\u200bme", "\u202eacme"])
def test_a_denied_word_blocks_however_it_is_written(text):
    assert kind(text, deny=["Acme"]) == "block"


@pytest.mark.parametrize("text", ["acmeist", "placme", "ac me", "", "…"])
def test_only_whole_words_count(text):
    assert kind(text, deny=["acme"]) == "pass"


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_normal_forms_are_one(form):
    text = unicodedata.normalize(form, "un café noir")
    verdict = Topics(deny=["Café"]).check(text, CONTEXT)
    found = verdict.findings[0]
    assert unicodedata.normalize("NFC", text[found.start : found.end]) == "café"


def test_phrases_are_found_across_lines_and_punctuation():
    assert kind("legal,\n> **advice**", deny=["legal advice"]) == "block"


def test_a_phrase_that_is_torn_apart_over_more_than_the_span_is_none():
    assert kind("legal" + " " * SPAN + "advice", deny=["legal advice"]) == "pass"


def test_phrases_in_scripts_without_spaces_are_found_within_a_sentence():
    assert kind("私は東京都に住んでいます", deny=["東京"]) == "block"


def test_what_is_spared_is_no_denied_phrase():
    lists = {"deny": ["shoot"], "spare": ["photo shoot"]}
    assert kind("a photo shoot", **lists) == "pass"
    assert kind("a photo shoot; then shoot", **lists) == "block"


def test_a_text_must_mention_something_that_is_allowed():
    lists = {"allow": ["invoice", "delivery date"]}
    assert kind("When is the delivery date?", **lists) == "pass"
    assert kind("Write me a poem.", **lists) == "block"
    assert kind(" ", **lists) == "pass"


def test_a_rewrite_masks_each_phrase_and_nothing_else():
    verdict = Topics(deny=["acme", "acme corp"], action="rewrite").check("Acme corp, ACME: 1", CONTEXT)
    assert (verdict.kind, verdict.text) == ("rewrite", "[removed], [removed]: 1")
    assert verdict.reason == "2 denied phrases"


def test_patterns_match_whatever_the_case_and_form():
    lists = {"patterns": [r"\bproject\s+x\d+\b"]}
    assert kind("PROJECT  X12", **lists) == "block"
    assert kind("ｐｒｏｊｅｃｔ X1", **lists) == "block"
    assert kind("project y", **lists) == "pass"
    assert kind("project x1 \ud800", **lists) == "block"


def test_a_hostile_pattern_takes_linear_time():
    assert kind("a" * 1_000_000, patterns=["(a|a)*b", "(a+)+$b"]) == "pass"


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "a{1000}{1000}", "(", "a)|(b", "x" * 2000])
def test_patterns_without_linear_time_are_refused(pattern):
    with pytest.raises(ValueError, match=r"pattern|linear"):
        Topics(patterns=[pattern])


@pytest.mark.parametrize("lists", [{}, {"deny": ["!"]}, {"deny": ["a " * 17]}, {"spare": ["a"]}])
def test_lists_that_mean_nothing_are_refused(lists):
    with pytest.raises(ValueError, match=r"denied|letters|words"):
        Topics(**lists)


def test_what_can_only_block_is_not_masked():
    with pytest.raises(ValueError, match="rewrite"):
        Topics(patterns=["a"], action="rewrite")


TEXT = st.lists(st.sampled_from(["Acme", "acme ", "corp", " ", "é", "東京", "x" * 300, "\n" * 600, "."])).map("".join)


@settings(deadline=None)
@given(TEXT, st.integers(5, 700))
def test_a_stream_is_masked_as_the_whole_text_is(text, size):
    guard = Topics(deny=["acme", "acme corp", "東京"], action="rewrite")
    whole = guard.check(text, CONTEXT)
    stream = Stream(guard, CONTEXT)
    out = "".join([stream.feed(text[at : at + size]) for at in range(0, len(text), size)]) + stream.end()
    assert out == (text if whole.text is None else whole.text)


@settings(deadline=None)
@given(TEXT, st.integers(5, 700))
def test_a_stream_is_blocked_if_the_whole_text_is(text, size):
    guard = Topics(deny=["acme corp"])
    stream = Stream(guard, CONTEXT)
    try:
        for at in range(0, len(text), size):
            stream.feed(text[at : at + size])
        stream.end()
    except Blocked:
        assert guard.check(text, CONTEXT).kind == "block"
    else:
        assert guard.check(text, CONTEXT).kind == "pass"
