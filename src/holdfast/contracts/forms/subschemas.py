"""What a JSON Schema says of single values of an answer, whatever stands elsewhere in it.

It follows `properties`, `items`, `prefixItems`, `additionalProperties`, `$ref` inside the document and `allOf`. What
else a schema says of a value (`anyOf`, `if`, keys by pattern) is judged with the value itself, once it is complete.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from holdfast.contracts.base import Schema, Violation, shortened
from holdfast.pointers import at, pointer, step

Dialect = Literal["4", "6", "7", "2019-09", "2020-12", "other"]

_MAX_APPLIED: Final = 64
_MAKES: Final[Mapping[str, frozenset[str]]] = {
    '"': frozenset({"string"}),
    "{": frozenset({"object"}),
    "[": frozenset({"array"}),
    "t": frozenset({"boolean"}),
    "f": frozenset({"boolean"}),
    "n": frozenset({"null"}),
    **dict.fromkeys("-0123456789", frozenset({"number", "integer"})),
}
"""The types of values that begin with a character."""
_MENDED: Final[Mapping[str, frozenset[str]]] = {
    char: types
    if char in "{["
    else types | {"string"}
    if char != '"'
    else frozenset({"string", "number", "integer", "boolean"})
    for char, types in _MAKES.items()
}
"""The same, after the repairs that are made of scalars."""
_KNOWN: Final = frozenset(
    {
        "type", "properties", "required", "items", "prefixItems", "additionalItems", "maxItems", "maxProperties",
        "allOf", "$ref", "additionalProperties", "maxLength", "minLength", "pattern", "format", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "title", "description", "default", "examples", "$schema",
        "$id", "id", "$defs", "definitions", "$comment", "$anchor", "deprecated", "readOnly", "writeOnly",
        "contentEncoding", "contentMediaType", "contentSchema",
    }
)  # fmt: skip
"""Keywords that need no look at a whole object or array: they say nothing of it, or are followed as it is read."""


class Subschema:
    """What is said of the value at one place. It may be used by any number of threads."""

    __slots__ = (
        "_applied",
        "_document",
        "_forbidding",
        "_inner",
        "_items",
        "_pointers",
        "_validators",
        "is_deep",
        "max_items",
        "max_length",
        "max_properties",
        "mended_starts",
        "required",
        "starts",
        "types",
    )

    def __init__(self, document: "Subschemas | None" = None, pointers: tuple[str, ...] = ()) -> None:
        self._document = document
        self._pointers = pointers
        self._applied = list(document.applied(pointers)) if document else []
        schemas = [schema for _, schema in self._applied if isinstance(schema, dict)]
        types = [_types(schema) for schema in schemas if "type" in schema]
        self.starts = frozenset(char for char, made in _MAKES.items() if all(made & some for some in types))
        """The characters with which a value may begin; `mended_starts`: if it may be repaired."""
        self.mended_starts = frozenset(char for char, made in _MENDED.items() if all(made & some for some in types))
        self.types = " or ".join(sorted(frozenset.intersection(*types))) if types else ""
        """For a message."""
        self.required = tuple(dict.fromkeys(key for schema in schemas for key in _texts(schema.get("required"))))
        self.max_length = _least(schemas, "maxLength")
        self.max_items = _least(schemas, "maxItems")
        self.max_properties = _least(schemas, "maxProperties")
        self.is_deep = any(document is None or not document.follows(schema) for _, schema in self._applied)
        """Whether an object or array has to be looked at once more when it is complete."""
        self._forbidding = [_properties(schema) for schema in schemas if _forbids_others(schema)]
        self._inner: dict[str | None, Subschema] = {}
        self._items: dict[int, Subschema] = {}
        self._validators: list[Any] | None = None

    def forbids(self, key: str) -> bool:
        """Whether an object may not have a key."""
        return any(key not in named for named in self._forbidding)

    def at(self, key: str) -> "Subschema":
        if (inner := self._inner.get(key)) is not None:
            return inner
        named = any(key in _properties(schema) for _, schema in self._applied if isinstance(schema, dict))
        place = key if named else None
        if (inner := self._inner.get(place)) is None:
            inner = self._inner[place] = self._make(_member, key)
        return inner

    def item(self, index: int) -> "Subschema":
        index = min(index, self._tuple())
        if (inner := self._items.get(index)) is None:
            inner = self._items[index] = self._make(self._element, index)
        return inner

    def _make(self, inner_of: Callable[[dict[str, Any], Any], str | None], place: Any) -> "Subschema":
        if self._document is None:
            return self
        found = [
            f"{pointer}{step}"
            for pointer, schema in self._applied
            if isinstance(schema, dict) and (step := inner_of(schema, place)) is not None
        ]
        return self._document.at(tuple(dict.fromkeys(found)))

    def _tuple(self) -> int:
        """Return from which item on they are all alike."""
        key = self._document.tuple_key if self._document else ""
        return max((len(_list(schema.get(key))) for _, schema in self._applied if isinstance(schema, dict)), default=0)

    def _element(self, schema: dict[str, Any], index: int) -> str | None:
        key = self._document.tuple_key if self._document else ""
        if index < len(_list(schema.get(key))):
            return f"/{key}/{index}"
        rest = "additionalItems" if key == "items" and isinstance(schema.get("items"), list) else "items"
        return f"/{rest}" if isinstance(schema.get(rest), dict | bool) else None

    def admits(self, value: Any) -> bool:
        """Whether all that is said here holds of a complete value, as far as can be told."""
        if (validators := self._validators) is None:
            validators = self._validators = self._document.validators(self._pointers) if self._document else []
        try:
            return all(validator.is_valid(value) for validator in validators)
        except (ValueError, OverflowError):  # what it can't take in is left to the check of the whole
            return True

    def violation(self, path: str, value: Any) -> Violation:
        """Return the first reason why a value at `path` is not admitted. It takes long for a value with many."""
        for validator in self._validators or ():
            for error in validator.iter_errors(value):
                return Violation(path + pointer(error.instance_path), shortened(error.message), error.kind.name)
        return Violation(path, "it does not meet the schema", "schema")


class Subschemas:
    """The subschemas of one document, made as they are needed."""

    def __init__(self, schema: Schema, dialect: Dialect, compiled: Callable[[], Any]) -> None:
        """Take a schema, and what returns the validators of its subschemas by pointers such as "#/properties/a"."""
        self._schema = schema
        self._only_reference = dialect not in ("2019-09", "2020-12")
        self.tuple_key = "prefixItems" if dialect == "2020-12" else "items"
        self._has_bases = isinstance(schema, dict) and _has_bases(schema, "id" if dialect == "4" else "$id")
        self._compiled = compiled
        self._map: Any = None
        self._places: dict[tuple[str, ...], Subschema] = {}
        self.root = self.at(("#",)) if dialect != "other" else ANY

    def at(self, pointers: tuple[str, ...]) -> Subschema:
        if not pointers:
            return ANY
        if (place := self._places.get(pointers)) is None:
            place = self._places[pointers] = Subschema(self, pointers)
        return place

    def applied(self, pointers: tuple[str, ...]) -> Iterator[tuple[str, Schema]]:
        """Yield the schemas at some pointers with those that they refer to, or hold in `allOf`."""
        left, seen = list(pointers), set[str]()
        while left and len(seen) < _MAX_APPLIED:
            pointer = left.pop(0)
            if pointer in seen:
                continue
            seen.add(pointer)
            schema = at(self._schema, pointer)
            if isinstance(schema, dict):
                reference = schema.get("$ref")
                if isinstance(reference, str) and (target := self._target(reference)):
                    left.append(target)
                if isinstance(reference, str) and self._only_reference:
                    continue
                left += [f"{pointer}/allOf/{number}" for number in range(len(_list(schema.get("allOf"))))]
                yield pointer, schema
            elif schema is False:
                yield pointer, False

    def follows(self, schema: Schema) -> bool:
        """Whether all that a schema says of an object or array is judged as that is read."""
        if not isinstance(schema, dict) or not schema.keys() <= _KNOWN:
            return False
        reference = schema.get("$ref")
        return not isinstance(reference, str) or self._target(reference) is not None

    def _target(self, reference: str) -> str | None:
        inside = reference == "#" or (reference.startswith("#/") and "%" not in reference)
        if self._has_bases or not inside or not isinstance(at(self._schema, reference), dict | bool):
            return None
        return reference

    def validators(self, pointers: tuple[str, ...]) -> list[Any]:
        if self._map is None:
            self._map = self._compiled()
        found = [self._map.get(pointer) for pointer in pointers]
        return [validator for validator in found if validator is not None]


def _member(schema: dict[str, Any], key: str) -> str | None:
    if key in _properties(schema):
        return f"/properties/{step(key)}"
    if isinstance(schema.get("additionalProperties"), dict | bool) and not schema.get("patternProperties"):
        return "/additionalProperties"
    return None


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    named = schema.get("properties")
    return named if isinstance(named, dict) else {}


def _forbids_others(schema: dict[str, Any]) -> bool:
    return schema.get("additionalProperties") is False and not schema.get("patternProperties")


def _types(schema: dict[str, Any]) -> frozenset[str]:
    declared = schema["type"]
    return frozenset([declared] if isinstance(declared, str) else _texts(declared))


def _least(schemas: list[dict[str, Any]], keyword: str) -> int | None:
    limits = (schema.get(keyword) for schema in schemas)
    return min((limit for limit in limits if isinstance(limit, int) and not isinstance(limit, bool)), default=None)


def _has_bases(schema: dict[str, Any], keyword: str) -> bool:
    """Whether parts of a document have URIs of their own, so that a reference in them may mean another place."""
    left: list[Any] = [value for key, value in schema.items() if key != keyword]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if isinstance(value.get(keyword), str):
                return True
            left += value.values()
        elif isinstance(value, list):
            left += value
    return False


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [text for text in _list(value) if isinstance(text, str)]


ANY: Final = Subschema()
