"""How much work it can be, at most, to check a value against a JSON Schema.

References make the work of a small schema grow beyond all bounds: twenty definitions that each ask for the next one
twice are a million evaluations of one value, and a recursive one that asks twice is 2^depth. So before a schema is
used, the most evaluations of one node of an answer are counted for each depth of it; a check is refused where that,
times the size of the answer, is too much. The count is a bound: whatever short cuts a validator takes, it does no more.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final, TypeGuard

from holdfast.contracts.forms.patterns import MAX_PATTERN
from holdfast.contracts.forms.patterns import cost as cost_of_pattern
from holdfast.pointers import at

MAX_NODES: Final = 5_000
MAX_INPLACE: Final = 64
"""The most steps from one schema to others that look at the same value."""
MAX_DEPTH: Final = 128
"""The deepest nesting of an answer that is checked."""
_ENDLESS: Final = 1 << 40
_COST_OF_UNIQUE: Final = 300
_COST_OF_COMPILED_PATTERN: Final = 20
_MAX_STEPS: Final = 400_000

_INPLACE_ONE: Final = ("not", "if", "then", "else")
_INPLACE_MANY: Final = ("allOf", "anyOf", "oneOf")
_CHILD_ONE: Final = (
    "items",
    "additionalItems",
    "contains",
    "unevaluatedItems",
    "unevaluatedProperties",
    "propertyNames",
)
_CHILD_MANY: Final = ("items", "prefixItems")
_MAPS: Final = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")

_META: Final = ("http://json-schema.org/", "https://json-schema.org/")
"""Where the schemas of JSON Schema itself are, which a validator knows. They look at each child once."""


class Unbounded(ValueError):
    """A schema that no answer could be checked against in bounded time, or whose references lead nowhere."""


class _Node:
    """One schema: what else looks at the same value, and what looks at each of its children."""

    __slots__ = ("exclusive", "factor", "inplace", "others", "own", "references", "schema")

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.own = _own_cost(schema)
        self.factor = 2 if "unevaluatedItems" in schema or "unevaluatedProperties" in schema else 1
        self.references = [schema[key] for key in ("$ref", "$dynamicRef", "$recursiveRef") if _is_text(schema.get(key))]
        self.inplace: list[list[_Node]] = []
        """Groups of which each costs as much as its dearest."""
        self.exclusive: list[_Node] = []
        """At most one of them looks at any one child."""
        self.others: list[_Node] = []

    def targets(self) -> Iterator["_Node"]:
        return chain(chain.from_iterable(self.inplace), self.exclusive, self.others)


def work_by_depth(schema: Any, documents: Mapping[str, Any]) -> tuple[int, ...]:
    """Return how often, at most, a node at each depth of an answer is evaluated, weighted by what each costs.

    The last number stands for all depths from there on, to MAX_DEPTH. Raises Unbounded.
    """
    graph = _Graph()
    root = graph.add(schema)
    for uri, document in documents.items():
        graph.add(document, uri)
    if root is None:
        return (1,)
    nodes = _inplace_order(graph.linked(root))
    costs: dict[int, int] = {}
    table: list[int] = []
    steps = 0
    while len(table) < MAX_DEPTH:
        below, costs = costs, {}
        for node in nodes:
            here = node.own if not table else 0
            same = sum(max((costs[id(target)] for target in group), default=0) for group in node.inplace)
            child = max((below.get(id(target), 0) for target in node.exclusive), default=0)
            child += sum(below.get(id(target), 0) for target in node.others)
            costs[id(node)] = min(here + node.factor * (same + child), _ENDLESS)
            steps += 1 + len(node.exclusive) + len(node.others)
        table.append(costs[id(root)])
        if costs == below:
            break
        if steps > _MAX_STEPS or table[-1] >= _ENDLESS:
            table.append(_ENDLESS)
            break
    return tuple(table)


def work_of_parts(schema: Any, most: int) -> int:
    """Return how many schemas are compiled if each one of a document is, with all that it holds and refers to.

    One with a pattern counts as several. It is not counted far beyond `most`. Raises Unbounded.
    """
    graph = _Graph()
    graph.add(schema)
    left = list(graph.nodes.values())
    total = 0
    for node in left:
        graph.link(node)
    for node in left:
        reached, seen = [node], {id(node)}
        for inner in reached:
            for target in inner.targets():
                if id(target) not in seen:
                    seen.add(id(target))
                    reached.append(target)
        total += sum([_COST_OF_COMPILED_PATTERN if "pattern" in inner.schema else 1 for inner in reached])
        if total > most:
            break
    return total


class _Graph:
    def __init__(self) -> None:
        self.nodes: dict[int, _Node] = {}
        """By the identity of their schemas, which they keep alive."""
        self._roots: dict[int, dict[str, Any]] = {}
        self._documents: list[dict[str, Any]] = []
        self._resources: dict[str, list[dict[str, Any]]] = {}
        """By the last step of their URIs, wherever these are relative to."""
        self._anchors: dict[str, list[dict[str, Any]]] = {}
        self._meta = _Node({})
        self._meta.own = 300
        self._meta.others.append(self._meta)

    def add(self, schema: Any, uri: str = "") -> _Node | None:
        """Take a document in, with every schema in it."""
        if not isinstance(schema, dict):
            return None
        self._documents.append(schema)
        self._resources.setdefault(_last_step(uri.partition("#")[0]), []).append(schema)
        left = [(schema, schema)]
        while left:
            here, root = left.pop()
            if id(here) in self.nodes:
                continue
            root = self._name(here, root)
            self.nodes[id(here)] = _Node(here)
            self._roots[id(here)] = root
            if len(self.nodes) > MAX_NODES:
                raise Unbounded(f"it holds more than {MAX_NODES:,} schemas")
            left += [(inner, root) for inner in _all_inside(here)]
        return self.nodes[id(schema)]

    def _name(self, schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
        """Note the names of a schema, and return the root of references in it."""
        for key in ("$anchor", "$dynamicAnchor"):
            if _is_text(anchor := schema.get(key)):
                self._anchors.setdefault(anchor, []).append(schema)
        if schema.get("$recursiveAnchor") is True:
            self._anchors.setdefault("", []).append(schema)
        for key in ("$id", "id"):
            if _is_text(name := schema.get(key)):
                if name.startswith("#"):
                    self._anchors.setdefault(name[1:], []).append(schema)
                else:
                    self._resources.setdefault(_last_step(name.partition("#")[0]), []).append(schema)
                    root = schema
        return root

    def linked(self, root: _Node) -> list[_Node]:
        """Return all that can be reached from a node, each with what it leads to."""
        seen = {id(root)}
        reached = [root]
        for node in reached:
            self.link(node)
            for target in node.targets():
                if id(target) not in seen:
                    seen.add(id(target))
                    reached.append(target)
        return reached

    def link(self, node: _Node) -> None:
        for reference in node.references:
            node.inplace.append(self._targets(reference, node.schema))
        for inner in _inplace(node.schema):
            node.inplace.append([self.nodes[id(inner)]])
        exclusive, others = _children(node.schema)
        node.exclusive += [self.nodes[id(inner)] for inner in exclusive]
        node.others += [self.nodes[id(inner)] for inner in others]

    def _targets(self, reference: str, schema: dict[str, Any]) -> list[_Node]:
        """Return every schema that a reference may mean, more rather than fewer."""
        uri, _, fragment = reference.partition("#")
        if uri.startswith(_META):
            return [self._meta]
        fragment = _unquoted(fragment)
        if fragment and not fragment.startswith("/"):
            found: list[Any] = list(self._anchors.get(fragment, ()))
        else:
            roots = (
                [self._roots[id(schema)], *self._documents[:1]] if not uri else self._resources.get(_last_step(uri), [])
            )
            found = [place for root in roots if isinstance(place := at(root, fragment), dict | bool)]
            if not fragment:
                found += self._anchors.get("", ())
        if len(found) > MAX_INPLACE:
            raise Unbounded(f"$ref {reference!r} could mean any of {len(found):,} schemas whose $id ends so")
        if not found:
            raise Unbounded(f"$ref {reference!r} leads nowhere: only what the schema itself defines can be referred to")
        return [self._node(place) for place in found if isinstance(place, dict)]

    def _node(self, schema: dict[str, Any]) -> _Node:
        """Return the node of a schema, which may be at a place where none is expected, such as an unknown keyword."""
        if (node := self.nodes.get(id(schema)) or self.add(schema)) is None:
            raise AssertionError(schema)
        return node


def _inplace_order(nodes: list[_Node]) -> list[_Node]:
    """Return the nodes, each after those that look at the same value for it. Raises Unbounded."""
    heights: dict[int, int] = {}
    order: list[_Node] = []
    for start in nodes:
        stack = [(start, False)]
        while stack:
            node, left = stack.pop()
            if left:
                height = 1 + max((heights[id(t)] for group in node.inplace for t in group), default=0)
                if height > MAX_INPLACE:
                    raise Unbounded(f"more than {MAX_INPLACE} schemas in a row look at the same value")
                heights[id(node)] = height
                order.append(node)
            elif id(node) not in heights:
                heights[id(node)] = 0
                stack.append((node, True))
                stack += [(target, False) for group in node.inplace for target in group]
            elif heights[id(node)] == 0:
                raise Unbounded("a $ref leads back to its own schema without going deeper into the answer")
    return order


def _inplace(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in _INPLACE_ONE:
        if isinstance(inner := schema.get(key), dict):
            yield inner
    for key in _INPLACE_MANY:
        yield from _dicts(schema.get(key))
    for key in ("dependentSchemas", "dependencies"):
        if isinstance(inner := schema.get(key), dict):
            yield from _dicts(list(inner.values()))


def _children(schema: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the schemas of children: those of which at most one looks at a child, and the others."""
    exclusive: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    if isinstance(named := schema.get("properties"), dict):
        exclusive += _dicts(list(named.values()))
    exclusive += _dicts([schema.get("additionalProperties")])
    others += _dicts([schema.get("propertyNames")])
    for key in _CHILD_ONE:
        (exclusive if key in {"items", "additionalItems"} else others).extend(_dicts([schema.get(key)]))
    for key in _CHILD_MANY:
        exclusive += _dicts(schema.get(key))
    if isinstance(patterns := schema.get("patternProperties"), dict):
        others += _dicts(list(patterns.values()))
    return exclusive, others


def _all_inside(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _inplace(schema)
    exclusive, others = _children(schema)
    yield from exclusive
    yield from others
    yield from _dicts([schema.get("contentSchema")])
    for key in _MAPS:
        if isinstance(inner := schema.get(key), dict):
            yield from _dicts(list(inner.values()))


def _own_cost(schema: dict[str, Any]) -> int:
    """Return what its own keywords cost, an unit being a few nanoseconds for each character of the answer."""
    cost = 1 + len(schema)
    for key in ("required", "enum", "properties"):
        if isinstance(value := schema.get(key), list | dict):
            cost += len(value)
    if _is_text(pattern := schema.get("pattern")):
        cost += _cost_of(pattern)
    if isinstance(patterns := schema.get("patternProperties"), dict):
        cost += sum(map(_cost_of, patterns))
    return cost + (_COST_OF_UNIQUE if schema.get("uniqueItems") is True else 0)


def _cost_of(pattern: str) -> int:
    if len(pattern) > MAX_PATTERN:
        raise Unbounded(f"a pattern is longer than {MAX_PATTERN:,} characters")
    return cost_of_pattern(pattern)


def _last_step(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]


def _unquoted(fragment: str) -> str:
    if "%" not in fragment:
        return fragment
    parts = fragment.split("%")
    raw = parts[0].encode()
    for part in parts[1:]:
        try:
            raw += bytes([int(part[:2], 16)]) + part[2:].encode()
        except ValueError:
            raw += b"%" + part.encode()
    return raw.decode(errors="replace")


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)
