"""JSON under a JSON Schema."""

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contracts.base import MAX_VIOLATIONS, Contract, Violation
from holdfast.contracts.forms.schema import compile_schema, decode
from holdfast.errors import ConfigError

ANSWER = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "answer": {"enum": ["yes", "no"]},
        "sources": {"type": "array", "items": {"type": "string", "format": "uri"}},
    },
    "required": ["answer", "reasoning"],
    "additionalProperties": False,
}


def check(schema, text, **options):
    return Contract(compile_schema(schema, **options)).check(text)


def problem(schema, **options):
    with pytest.raises(ConfigError) as refused:
        compile_schema(schema, **options)
    return refused.value.problems[0]


def test_an_answer_that_meets_its_schema_comes_back_decoded():
    checked = check(ANSWER, ' {"reasoning": "it is", "answer": "yes"}\n')
    assert checked.ok
    assert checked.value == {"reasoning": "it is", "answer": "yes"}


def test_every_violation_is_told_with_its_place_and_keyword():
    checked = check(ANSWER, '{"answer": "maybe", "sources": ["http://a.b", 1], "a/b~": 1}')
    assert checked.value is None
    assert {(one.path, one.keyword) for one in checked.violations} == {
        ("/answer", "enum"),
        ("/sources/1", "type"),
        ("", "required"),
        ("", "additionalProperties"),
    }
    assert '"reasoning" is a required property' in {one.message for one in checked.violations}


def test_a_violation_reads_as_a_sentence_with_its_place():
    assert str(Violation("/a", "is wrong", "type")) == "/a: is wrong"
    assert str(Violation("", "is wrong", "type")) == "is wrong"


def test_keys_are_escaped_in_pointers():
    checked = check({"additionalProperties": {"type": "string"}}, '{"a/b~": 1}')
    assert checked.violations[0].path == "/a~1b~0"


def test_no_more_than_some_violations_are_told_and_none_at_length():
    checked = check({"items": {"type": "integer"}}, json.dumps(["x" * 5_000] * 100))
    assert len(checked.violations) == MAX_VIOLATIONS
    assert all(len(one.message) < 300 for one in checked.violations)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "truncated"),
        ("yes", "invalid character"),
        ('{"a": 1,}', "trailing comma|expected"),
        ('{"a": 1} and more', "trailing characters|malformed"),
        ("NaN", "invalid character"),
        ('{"a": 1, "a": 2}', 'the key "a" stands twice'),
        ('[{"b": {"a": 1, "a": 1}}]', 'the key "a" stands twice'),
        ('"\\ud800"', "."),
        ("\ud800", "surrogate"),
        ("1e999", "out of range"),
        ("[" * 5_000 + "]" * 5_000, "nested more than 128 deep"),
        ("[" * 129 + "]" * 129, "nested more than 128 deep"),
        ("\ufeff{}", "invalid character"),
        ('"a\nb"', "invalid character"),
    ],
)
def test_what_is_not_strictly_json_meets_no_schema(text, told):
    import re

    checked = check(True, text)
    assert [one.keyword for one in checked.violations] == ["json"]
    assert re.search(told, checked.violations[0].message), checked.violations[0].message


def test_json_as_deep_as_the_limit_is_checked():
    assert check({"items": {"$ref": "#"}}, "[" * 128 + "]" * 128).ok


def test_integers_beyond_64_bits_keep_their_digits():
    assert check({"type": "integer"}, "123456789012345678901234567890").value == 123456789012345678901234567890


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_every_value_meets_the_schema_that_says_it_and_comes_back_the_same(value):
    text = json.dumps(value)
    checked = check({"const": value}, text)
    assert checked.ok, checked.violations
    assert checked.value == value == decode(text)


@given(json_values, json_values)
def test_a_list_meets_a_schema_of_items_exactly_if_each_item_meets_it(left, right):
    schema = {"type": ["string", "array", "number"], "maxLength": 3, "maxItems": 2, "minimum": 0}
    one = Contract(compile_schema(schema))
    both = Contract(compile_schema({"items": schema}))
    expected = one.check(json.dumps(left)).ok and one.check(json.dumps(right)).ok
    assert both.check(json.dumps([left, right])).ok == expected


@given(st.text())
def test_no_text_makes_a_check_raise(text):
    checked = check(ANSWER, text)
    assert checked.violations
    assert checked.value is None


def test_formats_are_checked_unless_they_only_describe():
    schema = {"format": "date"}
    assert not check(schema, '"yesterday"').ok
    assert check(schema, '"2024-02-29"').ok
    assert check(schema, '"yesterday"', formats=False).ok


@pytest.mark.parametrize(
    ("draft", "schema"),
    [
        ("4", {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}),
        ("6", {"$schema": "http://json-schema.org/draft-06/schema#", "exclusiveMinimum": 1}),
        ("7", {"$schema": "http://json-schema.org/draft-07/schema#", "if": {"const": 1}, "then": False}),
        ("2020-12", {"$schema": "https://json-schema.org/draft/2020-12/schema", "exclusiveMinimum": 1}),
    ],
)
def test_a_schema_says_its_draft_or_is_told_it(draft, schema):
    assert not check(schema, "1").ok
    assert check(schema, "2").ok
    untold = {key: value for key, value in schema.items() if key != "$schema"}
    assert not check(untold, "1", draft=draft).ok


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "strin"}, "is not valid under any of"),
        ({"minimum": "1"}, 'is not of type "number"'),
        ({"$schema": "http://example.com/own"}, "Unknown meta-schema"),
        ([], "a JSON Schema is an object"),
        ("{", "not JSON"),
        ('{"type": "string", "type": "number"}', "stands twice"),
        (b"\xff", "not JSON"),
        ({"pattern": "("}, "linear time"),
        ({"pattern": "(?=a)"}, "look-around"),
        ({"pattern": r"(a)\1"}, "back-references"),
        ({"enum": [float("nan")]}, "not JSON"),
        ({"enum": [object()]}, "not JSON"),
        ({"$ref": "#/$defs/nope"}, "leads nowhere"),
        ({"$ref": "http://example.com/a.json"}, "leads nowhere"),
        ({"$ref": "file:///etc/passwd"}, "leads nowhere"),
        ({"$ref": "#"}, "leads back to its own schema"),
        ({"properties": {"a": {"$ref": "http://example.com/a.json#/$defs/a"}}}, "leads nowhere"),
    ],
)
def test_what_is_no_usable_schema_is_refused_with_a_reason(schema, told):
    import re

    found = problem(schema, name="answer.json")
    assert found.file == "answer.json"
    assert re.search(told, found.message), found.message


def test_the_place_of_a_mistake_in_a_schema_is_told():
    assert problem({"properties": {"a": {"type": 3}}}).key == "/properties/a/type"


def test_nothing_is_fetched(monkeypatch):
    def refuse(*_):
        raise AssertionError("it opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert problem({"$ref": "http://localhost:9/a.json"}).message.endswith("can be referred to")


def test_documents_that_are_given_can_be_referred_to():
    documents = {"http://example.com/a.json": {"type": "integer"}}
    schema = {"properties": {"a": {"$ref": "http://example.com/a.json"}}}
    assert check(schema, '{"a": 1}', documents=documents).ok
    assert not check(schema, '{"a": "1"}', documents=documents).ok


def test_the_schema_of_json_schema_itself_can_be_referred_to():
    schema = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    assert check(schema, '{"type": "string"}').ok
    assert not check(schema, '{"type": "strin"}').ok


def test_a_schema_that_is_changed_later_changes_no_contract():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    contract = Contract(compile_schema(schema))
    schema["properties"]["a"]["type"] = "integer"
    assert contract.check('{"a": "x"}').ok
    assert contract.schema == {"type": "object", "properties": {"a": {"type": "string"}}}


def test_a_contract_tells_its_schema_and_keys():
    contract = Contract(compile_schema(ANSWER))
    assert contract.schema == ANSWER
    assert contract.keys == ("answer", "reasoning", "sources")
    assert contract.is_json
    assert contract.constraint.kind == "json_schema"
    assert Contract(compile_schema(True)).keys == ()


EXPRESSION = {
    "$defs": {
        "expression": {
            "anyOf": [
                {"type": "number"},
                *(
                    {
                        "type": "object",
                        "properties": {
                            "op": {"const": op},
                            "left": {"$ref": "#/$defs/expression"},
                            "right": {"$ref": "#/$defs/expression"},
                        },
                        "required": ["op", "left", "right"],
                    }
                    for op in "+-*/"
                ),
            ]
        }
    },
    "$ref": "#/$defs/expression",
}


def test_a_recursive_schema_with_alternatives_checks_trees_of_usual_depth():
    tree = 1
    for op in "+-*/+":
        tree = {"op": op, "left": tree, "right": 2}
    contract = Contract(compile_schema(EXPRESSION))
    assert contract.check(json.dumps(tree)).ok
    assert not contract.check(json.dumps(tree | {"op": "%"})).ok


def test_a_large_answer_under_a_usual_schema_is_checked_whole():
    schema = {"type": "array", "items": ANSWER}
    answers = [{"reasoning": "because " * 20, "answer": "yes", "sources": ["http://a.b"]}] * 5_000
    assert check(schema, json.dumps(answers)).ok
    wrong = [*answers, {"answer": "no"}]
    assert [one.keyword for one in check(schema, json.dumps(wrong)).violations] == ["schema"]
