"""Schemas in the dialects of servers."""

import json
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from holdfast.chat import ResponseFormat
from holdfast.providers.dialects import servers
from holdfast.providers.dialects.dialect import CONSTRAINTS, Dialect, Keyword, keywords
from holdfast.providers.dialects.narrowing import Unsuited, is_object, narrowed
from holdfast.providers.dialects.servers import Server, constrained
from strategies import json_values

DIALECTS = {
    name: server.dialect
    for name, server in vars(servers).items()
    if isinstance(server, Server) and server.dialect is not None
}
STRICT = {name: dialect for name, dialect in DIALECTS.items() if dialect.closing == "must"}
ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {"reasoning": {"type": "string", "minLength": 1}, "answer": {"type": "string"}},
    "required": ["reasoning", "answer"],
    "additionalProperties": False,
}


def wire(schema: Any, dialect: Dialect) -> Any:
    return narrowed(schema, dialect).schema


def at(*found: str) -> tuple[Keyword, ...]:
    """Keywords, each written as PATH#KEYWORD."""
    return tuple(sorted(Keyword(*one.split("#")) for one in found))


# --- laws -------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "x/y", "~"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([0.5, 2.0]),
    st.sampled_from(["", "a", "ab", "2020-01-01"]),
)
INSTANCES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TYPES = ["object", "array", "string", "integer", "number", "boolean", "null"]
REFS = st.sampled_from(["#", "#/$defs/one", "#/$defs/two", "#/definitions/three", "#/properties/a", "#/$defs/none"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=2)
    named = st.dictionaries(NAMES, inner, min_size=1, max_size=3)
    count = st.integers(0, 3)
    optional = {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=2, unique=True),
        "enum": st.lists(SCALARS, min_size=1, max_size=3, unique_by=lambda value: json.dumps(value)),
        "const": SCALARS,
        "properties": named,
        "required": st.lists(NAMES, max_size=2, unique=True),
        "additionalProperties": inner,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=1),
        "propertyNames": inner,
        "minProperties": count,
        "dependentSchemas": named,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=1), max_size=1),
        "unevaluatedProperties": inner,
        "items": inner,
        "prefixItems": some,
        "minItems": count,
        "maxItems": count,
        "contains": inner,
        "uniqueItems": st.booleans(),
        "minimum": count,
        "maximum": count,
        "multipleOf": st.integers(1, 2),
        "minLength": count,
        "maxLength": count,
        "pattern": st.sampled_from(["a", "^a", "^a+$", "^(?:a|b)*$", "^a$|b"]),
        "format": st.sampled_from(["date", "email", "regex"]),
        "anyOf": some,
        "oneOf": some,
        "allOf": some,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "$ref": REFS,
        "description": st.just("about"),
    }
    chosen = st.lists(st.sampled_from(sorted(optional)), max_size=4, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: optional[name] for name in names}))


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects such as applications ask for, so that strict dialects take some."""

    def of(properties: dict[str, Any], required: set[str] | None, more: dict[str, Any]) -> dict[str, Any]:
        names = list(properties) if required is None else [name for name in properties if name in required]
        return {"type": "object", "properties": properties, "required": names, **more}

    return st.builds(
        of,
        st.dictionaries(NAMES, inner, min_size=1, max_size=3),
        st.none() | st.sets(NAMES, max_size=2),
        st.sampled_from(
            [{}, {}, {"additionalProperties": False}, {"additionalProperties": True}, {"minProperties": 2}]
        ),
    )


LEAVES = st.one_of(
    st.booleans(),
    st.just({}),
    st.builds(lambda name: {"type": name}, st.sampled_from(TYPES)),
    st.builds(lambda ref: {"$ref": ref}, REFS),
)
SCHEMAS = st.recursive(LEAVES, lambda inner: _schemas(inner) | _objects(inner), max_leaves=8)
ROOTS = st.builds(
    lambda root, one, two, three: {**root, "$defs": {"one": one, "two": two}, "definitions": {"three": three}},
    st.one_of(_objects(SCHEMAS), _schemas(SCHEMAS)),
    SCHEMAS,
    SCHEMAS,
    SCHEMAS,
)


def validator(schema: Any) -> Any:
    try:
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    except (jsonschema_rs.ValidationError, ValueError, jsonschema_rs.ReferencingError):
        return None


def accepts(found: Any, instance: Any) -> bool:
    try:
        return bool(found.is_valid(instance))
    except (ValueError, RecursionError):
        return False


def closed(schema: Any, is_schema: bool = True) -> Any:
    """A schema in which objects that name properties and say nothing of others allow no others."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if not is_schema:
        return {key: closed(value) for key, value in schema.items()}
    maps = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
    read = {key: closed(value, key not in maps) if key not in DATA else value for key, value in schema.items()}
    plain = not any(key in schema for key in (*BESIDE, "$ref", "patternProperties", "unevaluatedProperties"))
    if plain and schema.get("type") == "object" and schema.get("properties"):
        read.setdefault("additionalProperties", False)
    return read


DATA = ("enum", "const", "required", "dependentRequired")
BESIDE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(schema=ROOTS, instances=st.lists(INSTANCES, min_size=4, max_size=10))
def test_what_is_sent_accepts_whatever_the_schema_accepts(schema, instances):
    before, strictly = validator(schema), validator(closed(schema))
    assume(before is not None and strictly is not None)
    accepted = [instance for instance in instances if accepts(before, instance)]
    for name, dialect in DIALECTS.items():
        try:
            sent = narrowed(schema, dialect).schema
        except Unsuited:
            continue
        after = validator(closed(sent) if dialect.closing == "silently" else sent)
        assert after is not None, (name, sent)
        for instance in accepted:
            if dialect.closing == "never" or accepts(strictly, instance):
                assert accepts(after, instance), (name, sent, instance)


MORE = st.sampled_from(
    [
        {},
        {},
        {},
        {"description": "about"},
        {"not": {"const": 1}},
        {"minLength": 1},
        {"maxLength": 1},
        {"pattern": "^a*$"},
        {"pattern": "a"},
        {"format": "date"},
        {"minimum": 1},
        {"maximum": 2, "multipleOf": 2},
        {"minItems": 2},
        {"maxItems": 1},
        {"uniqueItems": True},
        {"if": {"type": "string"}, "then": {"minLength": 1}},
        {"title": "T"},
    ]
)


@st.composite
def typed(draw: st.DrawFn, depth: int = 0) -> tuple[dict[str, Any], Any]:
    """A schema such as applications write, and a value that it often accepts."""
    kinds = ["string", "integer", "number", "enum", "null"] + ["object", "array", "anyOf", "lists"] * (depth < 3)
    kind = "object" if depth == 0 else draw(st.sampled_from(kinds))
    more = draw(MORE)
    if kind == "enum":
        values = draw(st.lists(st.sampled_from(["a", "ab", 1, None]), min_size=1, max_size=3, unique=True))
        return {"enum": values} | more, draw(st.sampled_from(values))
    if kind == "anyOf":
        pairs = draw(st.lists(typed(depth + 1), min_size=1, max_size=3))
        return {draw(st.sampled_from(["anyOf", "oneOf"])): [pair[0] for pair in pairs]} | more, draw(
            st.sampled_from([pair[1] for pair in pairs])
        )
    if kind == "array":
        schema, value = draw(typed(depth + 1))
        return {"type": "array", "items": schema} | more, draw(st.sampled_from([[], [value], [value, value]]))
    if kind == "lists":
        return {"type": draw(st.sampled_from([["string", "null"], ["integer", "string"]]))} | more, draw(SCALARS)
    if kind != "object":
        values = {"string": ["", "a", "ab", "2020-01-01"], "integer": [0, 1, 2], "number": [0.5, 2], "null": [None]}
        return {"type": kind} | more, draw(st.sampled_from(values[kind]))
    inner = draw(st.dictionaries(NAMES, typed(depth + 1), min_size=1, max_size=3))
    others = draw(st.sampled_from([{"additionalProperties": False}] * 4 + [{}, {"additionalProperties": {}}]))
    left_out = draw(st.sampled_from([None] * 6 + list(inner)))
    schema = {
        "type": "object",
        "properties": {name: pair[0] for name, pair in inner.items()},
        "required": [name for name in inner if name != left_out],
    }
    return schema | others | more, {name: pair[1] for name, pair in inner.items() if name != left_out}


@settings(max_examples=150, deadline=None)
@given(pair=typed())
def test_a_strict_dialect_accepts_whatever_the_schema_accepts(pair):
    schema, instance = pair
    assume(accepts(validator(schema), instance))
    for name, dialect in DIALECTS.items():
        with suppress(Unsuited):
            sent = narrowed(schema, dialect).schema
            assert accepts(validator(closed(sent) if dialect.closing == "silently" else sent), instance), (name, sent)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=ROOTS)
def test_every_keyword_is_either_enforced_or_checked(schema):
    every = keywords(schema)
    assert len(set(every)) == len(every)
    for dialect in DIALECTS.values():
        try:
            found = narrowed(schema, dialect)
        except Unsuited:
            continue
        assert sorted([*found.enforced, *found.checked]) == list(every)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=ROOTS, server=st.sampled_from([value for value in vars(servers).values() if isinstance(value, Server)]))
def test_any_schema_becomes_something_for_any_server(schema, server):
    found = constrained(ResponseFormat(type="schema", schema=schema), server)
    assert sorted([*found.enforced, *found.checked]) == list(keywords(schema))
    if found.format is None:
        assert not found.enforced


@settings(max_examples=100, deadline=None)
@given(value=json_values())
def test_what_is_no_schema_at_all_is_no_crash(value):
    for dialect in DIALECTS.values():
        for schema in (
            {"type": "object", "properties": value, "required": value, "$defs": value},
            {"anyOf": value},
            {"type": value, "enum": value},
            {"$ref": value, "allOf": value, "items": value, "$id": value},
        ):
            with suppress(Unsuited):
                narrowed(schema, dialect)


# --- dialects ---------------------------------------------------------------------------------------------------------


def strings(**fields: Any) -> dict[str, Any]:
    """A closed object whose one required property is a string with more to it."""
    return {
        "type": "object",
        "properties": {"a": {"type": "string", **fields}},
        "required": ["a"],
        "additionalProperties": False,
    }


def test_a_schema_that_a_dialect_has_in_full_is_sent_as_it_is():
    assert narrowed(ANSWER, DIALECTS["VLLM"]).schema is ANSWER


@pytest.mark.parametrize(
    ("name", "field", "is_enforced"),
    [
        ("OPENAI", {"pattern": "^a+$"}, True),
        ("OPENAI", {"format": "email"}, True),
        ("OPENAI", {"minLength": 1}, False),
        ("TUNED", {"pattern": "^a+$"}, False),
        ("AZURE", {"pattern": "^a+$"}, False),
        ("GROQ", {"pattern": "^a+$"}, False),
        ("CEREBRAS", {"format": "email"}, False),
        ("ANTHROPIC", {"format": "uri"}, True),
        ("ANTHROPIC", {"pattern": "^a+$"}, False),
        ("GOOGLE", {"format": "date"}, True),
        ("GOOGLE", {"format": "email"}, False),
        ("VLLM", {"pattern": "^a+$"}, True),
        ("VLLM", {"pattern": "a+"}, False),  # it is read as if it were anchored, and would refuse "xa"
        ("VLLM", {"maxLength": 9}, True),
        ("LLAMACPP", {"format": "email"}, False),
        ("LLAMACPP", {"minLength": 2}, True),
        ("TGI", {"minLength": 2}, True),
        ("TGI", {"format": "date"}, False),
        ("XAI", {"format": "uuid"}, True),
        ("XAI", {"minLength": 2}, False),
        ("FIREWORKS", {"maxLength": 2}, False),
        ("MISTRAL", {"maxLength": 2}, False),
    ],
)
def test_each_dialect_enforces_of_strings_what_its_documentation_says(name, field, is_enforced):
    found = narrowed(strings(**field), DIALECTS[name])
    ((keyword, _),) = field.items()
    assert (Keyword("/properties/a", keyword) in found.enforced) is is_enforced
    sends = is_enforced or DIALECTS[name].sends_all
    assert (keyword in found.schema["properties"]["a"]) is sends


def test_of_a_string_only_one_kind_of_constraint_is_relied_upon():
    found = narrowed(strings(pattern="^a+$", format="date", minLength=1), DIALECTS["LLAMACPP"])
    assert found.schema["properties"]["a"] == {"type": "string", "pattern": "^a+$"}
    assert found.checked == at("/properties/a#format", "/properties/a#minLength")


@pytest.mark.parametrize(
    ("name", "type", "is_enforced"),
    [
        ("LLAMACPP", "integer", True),
        ("LLAMACPP", "number", False),
        ("VLLM", "number", True),
        ("OPENAI", "number", True),
        ("ANTHROPIC", "integer", False),
        ("GOOGLE", "number", True),
    ],
)
def test_so_it_is_of_numbers(name, type, is_enforced):
    schema = strings() | {"properties": {"a": {"type": type, "minimum": 1}}}
    assert (Keyword("/properties/a", "minimum") in narrowed(schema, DIALECTS[name]).enforced) is is_enforced


@pytest.mark.parametrize("name", STRICT)
def test_a_strict_dialect_closes_what_names_its_properties_and_says_nothing_of_others(name):
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert wire(schema, DIALECTS[name])["additionalProperties"] is False


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if dialect.closing == "silently"])
def test_where_the_server_closes_by_itself_it_is_told_what_is_open(name):
    free: dict[str, Any] = {"type": "object"}
    assert wire({"type": "array", "items": free}, DIALECTS[name])["items"] == free | {"additionalProperties": True}
    named = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]}
    assert wire(named, DIALECTS[name])["additionalProperties"] is True


A = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
B = {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "properties": {"b": {}}, "$defs": {"a": A}},
        {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {"a": A, "b": B}},
        {**A, "anyOf": [B, {"required": ["c"]}]},
        {"required": ["b"], "anyOf": [A, {"type": "null"}]},
        {"allOf": [A, B]},
        {**A, "if": {"required": ["b"]}, "then": {"properties": {"b": {"type": "string"}}}},
        {**A, "dependentSchemas": {"a": B}},
        {"anyOf": [{"$ref": "#/$defs/a"}], "required": ["b"], "$defs": {"a": A}},
        {"$ref": "#/$defs/c", "required": ["b"], "$defs": {"a": A, "c": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {**A, "patternProperties": {"^b": {"type": "string"}}, "additionalProperties": False},
        {**A, "unevaluatedProperties": {"type": "string"}},
        {**A, "minProperties": 2},
    ],
)
def test_nothing_is_closed_to_properties_that_are_named_beside_it(schema):
    instance = {"a": "1", "b": "2"}
    assert accepts(validator(schema), instance)
    for name, dialect in DIALECTS.items():
        with suppress(Unsuited):
            sent = wire(schema, dialect)
            assert accepts(validator(closed(sent) if dialect.closing == "silently" else sent), instance), (name, sent)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "array", "items": ANSWER}, "the answer need not be an object"),
        ({"anyOf": [ANSWER]}, "the answer need not be an object"),
        (ANSWER | {"required": ["answer"]}, "the root has properties that may be left out"),
        (ANSWER | {"additionalProperties": True}, "the root allows properties that it doesn't name"),
        (ANSWER | {"properties": {"a": {}}, "required": ["a"]}, "/properties/a says no type that the server knows"),
        ({"type": "object"}, "the root allows properties that it doesn't name"),
        (strings() | {"properties": {"a": {"type": "array"}}}, "/properties/a says nothing of its items"),
        (strings() | {"properties": {"a": {"type": "object"}}}, "/properties/a allows properties"),
        (strings(enum=[f"v{i}" for i in range(1001)]), "it has 1001 values in enums, the server takes 1000"),
        ({"type": "object", "properties": {f"p{i}": {"type": "null"} for i in range(5001)}}, "the root has properties"),
    ],
)
def test_what_a_strict_dialect_can_not_say_is_refused_with_the_reason(schema, reason):
    with pytest.raises(Unsuited, match=reason):
        narrowed(schema, DIALECTS["OPENAI"])


def test_levels_of_objects_are_counted():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(11):
        schema = strings() | {"properties": {"a": schema}}
    with pytest.raises(Unsuited, match="it has 11 levels of objects, the server takes 10"):
        narrowed(schema, DIALECTS["OPENAI"])


NODE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        },
        "Unused": {"type": "string"},
    },
}


def test_a_root_that_only_refers_is_put_in_its_place_where_it_must_be_an_object():
    assert is_object(NODE)
    found = narrowed(NODE, DIALECTS["OPENAI"])
    assert found.schema["type"] == "object"
    assert found.schema["properties"]["next"] == {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
    assert set(found.schema["$defs"]) == {"Node"}
    assert Keyword("", "$ref") in found.enforced
    assert found.checked == at("/$defs/Unused#type")


def test_where_there_is_no_recursion_what_leads_back_is_left_out():
    found = narrowed(NODE, DIALECTS["GOOGLE"])
    assert found.schema["$defs"]["Node"]["properties"]["next"] == {}
    assert Keyword("/$defs/Node/properties/value", "type") in found.enforced
    assert Keyword("/$defs/Node/properties/next/anyOf/0", "$ref") in found.checked


def test_references_that_servers_resolve_otherwise_are_left_out():
    for ref in ("#/properties/a", "other.json", "#anchor", "#/$defs/none", "#/$defs/a~1b"):
        schema = strings() | {"properties": {"a": {"type": "string"}, "b": {"$ref": ref}}, "$defs": {"a/b": {}}}
        assert Keyword("/properties/b", "$ref") in narrowed(schema, DIALECTS["VLLM"]).checked
    renamed = strings() | {"properties": {"a": {"$id": "other", "$ref": "#/$defs/a"}}, "$defs": {"a": {}}}
    assert Keyword("/properties/a", "$ref") in narrowed(renamed, DIALECTS["VLLM"]).checked


def test_definitions_by_their_older_name_are_found():
    schema = {"type": "array", "items": {"$ref": "#/definitions/a"}, "definitions": {"a": {"type": "string"}}}
    found = narrowed(schema, DIALECTS["VLLM"])
    assert found.schema == {"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "string"}}}
    assert found.checked == ()


def test_beside_a_reference_nothing_counts_in_older_drafts():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": {"$ref": "#/definitions/a", "minLength": 3},
        "definitions": {"a": {"type": "string"}},
    }
    assert wire(schema, DIALECTS["VLLM"])["items"] == {"$ref": "#/$defs/a"}
    elsewhere = schema | {"items": {"$ref": "other.json", "type": "string"}}
    assert "items" not in wire(elsewhere, DIALECTS["VLLM"])


@pytest.mark.parametrize("name", DIALECTS)
def test_a_hostile_schema_takes_no_long(name):
    names = [f"d{i}" for i in range(1_500)]
    chain = {one: {"allOf": [{"$ref": f"#/$defs/{next}"}, {}]} for one, next in pairwise(names)}
    circle = {one: {"$ref": f"#/$defs/{next}"} for one, next in zip(names, [*names[1:], "d0"], strict=True)}
    wide = {"anyOf": [{"type": "string", "pattern": "^a$"}] * 6_000}
    started = time.process_time()
    for schema in ({"$ref": "#/$defs/d0", "$defs": chain}, {"$ref": "#/$defs/d0", "$defs": circle}, wide):
        with suppress(Unsuited):
            narrowed(schema, DIALECTS[name])
    assert time.process_time() - started < 2


def test_what_depends_on_what_is_left_out_is_left_out_with_it():
    schema = {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}}
    assert wire(schema, DIALECTS["VLLM"]) == {"type": "array"}
    assert wire(schema, DIALECTS["GOOGLE"]) == schema
    either = {"anyOf": [{"type": "string"}, {"not": {"type": "integer"}}]}
    found = narrowed({"type": "array", "items": either}, DIALECTS["VLLM"])
    assert found.schema == {"type": "array"}
    assert found.enforced == at("#type")


def test_of_one_of_several_the_server_enforces_that_it_is_any():
    schema = {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "null"}]}}
    found = narrowed(schema, DIALECTS["VLLM"])
    assert found.schema["items"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert found.checked == at("/items#oneOf")


def test_a_constant_is_a_choice_of_one_where_there_are_no_constants():
    assert wire(strings(const="x"), DIALECTS["GOOGLE"])["properties"]["a"] == {"type": "string", "enum": ["x"]}
    assert wire(strings(const="x"), DIALECTS["OPENAI"])["properties"]["a"] == {"type": "string", "const": "x"}


def test_several_types_become_alternatives_where_there_are_no_lists_of_types():
    several = strings() | {"properties": {"a": {"type": ["string", "null"], "enum": ["x", None]}}}
    assert wire(several, DIALECTS["CEREBRAS"])["properties"]["a"] == {
        "anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null", "enum": [None]}]
    }


def test_the_only_member_of_all_of_takes_its_place():
    schema = {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/a"}], "description": "d"}, "$defs": {"a": A}}
    found = narrowed(schema, DIALECTS["VLLM"])
    assert found.schema["items"] == {"$ref": "#/$defs/a"}
    assert found.checked == ()


def test_a_model_reads_in_the_description_what_its_server_does_not_enforce():
    assert wire(strings(minLength=3, description="A name."), DIALECTS["ANTHROPIC"])["properties"]["a"] == {
        "type": "string",
        "description": 'A name.\n\n{"minLength": 3}',
    }


def test_a_count_beyond_what_the_server_takes_is_checked():
    def items(least: int) -> dict[str, Any]:
        return strings() | {"properties": {"a": {"type": "array", "items": {"type": "string"}, "minItems": least}}}

    assert Keyword("/properties/a", "minItems") in narrowed(items(1), DIALECTS["ANTHROPIC"]).enforced
    assert Keyword("/properties/a", "minItems") in narrowed(items(2), DIALECTS["ANTHROPIC"]).checked


def test_schemas_nested_beyond_reason_are_not_followed():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5_000):
        schema = {"type": "array", "items": schema}
    for server in (servers.VLLM, servers.OPENAI, servers.GOOGLE, servers.UNKNOWN):
        constrained(ResponseFormat(type="schema", schema=schema), server)


def test_every_keyword_that_is_listed_constrains():
    schema = {"title": "t", "description": "d", "default": 1, "examples": [1], "$comment": "c", "x-own": 1, "$defs": {}}
    assert keywords(schema) == ()
    assert {one.keyword for one in keywords(dict.fromkeys(CONSTRAINTS, True))} == CONSTRAINTS
