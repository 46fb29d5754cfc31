"""Answers that are text: any, a choice, a pattern."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contracts.base import MAX_TEXT, Contract
from holdfast.contracts.forms.patterns import cost
from holdfast.contracts.forms.text import AnyText, ChoiceForm, PatternForm
from holdfast.errors import ConfigError


def told(form, text):
    checked = Contract(form).check(text)
    return [(one.keyword, one.message) for one in checked.violations]


def test_any_text_will_do_and_is_its_own_value():
    contract = Contract(AnyText())
    assert contract.check("Hello.").value == "Hello."
    assert contract.check("").ok
    assert (contract.schema, contract.keys, contract.constraint, contract.is_json) == (None, (), None, False)


def test_a_text_beyond_the_limit_meets_no_contract():
    assert told(AnyText(), "x" * (MAX_TEXT + 1))[0][0] == "limit"
    assert Contract(AnyText()).check("x" * MAX_TEXT).ok


def test_a_choice_is_taken_to_the_letter():
    form = ChoiceForm(["yes", "no"])
    assert Contract(form).check("yes").value == "yes"
    assert told(form, "Yes") == [("choice", '"Yes" is none of "no", "yes"; nearest is "yes"')]
    assert told(form, "yes\n")[0][0] == "choice"
    assert Contract(form).constraint.value == ("yes", "no")


@pytest.mark.parametrize("choices", [[], [""], ["a", "a"]])
def test_choices_that_can_not_be_meant_are_refused(choices):
    with pytest.raises(ConfigError):
        ChoiceForm(choices)


@pytest.mark.parametrize(
    ("pattern", "text", "ok"),
    [
        ("[0-9]{4}-[0-9]{2}", "2024-02", True),
        ("[0-9]{4}-[0-9]{2}", "2024-02\n", False),
        ("[0-9]{4}-[0-9]{2}", "on 2024-02", False),
        ("a|b", "ab", False),
        ("a|b", "b", True),
        ("^a$", "a", True),
        ("(?i)yes", "YES", True),
        (r"\p{Lu}\p{Ll}+", "Änne", True),
        (r"\d+", "٣", False),
        ("", "", True),
        (".", "\ud800", False),
    ],
)
def test_a_pattern_matches_a_text_from_its_start_to_its_end(pattern, text, ok):
    assert Contract(PatternForm(pattern)).check(text).ok == ok


def test_what_does_not_match_is_shown_beside_its_pattern():
    ((keyword, message),) = told(PatternForm("[0-9]+"), "x" * 1_000)
    assert keyword == "pattern"
    assert message.endswith('xx" does not match [0-9]+ from its start to its end')
    assert len(message) < 300


@pytest.mark.parametrize("pattern", ["(", "a)|(b", "(?=a)", r"(a)\1", "((a{1000}){1000}){1000}", "x" * 10_000])
def test_what_is_no_pattern_of_linear_time_is_refused(pattern):
    with pytest.raises(ConfigError):
        PatternForm(pattern)


@given(st.text(alphabet="ab"))
def test_a_pattern_agrees_with_pythons_own(text):
    pattern = "(a|ab)*b{1,3}a?"
    assert Contract(PatternForm(pattern)).check(text).ok == bool(re.fullmatch(pattern, text))


def test_the_cost_of_a_pattern_counts_its_repetitions_written_out():
    assert cost("a{100}") > 50 * cost("a")
    assert cost("(a{100}){100}") > 50 * cost("a{100}")
    assert cost("[a-z]{3}") == cost("a{3}") == cost("a{1,3}")
    assert cost("a{3}b{3}") < 2 * cost("a{4}")
    assert cost("(((a{999}){999}){999}){999}") == cost("((((a{999}){999}){999}){999}){999}")


@given(st.text(alphabet="()[]{}?*+\\p<:1,9a^-|", max_size=60))
def test_every_pattern_has_a_cost_and_is_taken_or_refused(pattern):
    assert cost(pattern) > 0
    with suppress(ConfigError):
        Contract(PatternForm(pattern)).check("a1")
