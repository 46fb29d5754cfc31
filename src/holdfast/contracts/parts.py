"""Which parts of an answer fail a JSON Schema, and what the schema says of each of them alone."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from holdfast.contracts.base import Schema, Violation
from holdfast.pointers import NOWHERE, follow, item, keys_of, pointer

MAX_PARTS: Final = 16
"""Parts that are asked for one by one."""

_MAX_STEPS: Final = 64
_DEFINITIONS: Final = ("$defs", "definitions")
_ELSEWHERE: Final = frozenset({"$dynamicRef", "$recursiveRef", "$id", "id", "$anchor", "$dynamicAnchor"})
"""Keywords by which a part depends on where in its document it stands."""


class Part(msgspec.Struct):
    """A part to ask for: what the schema says of it, and what is wrong with it."""

    schema: Schema
    errors: list[str]


def parts_to_ask(schema: dict[str, Any], data: Any, violations: Sequence[Violation]) -> dict[str, Part]:
    """Return the parts that fail, by their pointers. Empty where the whole has to be asked for.

    A part below one that is asked for is not asked for itself. What stands where no schema is told without conditions
    (`anyOf`, `if`, keys by pattern) is asked for with the value around it.
    """
    found: dict[str, Part] = {}
    for violation in violations:
        for steps, error in _failing(schema, data, violation):
            at, wanted = _closest(schema, data, steps)
            if not at:
                return {}
            found.setdefault(pointer(at), Part(wanted, [])).errors.append(f"{pointer(steps)}: {error}")
    for path in list(found):
        if around := next((other for other in found if path.startswith(f"{other}/")), None):
            found[around].errors += found.pop(path).errors
    return found if len(found) <= MAX_PARTS else {}


def _failing(schema: dict[str, Any], data: Any, violation: Violation) -> Iterator[tuple[list[str], str]]:
    """Yield the steps to what a violation is about, the value there or each key that it lacks, and what is wrong."""
    steps = keys_of(violation.path)
    missing: list[str] = []
    if violation.keyword == "required" and isinstance(value := follow(data, steps), dict):
        told = [
            key for part in _applied(_schemas_at(schema, data, steps), schema) for key in _texts(part.get("required"))
        ]
        missing = [key for key in dict.fromkeys(told) if key not in value]
    yield from (([*steps, key], "it is missing") for key in missing)
    if not missing:
        yield steps, violation.message


def _closest(schema: dict[str, Any], data: Any, steps: list[str]) -> tuple[list[str], Schema]:
    """Return the nearest place at or above some steps that can be asked for alone, and what the schema says there."""
    for length in range(len(steps), 0, -1):
        at = steps[:length]
        parent = follow(data, at[:-1])
        reachable = isinstance(parent, dict) or item(parent, at[-1]) is not NOWHERE
        if reachable and (schemas := _schemas_at(schema, data, at)):
            return at, schemas[0] if len(schemas) == 1 else {"allOf": schemas}
    return [], True


def _index(step: str) -> int:
    return int(step) if step.isdecimal() and len(step) < 10 else -1


def _schemas_at(root: dict[str, Any], data: Any, steps: list[str]) -> list[dict[str, Any]]:
    """Return all that the schema says of the value there, whatever stands elsewhere. Empty: it can't be told."""
    here: list[dict[str, Any]] = [root]
    for number, step in enumerate(steps):
        is_list = isinstance(follow(data, steps[:number]), list)
        below = [inner for part in _applied(here, root) for inner in _below(part, step, is_list)]
        if not below or False in below:
            return []
        here = [inner for inner in below if isinstance(inner, dict)] or [{}]
    return here if not steps else [part for number, part in enumerate(here) if part not in here[:number]]


def _applied(schemas: list[dict[str, Any]], root: dict[str, Any]) -> list[dict[str, Any]]:
    """Return schemas with those that they refer to, or hold in `allOf`."""
    found: list[dict[str, Any]] = []
    left = list(schemas)
    while left and len(found) < _MAX_STEPS:
        schema = left.pop(0)
        if any(schema is other for other in found):
            continue
        found.append(schema)
        inner = [*_list(schema.get("allOf")), _referred(schema.get("$ref"), root)]
        left += [part for part in inner if isinstance(part, dict)]
    return found


def _below(schema: dict[str, Any], step: str, is_list: bool) -> Iterator[Schema]:
    """Yield what a schema says of a key or item, without conditions."""
    if not is_list:
        properties = schema.get("properties")
        if isinstance(properties, dict) and step in properties:
            yield properties[step]
        elif "additionalProperties" in schema and "patternProperties" not in schema:
            yield schema["additionalProperties"]
        return
    tuple_of = _list(schema.get("prefixItems")) or _list(schema.get("items"))
    rest = schema.get("additionalItems" if isinstance(schema.get("items"), list) else "items")
    index = _index(step)
    if index < len(tuple_of):
        yield tuple_of[index]
    elif isinstance(rest, dict | bool):
        yield rest


def schema_of_parts(root: dict[str, Any], parts: dict[str, Part]) -> dict[str, Any] | None:
    """Return the schema of an object that holds parts by their pointers, None where a part can't stand alone."""
    definitions: dict[str, dict[str, Any]] = {}
    schemas = {path: part.schema for path, part in parts.items()}
    left: list[Any] = list(schemas.values())
    while left:
        for name, value in _keywords(left.pop()):
            if name != "$ref":
                return None
            if (place := _definition(value, root)) is None:
                return None
            group, key = place
            if key not in definitions.setdefault(group, {}):
                definitions[group][key] = root[group][key]
                left.append(root[group][key])
    whole: dict[str, Any] = {"$schema": root["$schema"]} if "$schema" in root else {}
    whole |= {"type": "object", "properties": schemas, "required": list(schemas), "additionalProperties": False}
    return whole | definitions


def _keywords(schema: Any) -> Iterator[tuple[str, str]]:
    """Yield the keywords in a schema, at any depth, that depend on the document that it stands in."""
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from ((key, said) for key, said in value.items() if isinstance(said, str) and key in _ELSEWHERE)
            if isinstance(reference := value.get("$ref"), str):
                yield "$ref", reference
            left += value.values()
        elif isinstance(value, list):
            left += value


def _definition(reference: str, root: dict[str, Any]) -> tuple[str, str] | None:
    """Return where a reference like #/$defs/Answer points, None for any other."""
    for group in _DEFINITIONS:
        prefix, definitions = f"#/{group}/", root.get(group)
        if reference.startswith(prefix) and isinstance(definitions, dict):
            key = reference.removeprefix(prefix)
            if key in definitions and not set(key) & set("/~%"):
                return group, key
    return None


def _referred(reference: object, root: dict[str, Any]) -> Any:
    if reference == "#":
        return root
    place = _definition(reference, root) if isinstance(reference, str) else None
    return root[place[0]][place[1]] if place else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [text for text in _list(value) if isinstance(text, str)]
