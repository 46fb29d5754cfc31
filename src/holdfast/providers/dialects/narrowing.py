"""A JSON Schema in the dialect of a server, and which of its keywords the server then enforces.

What is sent accepts whatever the schema accepts. Keywords that the dialect lacks are taken out, and what depends on
them with them: `additionalProperties` without the `patternProperties` beside it would refuse more, not less.

One thing is read more narrowly than JSON Schema has it: an object that names its properties, and says nothing of
others, is taken to mean no others, where a server takes no other schema, or reads it so itself.
"""

import json
from typing import Any, Final, NamedTuple

from holdfast.pointers import step
from holdfast.providers.dialects.definitions import IN_PLACE, Definitions, definition_of, others, root_of
from holdfast.providers.dialects.dialect import (
    CONSTRAINTS,
    KINDS,
    MAX_DEPTH,
    Dialect,
    Json,
    Keyword,
    below,
    keywords,
)
from holdfast.providers.dialects.regular import is_anchored

MAX_KEYWORDS: Final = 10_000
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")
_ABOUT: Final = ("title", "description")
_TOLD: Final = 400
"""The most characters that a description gets of what was taken out."""


class Unsuited(Exception):
    """A schema can't be said in a dialect without refusing what it accepts. The message says why."""


class Narrowed(NamedTuple):
    schema: Json
    enforced: tuple[Keyword, ...]
    checked: tuple[Keyword, ...]


def narrowed(schema: Any, dialect: Dialect) -> Narrowed:
    """Return a schema as a dialect has it. Raises Unsuited."""
    if not isinstance(schema, dict):
        raise Unsuited("the schema is not an object")
    every = keywords(schema)
    if len(every) > MAX_KEYWORDS:
        raise Unsuited(f"it has more than {MAX_KEYWORDS:,} keywords")
    wire, enforced = _Narrowing(schema, dialect).whole()
    checked = tuple(one for one in every if one not in enforced)
    same = dialect.sends_all or wire == schema
    return Narrowed(schema if same else wire, tuple(one for one in every if one in enforced), checked)


def is_object(schema: Any) -> bool:
    """Whether every value that a schema accepts is an object."""
    root = root_of(schema) if isinstance(schema, dict) else schema
    return isinstance(root, dict) and root.get("type") == "object"


class _Narrowing:
    """Narrows one schema. Definitions are narrowed as far as what is kept refers to them."""

    def __init__(self, schema: Json, dialect: Dialect) -> None:
        self._schema = schema
        self._dialect = dialect
        self._definitions = Definitions(schema)
        self._enforced: set[Keyword] = set()
        self._wanted: list[str] = []
        self._at = ""
        self._optional = self._unions = 0

    def whole(self) -> tuple[Json, set[Keyword]]:
        root, path = self._schema, ""
        if self._dialect.object_root:
            if not is_object(root):
                raise Unsuited("the answer need not be an object")
            root = root_of(root)
        if root is not self._schema:
            self._at = str(definition_of(self._schema["$ref"]))
            path = self._definitions.path(self._at)
            self._enforced.add(Keyword("", "$ref"))
        wire = self._node(root, path, alone=True, depth=0)
        made = self._made()
        if made:
            wire["$defs"] = made
        self._check(wire)
        return wire, self._enforced

    def _made(self) -> Json:
        made: Json = {}
        while self._wanted:
            name = self._wanted.pop()
            if name not in made:
                self._at = name
                inner, alone = self._definitions.named[name], not self._definitions.is_open(name)
                made[name] = self._node(inner, self._definitions.path(name), alone=alone, depth=0)
        return made

    def _check(self, wire: Json) -> None:
        """Raise Unsuited for more than the server takes."""
        dialect = self._dialect
        properties, depth, values = _measure(wire)
        for found, most, what in (
            (properties, dialect.max_properties, "properties"),
            (depth, dialect.max_depth, "levels of objects"),
            (values, dialect.max_enum, "values in enums"),
            (self._optional, dialect.max_optional, "optional properties"),
            (self._unions, dialect.max_unions, "alternatives of types"),
            (len(json.dumps(wire)) if dialect.max_bytes else 0, dialect.max_bytes, "characters"),
        ):
            if most is not None and found > most:
                raise Unsuited(f"it has {found} {what}, the server takes {most}")

    # --- one schema ---------------------------------------------------------------------------------------------------

    def _node(self, node: Any, path: str, *, alone: bool, depth: int) -> Json:
        """Return a schema for the wire. `alone`: nothing else says which properties its values have."""
        wire: Json = {}
        if isinstance(node, dict) and depth < MAX_DEPTH:
            self._fill(wire, node, path, alone, depth)
        if self._dialect.all_typed and not wire.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
            raise Unsuited(f"{path or 'the root'} says no type that the server knows")
        if isinstance(node, dict) and "$ref" not in wire:
            self._describe(wire, node, path)
        return wire

    def _fill(self, wire: Json, node: Json, path: str, alone: bool, depth: int) -> None:
        if "$ref" in node and (self._refer(wire, node, path) or self._definitions.stand_alone):
            return
        if self._values(wire, node, path):
            return
        if self._one_of_all(wire, node, path, alone, depth):
            return
        types = _types(node)
        held = ("object" in types and "properties" in node) or "items" in node
        if not held and self._alternatives(wire, node, path, alone, depth):
            return
        if not types or "type" not in self._dialect.general:
            return
        self._keep(wire, node, path, "type")
        self._typed(wire, node, path, types)
        if "array" in types:
            self._array(wire, node, path, depth)
        if "object" in types:
            self._object(wire, node, path, alone, depth)
        self._several(wire, types)

    def _several(self, wire: Json, types: list[str]) -> None:
        if len(types) > 1:
            self._unions += 1
            if not self._dialect.type_lists:
                _split(wire, types)

    def _keep(self, wire: Json, node: Json, path: str, name: str) -> None:
        wire[name] = node[name]
        self._enforced.add(Keyword(path, name))

    def _drop(self, path: str) -> None:
        """Take back that anything below a path is enforced."""
        self._enforced = {one for one in self._enforced if not f"{one.path}/".startswith(f"{path}/")}

    def _refer(self, wire: Json, node: Json, path: str) -> bool:
        name = self._definitions.find(node["$ref"]) if "$ref" in self._dialect.general else None
        if name is None or (not self._dialect.recursion and self._definitions.leads_back(self._at, name)):
            return False
        wire["$ref"] = f"#/$defs/{name}" if name else "#"
        if name:
            self._wanted.append(name)
        self._enforced.add(Keyword(path, "$ref"))
        return True

    def _values(self, wire: Json, node: Json, path: str) -> bool:
        """Keep `const` or `enum`, with which all else is settled."""
        general = self._dialect.general
        name = "const" if "const" in node else "enum"
        values = [node["const"]] if "const" in node else node.get("enum")
        if not isinstance(values, list) or not general & {name, "enum"}:
            return False
        types = _types(node)
        fitting = [value for value in values if not types or _is_a(value, types)]
        if not fitting or not all(_type(value) in self._dialect.enum_types for value in fitting):
            return False
        if "type" in node and types:
            self._keep(wire, node, path, "type")
        elif self._dialect.all_typed:
            types = sorted({_type(value) for value in fitting})
            wire["type"] = types[0] if len(types) == 1 else types
        if name in general and (name == "const" or fitting == values):
            wire[name] = node[name]
        else:
            wire["enum"] = fitting
        self._enforced.add(Keyword(path, name))
        self._several(wire, types)
        return True

    def _one_of_all(self, wire: Json, node: Json, path: str, alone: bool, depth: int) -> bool:
        """Put the only member of an `allOf` in its place."""
        members = node.get("allOf")
        if not isinstance(members, list) or len(members) != 1 or others(node, "allOf"):
            return False
        inner = self._node(members[0], f"{path}/allOf/0", alone=alone, depth=depth + 1)
        wire.update(inner)
        if inner:
            self._enforced.add(Keyword(path, "allOf"))
        return bool(inner)

    def _alternatives(self, wire: Json, node: Json, path: str, alone: bool, depth: int) -> bool:
        """Keep `anyOf`, or `oneOf` as such, alone: servers differ in what they make of keywords beside it."""
        name = "anyOf" if "anyOf" in node else "oneOf"
        branches = node.get(name)
        if not isinstance(branches, list) or not branches or "anyOf" not in self._dialect.general:
            return False
        lonely = alone and not others(node, name, "type")
        optional, unions, wanted = self._optional, self._unions, len(self._wanted)
        inner = [
            self._node(branch, f"{path}/{name}/{i}", alone=lonely, depth=depth + 1) for i, branch in enumerate(branches)
        ]
        most = self._dialect.max_branches
        if not all(map(_constrains, inner)) or (most is not None and len(inner) > most):
            self._drop(f"{path}/{name}")
            self._optional, self._unions = optional, unions
            del self._wanted[wanted:]
            return False
        wire["anyOf"] = inner
        self._unions += 1
        if name == "anyOf":
            self._enforced.add(Keyword(path, "anyOf"))
        return True

    # --- by type ------------------------------------------------------------------------------------------------------

    def _takes(self, name: str, types: list[str]) -> bool:
        """Whether the server enforces a keyword for all of the types that it says something about."""
        said = [type for type in types if type in KINDS[name]]
        return bool(said) and all(name in self._dialect.of(type) for type in said)

    def _typed(self, wire: Json, node: Json, path: str, types: list[str]) -> None:
        """Keep the keywords of numbers, strings and arrays that hold no schema."""
        for name, value in node.items():
            if name not in _SCALARS or isinstance(value, bool) or not self._takes(name, types):
                continue
            most = self._dialect.most.get(name)
            if most is None or (isinstance(value, int | float) and value <= most):
                self._keep(wire, node, path, name)
        if "string" in types:
            self._string(wire, node, path, types)

    def _string(self, wire: Json, node: Json, path: str, types: list[str]) -> None:
        kept = False
        for names in (("pattern",), ("format",), ("minLength", "maxLength")):
            if kept and self._dialect.one_of_string:
                return
            for name in names:
                if name in node and self._takes(name, types) and self._sayable(name, node[name]):
                    self._keep(wire, node, path, name)
                    kept = True

    def _sayable(self, name: str, value: Any) -> bool:
        if name == "pattern":
            return isinstance(value, str) and is_anchored(value)
        if name == "format":
            return value in self._dialect.formats
        return isinstance(value, int | float) and not isinstance(value, bool)

    def _array(self, wire: Json, node: Json, path: str, depth: int) -> None:
        first, rest = node.get("prefixItems"), node.get("items")
        tuples = isinstance(first, list) or isinstance(rest, list)
        if isinstance(first, list) and "prefixItems" in self._dialect.array:
            inner = [
                self._node(one, f"{path}/prefixItems/{i}", alone=True, depth=depth + 1) for i, one in enumerate(first)
            ]
            wire["prefixItems"] = inner
            self._enforced.add(Keyword(path, "prefixItems"))
            tuples = False
        if isinstance(rest, dict) and not tuples and "items" in self._dialect.array:
            item = self._node(rest, f"{path}/items", alone=True, depth=depth + 1)
            if item:
                wire["items"] = item
                self._enforced.add(Keyword(path, "items"))
        if self._dialect.all_typed and "items" not in wire:
            raise Unsuited(f"{path or 'the root'} says nothing of its items that the server knows")

    def _object(self, wire: Json, node: Json, path: str, alone: bool, depth: int) -> None:
        properties = node.get("properties")
        named = properties if isinstance(properties, dict) and "properties" in self._dialect.object else {}
        if named:
            wire["properties"] = {
                key: self._node(inner, f"{path}/properties/{step(key)}", alone=True, depth=depth + 1)
                for key, inner in named.items()
            }
            self._enforced.add(Keyword(path, "properties"))
        said = _names(node.get("required")) if "required" in self._dialect.object else []
        required = [name for name in said if name in named]  # of others, servers know nothing
        if "required" in node and (required or not said):
            wire["required"] = required
        if "required" in wire and len(required) == len(said):
            self._enforced.add(Keyword(path, "required"))
        self._optional += len(named) - len(required)
        if self._dialect.all_required and len(required) < len(named):
            raise Unsuited(f"{path or 'the root'} has properties that may be left out")
        self._others_of(wire, node, path, alone and len(required) == len(said), depth)

    def _others_of(self, wire: Json, node: Json, path: str, alone: bool, depth: int) -> None:
        """Say whether other properties than the named are allowed."""
        dialect, said = self._dialect, node.get("additionalProperties")
        keeps = "additionalProperties" in dialect.object and "patternProperties" not in node
        if said is False and keeps:
            self._keep(wire, node, path, "additionalProperties")
        elif isinstance(said, dict) and keeps and dialect.schema_of_others and dialect.closing != "must":
            inner = self._node(said, f"{path}/additionalProperties", alone=True, depth=depth + 1)
            wire["additionalProperties"] = inner or True
            if inner:
                self._enforced.add(Keyword(path, "additionalProperties"))
        elif dialect.closing != "never":
            closed = said is None and alone and _closable(node)
            if dialect.closing == "must":
                if not closed:
                    raise Unsuited(f"{path or 'the root'} allows properties that it doesn't name")
                wire["additionalProperties"] = False
            elif not closed:
                wire["additionalProperties"] = True
        if dialect.all_typed and "properties" not in wire:
            raise Unsuited(f"{path or 'the root'} names no properties")

    # --- for the model to read ----------------------------------------------------------------------------------------

    def _describe(self, wire: Json, node: Json, path: str) -> None:
        for name in _ABOUT:
            if isinstance(node.get(name), str):
                wire[name] = node[name]
        if not self._dialect.tells:
            return
        left = {
            name: value
            for name, value in node.items()
            if name in CONSTRAINTS and name != "additionalProperties"
            if Keyword(path, name) not in self._enforced and not isinstance(value, dict | list)
        }
        if left and wire.keys() & {"type", "enum", "anyOf"}:
            told = json.dumps(left, ensure_ascii=False)[:_TOLD]
            wire["description"] = f"{wire['description']}\n\n{told}" if "description" in wire else told


_SCALARS: Final = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems"),
        *("minProperties", "maxProperties"),
    }
)


def _types(node: Json) -> list[str]:
    """Return the types that a schema names; none where one of them is unknown."""
    said = node.get("type")
    types = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    return types if all(type in _TYPES for type in types) else []


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "number"
    names = {str: "string", int: "integer", type(None): "null", dict: "object", list: "array"}
    return names.get(type(value), "")


def _is_a(value: Any, types: list[str]) -> bool:
    mine = _type(value)
    whole = mine == "number" and value.is_integer() and "integer" in types
    return mine in types or whole or (mine == "integer" and "number" in types)


def _constrains(wire: Json) -> bool:
    return any(key in CONSTRAINTS for key in wire)


def _closable(node: Json) -> bool:
    """Whether an object that says nothing of other properties names all that it may have."""
    properties = node.get("properties")
    if not isinstance(properties, dict) or not properties or any(name in node for name in IN_PLACE):
        return False
    if node.keys() & {"$ref", "$dynamicRef", "$recursiveRef", "patternProperties"}:
        return False
    if node.get("unevaluatedProperties", False) is not False:
        return False
    least = node.get("minProperties")
    return not isinstance(least, int | float) or least <= len(properties)


def _split(wire: Json, types: list[str]) -> None:
    """Write a schema of several types as alternatives of one type each."""
    said = dict(wire)
    wire.clear()
    wire["anyOf"] = []
    for type in types:
        one = {name: value for name, value in said.items() if name not in KINDS or type in KINDS[name]}
        one["type"] = type
        if "enum" in one:
            one["enum"] = [value for value in one["enum"] if _is_a(value, [type])]
        if one.get("enum") != []:
            wire["anyOf"].append(one)


def _measure(wire: Json) -> tuple[int, int, int]:
    """Return how many properties, levels of objects and values in enums a schema has."""
    properties = values = deepest = 0
    waiting: list[tuple[Any, int]] = [(wire, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, dict):
            depth += isinstance(node.get("properties"), dict)
            deepest = max(deepest, depth)
            properties += len(node.get("properties") or ())
            values += len(node.get("enum") or ())
            waiting += [(inner, depth) for inner, _ in below(node)]
    return properties, deepest, values
