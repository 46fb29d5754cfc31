"""Words for writing JSON Schema in Python."""

from collections.abc import Iterable
from typing import Any

import msgspec

Json = dict[str, Any]

ANY: Json = {}
STRING: Json = {"type": "string"}
INTEGER: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
BOOLEAN: Json = {"type": "boolean"}
OBJECT: Json = {"type": "object"}


def ref(name: str) -> Json:
    """Point to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def const(value: object) -> Json:
    return {"const": value}


def enum(values: Iterable[str]) -> Json:
    return {"type": "string", "enum": sorted(values)}


def named(*others: str) -> Json:
    """Any string but these."""
    return {"type": "string", "not": {"enum": list(others)}}


def array(items: Json, least: int = 0) -> Json:
    return {"type": "array", "items": items} | ({"minItems": least} if least else {})


def record(required: str = "", /, **properties: Json) -> Json:
    """An object. `required` are the names of the fields that it must have, with spaces between."""
    return {"type": "object", "properties": properties} | ({"required": required.split()} if required else {})


def either(*options: Json) -> Json:
    return {"anyOf": list(options)}


def maybe(schema: Json) -> Json:
    return either(schema, {"type": "null"})


def described(schema: Json, description: str) -> Json:
    return schema | {"description": description}


def generated(*types: type) -> dict[str, Json]:
    """Return the schemas of structs, by their names."""
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return {name: _tidy(schema) for name, schema in found.items()}


def refine(schema: Json, required: str = "", /, **properties: Json) -> Json:
    """Return the schema of an object with some of its fields replaced, and further ones required."""
    fields = {**schema["properties"], **properties}
    return {**schema, "properties": fields, "required": [*schema.get("required", ()), *required.split()]}


def _tidy(schema: Json) -> Json:
    """Leave out what only repeats the structure: titles, and defaults that say nothing."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    if "properties" in schema:
        schema["properties"] = {
            name: {key: value for key, value in field.items() if key != "default"}
            for name, field in schema["properties"].items()
        }
    return schema
