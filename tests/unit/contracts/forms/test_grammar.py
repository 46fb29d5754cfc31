"""Answers that a Lark grammar describes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contracts.base import Contract
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.errors import ConfigError

SUMS = """start: term (("+" | "-") term)*
term: NUMBER | "(" start ")"
NUMBER: /[0-9]+/
"""


@pytest.mark.parametrize("text", ["1", "12+3", "(1-2)+(3+(4-5))", "1+1" + "+1" * 500])
def test_what_the_grammar_derives_meets_the_contract(text):
    assert Contract(GrammarForm(SUMS)).check(text).value == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "ends before it is complete"),
        ("(1+2", "ends before it is complete"),
        ("1+x", 'line 1, column 3: the grammar does not allow "x" here'),
        ("1 + 2", 'line 1, column 2: the grammar does not allow " + 2" here'),
        ("1\n", 'column 2: the grammar does not allow "\\n"'),
        ("\ud800", "surrogate"),
    ],
)
def test_what_it_does_not_derive_is_told_with_its_place(text, told):
    (violation,) = Contract(GrammarForm(SUMS)).check(text).violations
    assert violation.keyword == "grammar"
    assert told in violation.message


def test_places_count_characters_not_bytes():
    form = GrammarForm('start: "é\\n" "é" "a"')
    assert "line 2, column 2" in Contract(form).check("é\néb").violations[0].message


def test_a_check_leaves_nothing_behind():
    contract = Contract(GrammarForm(SUMS))
    assert not contract.check("1+").ok
    assert contract.check("1+1").ok


@pytest.mark.parametrize("grammar", ["", "start: (", "start: nope", "start: /(?=a)b/", "begin: 'a'"])
def test_what_is_no_grammar_is_refused_with_a_reason(grammar):
    with pytest.raises(ConfigError) as refused:
        GrammarForm(grammar, name="answer.lark")
    assert refused.value.problems[0].file == "answer.lark"
    assert refused.value.problems[0].message


def test_a_chain_of_rules_that_no_stack_holds_is_refused():
    rules = [f'r{rule}: "a" r{rule + 1} | "b" r{rule + 1}' for rule in range(4000)]
    with pytest.raises(ConfigError, match="more than 1,000 rules"):
        GrammarForm("\n".join(["start: r0", *rules, 'r4000: "x"']))


def test_a_server_can_be_asked_for_it():
    contract = Contract(GrammarForm(SUMS))
    assert (contract.constraint.kind, contract.constraint.value) == ("grammar", SUMS)
    assert not contract.is_json


@given(
    st.recursive(st.integers(0, 99).map(str), lambda one: st.tuples(one, one).map(lambda two: f"({two[0]}+{two[1]})"))
)
def test_every_sum_is_derived_and_none_that_is_cut(text):
    contract = Contract(GrammarForm(SUMS))
    assert contract.check(text).ok
    if text.endswith(")"):
        assert not contract.check(text[:-1]).ok
