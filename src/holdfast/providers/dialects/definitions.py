"""The definitions of a JSON Schema, and what refers to them."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from holdfast.pointers import step
from holdfast.providers.dialects.dialect import CONSTRAINTS, Json, below

HOMES: Final = ("definitions", "$defs")
IN_PLACE: Final = ("allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas", "dependencies")
"""Keywords whose schemas are about the same value."""
_OLD: Final = ("draft-03", "draft-04", "draft-06", "draft-07")
"""Drafts in which `$ref` stands alone, whatever is beside it."""


class Definitions:
    """The definitions of one schema. The schema as a whole has the name ""."""

    def __init__(self, schema: Json) -> None:
        self._schema = schema
        self.named = definitions(schema)
        self.stand_alone = any(old in str(schema.get("$schema", "")) for old in _OLD)
        """Whether nothing counts beside `$ref`."""

    def path(self, name: str) -> str:
        """Return the JSON pointer of a definition."""
        home = next(home for home in reversed(HOMES) if name in _home(self._schema, home))
        return f"/{home}/{step(name)}"

    def find(self, ref: Any) -> str | None:
        """Return what a reference refers to, None where that is not for sure, or not in the schema."""
        name = "" if ref == "#" else definition_of(ref)
        return name if self._plain and (name == "" or name in self.named) else None

    def is_open(self, name: str) -> bool:
        """Whether it is referred to where more is said of the properties of the same object."""
        return name in self._open

    def leads_back(self, at: str, name: str) -> bool:
        """Whether a reference to `name` that stands in `at` leads back to `at`."""
        return self._circles[at] == self._circles[name]

    @cached_property
    def _plain(self) -> bool:
        """Whether names are what they seem."""
        twice = _home(self._schema, "definitions").keys() & _home(self._schema, "$defs").keys()
        return not twice and not _renamed(self._schema)

    @cached_property
    def _open(self) -> frozenset[str]:
        return _open(self._schema, self.stand_alone)

    @cached_property
    def _circles(self) -> Mapping[str, int]:
        return _circles(self._schema, self.named)


def root_of(schema: Json) -> Json:
    """Return the definition that a schema merely refers to, else the schema."""
    name = definition_of(schema.get("$ref"))
    if name is None or any(key in CONSTRAINTS and key != "$ref" for key in schema):
        return schema
    found = definitions(schema).get(name)
    return found if isinstance(found, dict) else schema


def definitions(schema: Json) -> Json:
    return {name: inner for home in HOMES for name, inner in _home(schema, home).items()}


def _home(schema: Json, home: str) -> Json:
    found = schema.get(home)
    return found if isinstance(found, dict) else {}


def definition_of(ref: Any) -> str | None:
    """Return the name of the definition that a reference names."""
    if isinstance(ref, str):
        for prefix in ("#/$defs/", "#/definitions/"):
            name = ref.removeprefix(prefix)
            if name != ref and not any(sign in name for sign in "/~%"):
                return name
    return None


def others(node: Json, *names: str) -> bool:
    """Whether a schema constrains by other keywords than these."""
    return any(key in CONSTRAINTS and key not in names for key in node)


def _nodes(schema: Any, *, all: bool = True) -> Iterator[Json]:
    """Yield all schemas in a schema, itself first."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            inner = node if all else {k: v for k, v in node.items() if k not in ("$defs", "definitions")}
            waiting += [one for one, _ in below(inner)]


def _renamed(schema: Json) -> bool:
    """Whether there are names of schemas that change what references refer to."""
    inner = (
        {k: v for k, v in node.items() if k != "$id" and k != "id"} if node is schema else node
        for node in _nodes(schema)
    )
    return any(isinstance(node.get("$id"), str) or "$recursiveAnchor" in node for node in inner)


def _circles(schema: Json, named: Json) -> Mapping[str, int]:
    """Return a number for each definition, the same for those that lead to each other. "" is the schema as a whole.

    These are the strongly connected components of the graph of references, found by Kosaraju's algorithm.
    """
    steps = {name: _refers(inner) & (named.keys() | {""}) for name, inner in named.items()}
    steps[""] = _refers(schema) & (named.keys() | {""})
    back: dict[str, set[str]] = {name: set() for name in steps}
    for name, targets in steps.items():
        for target in targets:
            back[target].add(name)
    seen: set[str] = set()
    finished = [name for start in steps for name in _finished(start, steps, seen)]
    numbers: dict[str, int] = {}
    seen = set()
    for number, start in enumerate(reversed(finished)):
        numbers |= dict.fromkeys(_finished(start, back, seen), number)
    return numbers


def _finished(start: str, steps: Mapping[str, set[str]], seen: set[str]) -> list[str]:
    """Return what can be reached and was not seen before, each after all that it leads to."""
    found: list[str] = []
    waiting = [(start, False)]
    while waiting:
        name, done = waiting.pop()
        if done:
            found.append(name)
        elif name not in seen:
            seen.add(name)
            waiting.append((name, True))
            waiting += [(target, False) for target in steps[name]]
    return found


def _refers(schema: Any) -> set[str]:
    """Return the definitions that a schema refers to, "" for the schema as a whole."""
    refs = (node.get("$ref") for node in _nodes(schema, all=False))
    return {"" if ref == "#" else str(definition_of(ref)) for ref in refs if ref is not None}


def _open(schema: Json, stand_alone: bool) -> frozenset[str]:
    """Return the definitions that are referred to where more is said of the properties of the same object."""
    named = definitions(schema)
    inner = {key: value for key, value in schema.items() if key not in HOMES}
    waiting = [name for one in (inner, *named.values()) for name in _opened(one, True, stand_alone)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _opened(named.get(name), False, stand_alone)
    return frozenset(found)


def _opened(schema: Any, alone: bool, stand_alone: bool) -> set[str]:
    found: set[str] = set()
    waiting: list[tuple[Any, bool]] = [(schema, alone)]
    while waiting:
        node, alone = waiting.pop()
        if not isinstance(node, dict):
            continue
        if "$ref" in node and (not alone or (others(node, "$ref") and not stand_alone)):
            found.add(str(definition_of(node["$ref"])))
        for inner, path in below(node):
            name = path.split("/")[1]
            shared = name in IN_PLACE and (name not in ("allOf", "anyOf", "oneOf") or others(node, name, "type"))
            several = name == "allOf" and len(node["allOf"]) > 1
            waiting.append((inner, not shared and not several and (alone or name not in IN_PLACE)))
    return found
