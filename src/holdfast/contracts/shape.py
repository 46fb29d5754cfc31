"""The part of a JSON Schema that repairs are guided by: types, keys, items and choices."""

from collections.abc import Mapping
from typing import Any, Literal

from holdfast.pointers import at

Type = Literal["object", "array", "string", "number", "integer", "boolean", "null"]

_MAX_REFERENCES = 16


class Shape:
    """What is wanted at one place of a value. It reads its schema only as deep as a value goes.

    What it can't tell (`not`, `if`, patterns of keys, references to other documents) it leaves open: a shape guides the
    repair, and never judges its result.
    """

    __slots__ = ("_places", "_root", "_schema", "choices", "required", "types")

    def __init__(self, schema: object = True, root: object = None) -> None:
        self._root = schema if root is None else root
        resolved = _resolved(schema, self._root)
        parts = [_resolved(part, self._root) for part in _list(resolved.get("anyOf")) or _list(resolved.get("oneOf"))]
        some = [part for part in parts if part.get("type") != "null"]
        self._schema = some[0] if len(some) == 1 else resolved
        self._places: dict[str | None, Shape] = {}
        self.types = _union(parts) if parts else _types(resolved)
        """Empty where every type may be."""
        self.required = frozenset(key for key in _list(self._schema.get("required")) if isinstance(key, str))
        self.choices = tuple(_list(self._schema.get("enum"))) if len(some) == len(parts) else ()

    @classmethod
    def of_keys(cls, types: Mapping[str, Type]) -> "Shape":
        """Return the shape of an object that must have these keys."""
        properties = {key: {"type": name} for key, name in types.items()}
        return cls({"type": "object", "properties": properties, "required": list(types)})

    @property
    def keys(self) -> Mapping[str, object]:
        """The keys that it names, required or not."""
        properties = self._schema.get("properties")
        return properties if isinstance(properties, dict) else {}

    @property
    def is_closed(self) -> bool:
        """Whether there must be no other keys. Where keys are told by patterns too, that is left open."""
        return self._schema.get("additionalProperties") is False and not self._schema.get("patternProperties")

    @property
    def is_string(self) -> bool:
        """Whether nothing but a string, or nothing at all, will do."""
        return "string" in self.types and self.types <= {"string", "null"}

    def at(self, key: str) -> "Shape":
        return self._place(key, self.keys.get(key, self._schema.get("additionalProperties", True)))

    def item(self) -> "Shape":
        return self._place(None, self._schema.get("items", True))

    def _place(self, key: str | None, schema: object) -> "Shape":
        if (shape := self._places.get(key)) is None:
            shape = Shape(schema, self._root) if isinstance(schema, dict) else ANY
            if key is None or key in self.keys:
                self._places[key] = shape
        return shape

    def allows(self, type: Type) -> bool:
        return not self.types or type in self.types or (type == "integer" and "number" in self.types)


def fits(value: object, shape: Shape) -> bool:
    """Return whether a value has the types, required keys and choices that its shape asks for, at every depth."""
    left: list[tuple[object, Shape]] = [(value, shape)]
    while left:
        value, shape = left.pop()
        if not _fits_here(value, shape):
            return False
        if isinstance(value, dict):
            left += [(item, shape.at(key)) for key, item in value.items() if key in shape.keys]
        elif isinstance(value, list) and (item_shape := shape.item()) is not ANY:
            left += [(item, item_shape) for item in value]
    return True


def _fits_here(value: object, shape: Shape) -> bool:
    if not shape.allows(type_of(value)):
        return False
    if shape.choices and value not in shape.choices:
        return False
    return not (shape.required and isinstance(value, dict)) or shape.required <= value.keys()


def type_of(value: object) -> Type:
    """Return the JSON Schema type of a decoded value; a float without a fraction is an integer."""
    if isinstance(value, float) and value.is_integer():
        return "integer"
    return _TYPES[type(value)]


_TYPES: dict[type, Type] = {
    dict: "object",
    list: "array",
    str: "string",
    float: "number",
    int: "integer",
    bool: "boolean",
    type(None): "null",
}


def _resolved(schema: object, root: object) -> dict[str, Any]:
    """Follow references inside the document, and step through what only wraps one schema."""
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, dict):
            return {}
        if isinstance(reference := schema.get("$ref"), str):
            schema = at(root, reference[1:]) if reference.startswith("#") else {}
        elif len(parts := _list(schema.get("allOf"))) == 1 and "properties" not in schema:
            schema = parts[0]
        else:
            return schema
    return {}


def _union(schemas: list[dict[str, Any]]) -> frozenset[Type]:
    types = [_types(schema) for schema in schemas]
    return frozenset[Type]().union(*types) if all(types) else frozenset()


def _types(schema: dict[str, Any]) -> frozenset[Type]:
    declared = schema.get("type")
    names = [declared] if isinstance(declared, str) else _list(declared)
    if not names and isinstance(schema.get("enum"), list):
        return frozenset(type_of(choice) for choice in schema["enum"])
    return frozenset(kind for kind in _TYPES.values() if kind in names)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


ANY = Shape()
