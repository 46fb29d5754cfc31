"""Lengths, phrases, patterns and predicates, on a whole answer and on fields."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast.contracts.base import MAX_VIOLATIONS, Contract
from holdfast.contracts.conditions import AtField, Length, Matches, Phrases, approximate_tokens, parse_field, select
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import AnyText
from holdfast.contracts.predicates import Predicate
from holdfast.errors import ConfigError


def told(text, *conditions):
    return [(one.path, one.keyword, one.message) for one in Contract(AnyText(), conditions).check(text).violations]


def told_of(value, *conditions):
    contract = Contract(compile_schema(True), conditions)
    return [(one.path, one.keyword, one.message) for one in contract.check(json.dumps(value)).violations]


@pytest.mark.parametrize(
    ("unit", "text", "length"),
    [("characters", "añ𝄞", 3), ("words", " one  two\nthree ", 3), ("tokens", "x" * 9, 3), ("tokens", "é" * 5, 3)],
)
def test_lengths_are_counted_in_characters_words_and_tokens(unit, text, length):
    assert told(text, Length(unit, min=length, max=length)) == []
    ((_, keyword, message),) = told(text, Length(unit, max=length - 1))
    assert (keyword, message) == (unit, f"it has {length} {unit}, more than {length - 1}")
    assert "fewer than" in told(text, Length(unit, min=length + 1))[0][2]


def test_tokens_can_be_counted_by_a_function_of_the_application():
    assert told("a b c", Length("tokens", max=2, count=lambda text: len(text.split())))
    ((_, keyword, message),) = told("x", Length("tokens", max=2, count=lambda text: 1 // 0))
    assert keyword == "tokens"
    assert "ZeroDivisionError" in message


@given(st.text(), st.text())
def test_the_approximation_of_tokens_grows_with_the_text(left, right):
    both = approximate_tokens(left + right)
    assert max(approximate_tokens(left), approximate_tokens(right)) <= both
    assert both <= approximate_tokens(left) + approximate_tokens(right)


def test_a_length_that_nothing_has_is_refused():
    with pytest.raises(ConfigError, match="min <= max"):
        Length("words", min=3, max=2)


def test_nothing_may_come_after_a_phrase_that_an_answer_stops_at():
    stop = Phrases("stops_at", ["."])
    assert told("Yes.", stop) == told("Yes", stop) == []
    assert told("Yes. No.", stop) == [("", "stops_at", 'it goes on after "."')]


def test_a_phrase_that_an_answer_stops_before_may_not_occur():
    stop = Phrases("stops_before", ["\n", "As an AI"])
    assert told("Yes.", stop) == []
    assert [message for _, _, message in told("As an AI,\nno", stop)] == ['it holds "\\n"', 'it holds "As an AI"']


def test_a_phrase_that_is_included_must_occur():
    assert told("see [1]", Phrases("includes", ["[1]"])) == []
    assert told("see", Phrases("includes", ["[1]"])) == [("", "includes", 'it does not hold "[1]"')]


def test_an_empty_phrase_is_refused():
    with pytest.raises(ConfigError, match="none of them empty"):
        Phrases("includes", [""])


ORDER = {
    "total": 3,
    "items": [{"price": 1, "name": "a b"}, {"price": 2, "name": "c"}, {"name": "d"}],
    "a/b": {"x": "y"},
}


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("/total", {"/total": 3}),
        ("/items/0/price", {"/items/0/price": 1}),
        ("/items/*/price", {"/items/0/price": 1, "/items/1/price": 2}),
        ("/a~1b/*", {"/a~1b/x": "y"}),
        ("/*/x", {"/a~1b/x": "y"}),
        ("/items/9/price", {}),
        ("/items/x", {}),
        ("/total/deeper", {}),
        ("/nope", {}),
    ],
)
def test_a_pointer_finds_fields_and_a_star_all_of_them(field, found):
    assert dict(select(ORDER, parse_field(field))) == found


def test_a_field_that_is_no_pointer_is_refused():
    with pytest.raises(ConfigError, match="JSON pointer"):
        AtField("total", Length("words"))


def test_conditions_hold_for_single_fields():
    assert told_of(ORDER, AtField("/items/*/name", Length("words", max=1))) == [
        ("/items/0/name", "words", "it has 2 words, more than 1")
    ]
    assert [path for path, _, _ in told_of(ORDER, AtField("/items/*/name", Matches("[abc ]+")))] == ["/items/2/name"]


def test_conditions_on_text_say_nothing_of_other_values():
    on_number = [AtField("/total", one) for one in (Length("words", min=5), Phrases("includes", ["x"]), Matches("x"))]
    assert told_of(ORDER, *on_number) == []


def test_conditions_are_looked_at_once_the_form_holds():
    contract = Contract(compile_schema({"type": "object"}), [Predicate(lambda value: value["a"] > 1)])
    assert [one.keyword for one in contract.check("[]").violations] == ["type"]
    assert [one.keyword for one in contract.check('{"a": 1}').violations] == ["predicate"]
    assert contract.check('{"a": 2}').value == {"a": 2}


def test_a_predicate_decides_by_what_it_returns():
    @holdfast.predicate
    def adds_up(order):
        """the total is the sum of the prices"""
        return order["total"] == sum(item.get("price", 0) for item in order["items"])

    assert told_of(ORDER, adds_up) == []
    assert told_of(ORDER | {"total": 4}, adds_up) == [
        ("", "predicate", "must hold: the total is the sum of the prices")
    ]
    assert adds_up(ORDER) is True
    assert adds_up.__name__ == "adds_up"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (True, None),
        (None, None),
        (False, "fails does not hold"),
        ("too dear", "too dear"),
        ("", "fails does not hold"),
        (0, "fails returned int, neither True, False, None nor a message"),
    ],
)
def test_a_predicate_returns_whether_or_what_is_wrong(returned, message):
    @holdfast.predicate()
    def fails(value):
        return returned

    assert [one[2] for one in told_of(1, fails)] == ([] if message is None else [message])


def test_a_predicate_over_fields_is_asked_for_each():
    @holdfast.predicate("/items/*/price", message="costs nothing")
    def dear(price):
        return price > 1

    assert told_of(ORDER, dear) == [("/items/0/price", "predicate", "costs nothing")]


def test_a_predicate_that_raises_is_a_violation():
    @holdfast.predicate
    def broken(order):
        return order["nope"]

    assert told_of(ORDER, broken) == [("", "predicate", "broken failed: KeyError: 'nope'")]


def test_what_is_no_predicate_is_refused_where_it_is_written():
    async def later(value):
        return True

    for test in (later, lambda: True, lambda left, right: True, 3):
        with pytest.raises(TypeError, match="expected a plain function of one value"):
            holdfast.predicate(test)
    with pytest.raises(ValueError, match="JSON pointer"):
        holdfast.predicate("price")(bool)


def test_no_more_than_some_violations_are_told():
    every = Predicate(lambda item: False, "/*")
    assert len(told_of(list(range(1_000)), every)) == MAX_VIOLATIONS
