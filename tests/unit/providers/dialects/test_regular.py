"""Regular expressions that every server reads alike, and grammars of them."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from llguidance.gbnf_to_lark import any_to_lark

from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.patterns import Pattern
from holdfast.contracts.forms.text import PatternForm
from holdfast.errors import ConfigError
from holdfast.providers.dialects.regular import (
    gbnf_of_choices,
    gbnf_of_pattern,
    is_anchored,
    pattern_of_choices,
    plain,
)

TEXTS = st.text(st.sampled_from('ab01-_ .|^é\n\\"]'), max_size=5)


def derives(gbnf: str, text: str) -> bool:
    """Whether llguidance, which reads GBNF too, derives a text."""
    return not GrammarForm(any_to_lark(gbnf)).read(text)[2]


@pytest.mark.parametrize(
    ("pattern", "grammar"),
    [
        ("abc", 'root ::= "a" "b" "c"'),
        ("^[a-z]+$", "root ::= [a-z]+"),
        (r"(?:yes|no)!?", 'root ::= ("y" "e" "s" | "n" "o") "!"?'),
        (r"\d{2,4}-\w*", 'root ::= [0-9]{2,4} "-" [0-9A-Z_a-z]*'),
        (r'["\\\]^-]', r'root ::= ["\x5C\x5D\x5E\x2D]'),
        (r"[^\n.]", r"root ::= [^\x0A.]"),
        (r"a|", 'root ::= "a" | ""'),
        (r"\u00e9\x00", r'root ::= "é" "\x00"'),
        (".", r"root ::= [^\x0A]"),
        ("a{3}b{2,}?", 'root ::= "a"{3} "b"{2,}'),
    ],
)
def test_simple_expressions_become_grammars(pattern, grammar):
    assert gbnf_of_pattern(pattern) == grammar


@pytest.mark.parametrize(
    "pattern",
    [
        r"\p{L}",
        r"\bword\b",
        "(?=a)b",
        "(?!a)b",
        "(?<=a)b",
        r"(a)\1",
        "(?i)a",
        "a**",
        "a{2}{3}",
        "[]",
        "[a",
        "(a",
        "a)",
        "*",
        "a{9999}",
        "a{3,2}",
        "a{1001}",
        "[z-a]",
        r"[\d-z&&a]",
        "[[:alpha:]]",
        r"\z",
        r"\x1",
        r"\u12",
        "a^",
        "$a",
        "(^a)",
        "{",
        r"\01",
        "[a--b]",
        "\\",
        "(" * 60 + ")" * 60,
        "a" * 2001,
        r"\ud800",
    ],
)
def test_what_engines_differ_about_goes_nowhere(pattern):
    assert plain(pattern) is None
    assert gbnf_of_pattern(pattern) is None
    assert not is_anchored(pattern)


@pytest.mark.parametrize(
    ("pattern", "anchored", "alone"),
    [
        ("^a$", True, "a"),
        ("a", False, "a"),
        ("^a", False, "a"),
        ("^a$|^b$", True, "a|b"),
        ("^a|b$", False, "a|b"),
        ("^(a|b)$", True, "(a|b)"),
        (r"^a\$", False, r"a\$"),
        ("^$", True, ""),
    ],
)
def test_anchors_at_the_ends_are_seen_and_taken_off(pattern, anchored, alone):
    assert is_anchored(pattern) is anchored
    assert plain(pattern) == alone


PIECES = st.sampled_from(
    [
        "a",
        "b",
        ".",
        r"\d",
        r"\w",
        r"\s",
        r"\S",
        "[ab]",
        "[^ab]",
        "[a-c0]",
        r"[\d_-]",
        "(a|b)",
        "(?:ab)",
        r"\.",
        r"\|",
        "é",
        "-",
    ]
)
TIMES = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "*?"])
PATTERNS = st.builds(
    lambda start, parts, end: start + "".join(piece + times for piece, times in parts) + end,
    st.sampled_from(["", "^"]),
    st.lists(st.tuples(PIECES, TIMES), max_size=4),
    st.sampled_from(["", "$"]),
)


@settings(max_examples=200, deadline=None)
@given(pattern=PATTERNS, texts=st.lists(TEXTS, min_size=3, max_size=6))
def test_what_is_sent_means_what_the_contract_means(pattern, texts):
    sent = plain(pattern)
    assume(sent is not None)
    form, other = PatternForm(pattern), Pattern(f"^(?:{sent})$")
    for text in texts:
        whole = not form.read(text)[2]
        assert other.matches(text) == whole
        assert derives(gbnf_of_pattern(pattern), text) == whole, (pattern, gbnf_of_pattern(pattern), text)


@settings(max_examples=60, deadline=None)
@given(
    choices=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4, unique=True), other=st.text(max_size=3)
)
def test_choices_are_those_texts_and_no_others(choices, other):
    assume(not any("\ud800" <= character <= "\udfff" for text in [*choices, other] for character in text))
    grammar, pattern = gbnf_of_choices(choices), re.compile(pattern_of_choices(choices))
    for text in [*choices, other]:
        assert (pattern.fullmatch(text) is not None) == (text in choices)
    assume(not any(character < " " for text in choices for character in text))  # llguidance reads these otherwise
    for text in [*choices, other]:
        assert derives(grammar, text) == (text in choices), grammar


@settings(max_examples=200)
@given(pattern=st.text(st.sampled_from(r"ab01\()[]{}|^$*+?.-,:<>!=dxu&~"), max_size=12))
def test_any_text_is_an_expression_or_none(pattern):
    sent = plain(pattern)
    if sent is not None:
        try:
            Pattern(sent)
        except ConfigError as error:  # only for its size
            assert "large" in str(error)  # noqa: PT017
