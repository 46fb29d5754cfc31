"""A value that fits a JSON Schema, made of a given text."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.pointers import at

_DEPTH = 6
"""Below it only what is required is made, so that recursive schemas end."""
_FORMATS = {
    "date": "2026-01-31",
    "time": "12:30:00Z",
    "date-time": "2026-01-31T12:30:00Z",
    "duration": "PT1H",
    "email": "kelp@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
}


def synthesize(schema: Mapping[str, Any] | bool | None, text: str) -> Any:
    """Return a value that fits `schema`. Its free strings are `text`, cut or filled to the allowed length.

    `pattern` and `not` are not looked at. What contradicts itself gets a value that fits in part.
    """
    return _Maker(schema, text).value(schema, 0)


class _Maker:
    def __init__(self, root: Mapping[str, Any] | bool | None, text: str) -> None:
        self.root = root
        self.text = text

    def value(self, schema: Any, depth: int) -> Any:
        schema = self._plain(schema, depth)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if isinstance(schema.get(key), Sequence) and schema[key]:
                return schema[key][0]
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number":
                return self._number(schema)
            case "boolean":
                return True
            case "null":
                return None
        return self._string(schema)

    def _plain(self, schema: Any, depth: int) -> dict[str, Any]:
        """Follow references, choose of alternatives the first, and join what must hold together."""
        for _ in range(32):
            if not isinstance(schema, Mapping):
                return {}
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = {**(self._referred(schema["$ref"]) or {}), **rest}
                continue
            key = next((key for key in ("allOf", "anyOf", "oneOf") if schema.get(key)), None)
            if key is None:
                return dict(schema)
            parts = [self._plain(part, depth + 16) for part in schema[key]] if depth < 64 else []
            rest = {other: value for other, value in schema.items() if other != key}
            schema = _join([rest, *parts] if key == "allOf" else [rest, *_first(parts, depth)])
        return {}

    def _referred(self, pointer: Any) -> Mapping[str, Any] | None:
        found = at(self.root, str(pointer).removeprefix("#"))
        return found if isinstance(found, Mapping) else None

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = [name for name in schema.get("required") or () if isinstance(name, str)]
        names = [name for name in properties if depth < _DEPTH or name in required]
        names += [name for name in required if name not in properties]
        return {name: self.value(properties.get(name), depth + 1) for name in names} if depth < 2 * _DEPTH else {}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least = _int(schema.get("minItems"), 0)
        if depth >= 2 * _DEPTH:
            return []
        prefix = [self.value(item, depth + 1) for item in schema.get("prefixItems") or ()]
        wanted = max(least, 1 if depth < _DEPTH and "items" in schema else 0, len(prefix))
        wanted = min(wanted, _int(schema.get("maxItems"), wanted), 100)
        rest = [self.value(schema.get("items"), depth + 1) for _ in range(wanted - len(prefix))]
        return (prefix + rest)[:wanted]

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        least, most = _int(schema.get("minLength"), 0), _int(schema.get("maxLength"), 10_000)
        return self.text.ljust(min(least, 10_000), "x")[: max(most, 0)]

    def _number(self, schema: dict[str, Any]) -> float:
        whole = _type(schema) == "integer"
        unit = schema.get("multipleOf")
        unit = unit if isinstance(unit, int | float) and unit > 0 else 1 if whole else 0.5
        low, high = _bound(schema, "inimum", unit), _bound(schema, "aximum", -unit)
        number = low if low is not None else high if high is not None and high < unit else unit
        if low is not None and "multipleOf" in schema:
            number = -(-number // unit) * unit
        return int(number) if whole else number


def _bound(schema: dict[str, Any], name: str, inside: float) -> float | None:
    exclusive = schema.get("exclusiveM" + name)
    if isinstance(exclusive, int | float) and not isinstance(exclusive, bool):
        return exclusive + inside
    bound = schema.get("m" + name)
    return bound if isinstance(bound, int | float) else None


def _type(schema: dict[str, Any]) -> str:
    told = schema.get("type")
    if isinstance(told, Sequence) and not isinstance(told, str):
        told = next((name for name in told if name != "null"), "null")
    if isinstance(told, str):
        return told.lower()  # Google writes OBJECT
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _first(parts: list[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    """Choose the first alternative that is not null; deep down null is welcome, because it ends a recursion."""
    null = [part for part in parts if _type(part) == "null"]
    others = [part for part in parts if _type(part) != "null"]
    return ((null or others) if depth >= _DEPTH else (others or null))[:1]


def _join(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for schema in schemas:
        for key, value in schema.items():
            if key == "properties" and isinstance(joined.get(key), Mapping):
                joined[key] = {**joined[key], **value}
            elif key == "required" and isinstance(joined.get(key), list):
                joined[key] = [*joined[key], *[name for name in value if name not in joined[key]]]
            else:
                joined[key] = value
    return joined


def _int(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
