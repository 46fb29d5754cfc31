"""The bound on the work of a check holds, whatever the schema."""

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contracts.forms.cost import MAX_DEPTH, MAX_INPLACE, Unbounded, work_by_depth, work_of_parts
from holdfast.contracts.forms.schema import compile_schema

NAMES = "abcd"


class Counted:
    """A keyword that counts how often its schema is evaluated."""

    evaluations = 0

    def __init__(self, parent, value, path):
        pass

    def validate(self, instance):
        Counted.evaluations += 1


def ask(names=NAMES):
    return st.sampled_from(names).map(lambda name: {"$ref": f"#/$defs/{name}"})


def bodies(below):
    """Return schemas that look at the same value only through the definitions in `below`, so that none is endless."""
    same = st.one_of(st.just({"type": "object"}), st.just({}), *([ask(below)] if below else []))
    child = ask() | st.just({"type": "integer"})
    pairs = st.lists(same, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "allOf": pairs,
            "anyOf": pairs,
            "oneOf": pairs,
            "not": same,
            "if": same,
            "then": same,
            "properties": st.dictionaries(st.sampled_from("xy"), child, min_size=1),
            "patternProperties": st.dictionaries(st.sampled_from(["^x", "y$", "."]), child, min_size=1),
            "additionalProperties": child,
            "dependentSchemas": st.dictionaries(st.sampled_from("xy"), same, min_size=1),
            "items": child,
            "prefixItems": st.lists(child, min_size=1, max_size=2),
            "contains": child,
            "unevaluatedProperties": child,
            "unevaluatedItems": child,
        },
    )


schemas = st.fixed_dictionaries({name: bodies(NAMES[at + 1 :]) for at, name in enumerate(NAMES)}).map(
    lambda defs: {"$defs": {name: body | {"x-count": True} for name, body in defs.items()}, "$ref": "#/$defs/a"}
)
values = st.recursive(
    st.integers() | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "xy"]), inner, max_size=3),
    max_leaves=12,
)


def nodes_by_depth(value):
    counts, level = [], [value]
    while level:
        counts.append(len(level))
        level = [
            below
            for item in level
            if isinstance(item, dict | list)
            for below in (item.values() if isinstance(item, dict) else item)
        ]
    return counts


@given(schemas, values)
def test_no_check_takes_more_evaluations_than_were_counted(schema, value):
    work = work_by_depth(schema, {})
    most = sum(count * work[min(depth, len(work) - 1)] for depth, count in enumerate(nodes_by_depth(value)))
    validator = jsonschema_rs.Draft202012Validator(schema, keywords={"x-count": Counted}, offline=True)
    Counted.evaluations = 0
    validator.is_valid(value)
    assert Counted.evaluations <= most
    Counted.evaluations = 0
    errors = list(validator.iter_errors(value))
    assert Counted.evaluations <= 3 * most  # errors are told by a second and a third walk
    assert len(errors) <= most


def test_properties_add_no_work_as_only_one_looks_at_a_child():
    one = work_by_depth({"properties": {"a": {"type": "string"}}}, {})
    many = work_by_depth({"properties": {name: {"type": "string"} for name in NAMES}}, {})
    assert one[1] == many[1]


def test_recursion_that_asks_once_costs_the_same_at_every_depth():
    work = work_by_depth({"properties": {"a": {"$ref": "#"}}}, {})
    assert len(work) < 5
    assert work[-1] == work[1]


def test_recursion_that_asks_twice_doubles_with_every_depth():
    work = work_by_depth({"anyOf": [{"items": {"$ref": "#"}}] * 2}, {})
    assert [work[depth + 1] / work[depth] for depth in range(1, 10)] == [2] * 9
    assert len(work) <= MAX_DEPTH


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"$ref": "#"}, "leads back"),
        ({"anyOf": [{"type": "null"}, {"not": {"$ref": "#"}}]}, "leads back"),
        ({"$dynamicAnchor": "a", "allOf": [{"$dynamicRef": "#a"}]}, "leads back"),
        ({"$ref": "#/$defs/a", "$defs": {}}, "leads nowhere"),
        ({"$ref": "#/a%zz"}, "leads nowhere"),
        ({"$ref": "other.json"}, "leads nowhere"),
    ],
)
def test_what_has_no_bound_is_refused(schema, told):
    with pytest.raises(Unbounded, match=told):
        work_by_depth(schema, {})


def test_what_is_never_used_may_be_wrong():
    assert work_by_depth({"$defs": {"a": {"$ref": "#/$defs/a"}}}, {})


def test_a_reference_into_an_unknown_keyword_is_followed():
    schema = {"x-own": {"deep": [{"type": "string"}]}, "$ref": "#/x-own/deep/0"}
    assert work_by_depth(schema, {})[0] > work_by_depth({"x-own": 1}, {})[0]


def large_definition(references):
    large = {"properties": {f"k{number}": {"type": "string"} for number in range(100)}}
    named = {f"p{number}": {"$ref": "#/$defs/large"} for number in range(references)}
    return {"$defs": {"large": large}, "properties": named}


def test_the_parts_of_a_schema_are_counted_with_all_that_they_hold_and_refer_to():
    one = {"properties": {"a": {"type": "string"}, "b": {"items": {"type": "string"}}}}
    assert work_of_parts(one, 100) == 4 + 1 + 2 + 1
    assert work_of_parts(large_definition(2), 1_000) == 1 + 2 + 101 + 2 * 102 + 101 + 100
    assert work_of_parts(large_definition(1_000), 5_000) < 6_000


def test_a_large_definition_is_not_compiled_again_for_each_of_many_references():
    few, many = compile_schema(large_definition(2)), compile_schema(large_definition(1_000))
    assert few.subschemas.validators(("#/properties/p0",))
    assert not many.subschemas.validators(("#/properties/p0",))
    assert not many.violations("", {"p0": {"k0": "x"}})
    assert many.violations("", {"p0": {"k0": 1}})


def test_a_reference_that_could_mean_very_many_schemas_is_refused():
    named = {f"a{number}": {"$id": f"http://x/{number}/z"} for number in range(MAX_INPLACE + 1)}
    with pytest.raises(Unbounded, match="could mean any of"):
        work_by_depth({"$defs": named, "$ref": "http://x/0/z"}, {})
