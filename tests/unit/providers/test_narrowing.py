"""Schemas in the dialects of servers."""

import json
from contextlib import suppress
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from holdfast.chat import ResponseFormat
from holdfast.providers import servers
from holdfast.providers.dialect import CONSTRAINTS, Dialect, Keyword, keywords
from holdfast.providers.narrowing import Unsuited, is_object, narrowed
from holdfast.providers.servers import Server, constrained
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
    st.none(), st.booleans(), st.integers(-3, 5), st.sampled_from([0.5, 2.0]), st.sampled_from(["", "a", "ab", "2020-01-01"])
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
        st.sampled_from([{}, {}, {"additionalProperties": False}, {"additionalProperties": True}, {"minProperties": 2}]),
    )


LEAVES = st.one_of(
    st.booleans(),
    st.just({}),
    st.builds(lambda type: {"type": type}, st.sampled_from(TYPES)),
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
    [{}, {}, {}, {"description": "about"}, {"not": {"const": 1}}, {"minLength": 1}, {"maxLength": 1}, {"pattern": "^a*$"}]
    + [{"pattern": "a"}, {"format": "date"}, {"minimum": 1}, {"maximum": 2, "multipleOf": 2}, {"minItems": 2}]
    + [{"maxItems": 1}, {"uniqueItems": True}, {"if": {"type": "string"}, "then": {"minLength": 1}}, {"title": "T"}]
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
        for schema in ({"type": "object", "properties": value, "required": value, "$defs": value}, {"anyOf": value}, {"type": value, "enum": value}, {"$ref": value, "allOf": value, "items": value, "$id": value}):
            with suppress(Unsuited):
                narrowed(schema, dialect)
