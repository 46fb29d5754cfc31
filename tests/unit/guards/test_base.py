"""What a guard says, and what a rewrite makes of a text."""

import pytest

from holdfast.guards.base import PASS, Context, Finding, Guard, Span, Verdict, rewritten


class Silent:
    name = "silent"
    span: Span = 1

    def check(self, text: str, context: Context) -> Verdict:
        return PASS


def test_a_guard_is_anything_with_a_name_a_span_and_a_check():
    assert isinstance(Silent(), Guard)
    assert not isinstance(object(), Guard)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ((), "one two"),
        ((Finding("word", 0, 3),), "one two"),
        ((Finding("word", 0, 3, replacement="1"),), "1 two"),
        ((Finding("word", 0, 3, replacement=""), Finding("word", 4, 7, replacement="three")), " three"),
        ((Finding("word", 0, 3), Finding("word", 4, 7, replacement="2")), "one 2"),
    ],
)
def test_a_rewrite_replaces_the_findings_that_say_what_replaces_them(findings, expected):
    assert rewritten("one two", findings) == expected
