"""Schemas and answers that are meant to stall a gateway. Run as a script, it checks one and prints what came of it.

python hostile.py NAME -> JSON: {"outcome": str, "seconds": float, "megabytes": int}
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

MEGABYTE = 2**20


def doubling(levels: int, below: str | None = None) -> dict[str, Any]:
    """Return a schema whose definitions ask each for the next one twice."""
    last: dict[str, Any] = {"type": "integer"} if below is None else {"items": {"$ref": below}}
    asks = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(levels)}
    return {"$defs": {**asks, f"a{levels}": last}, "$ref": "#/$defs/a0"}


def chain(length: int) -> dict[str, Any]:
    asks = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(length)}
    return {"$defs": {**asks, f"a{length}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def nested_schema(depth: int) -> str:
    return '{"items":' * depth + "true" + "}" * depth


TREE = {"anyOf": [{"properties": {"a": {"$ref": "#"}}}] * 2}
LETTERS = "ab" * (MEGABYTE // 2)

CASES: dict[str, Callable[[], tuple[Any, str]]] = {
    "billion laughs": lambda: (doubling(40), "3"),
    "billion laughs, wrong": lambda: (doubling(40), '"x"'),
    "million laughs, wrong": lambda: (doubling(19), '"x"'),
    "recursion that doubles": lambda: (TREE, '{"a":' * 100 + "1" + "}" * 100),
    "items that double": lambda: (doubling(3, "#/$defs/a0"), nested(100)),
    "many negations": lambda: (
        {"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
        "1",
    ),
    "reference to itself": lambda: ({"$ref": "#"}, "1"),
    "long chain of references": lambda: (chain(9_000), "1"),
    "large schema": lambda: ({"properties": {f"k{i}": {"type": "string"} for i in range(4_900)}}, "{}"),
    "schema of 2 MB": lambda: ({"enum": ["x" * 1000 + str(i) for i in range(2_000)]}, "1"),
    "choices beyond counting": lambda: (
        {"items": {"anyOf": [{"const": i} for i in range(4_900)]}},
        json.dumps([-1] * 300_000),
    ),
    "deep schema": lambda: (nested_schema(40_000), "1"),
    "deep answer": lambda: ({}, nested(100_000)),
    "unevaluated in unevaluated": lambda: (
        {
            "$defs": {
                f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}], "unevaluatedProperties": False} for i in range(30)
            }
            | {"a30": {"properties": {"a": True}}},
            "$ref": "#/$defs/a0",
        },
        '{"a":1}',
    ),
    "exponential pattern": lambda: ({"pattern": "^(a+)+$"}, json.dumps("a" * MEGABYTE + "!")),
    "pattern with many states": lambda: ({"pattern": "(a|b)*a(a|b){500}c"}, json.dumps(LETTERS)),
    "repetition of repetitions": lambda: ({"pattern": "((a{1000}){1000}){1000}"}, '"a"'),
    "many large patterns": lambda: ({"allOf": [{"pattern": f"(x{{50}}){{50}}{i}"} for i in range(900)]}, '"x"'),
    "more patterns than are taken": lambda: ({"allOf": [{"pattern": str(i)} for i in range(5_000)]}, '"x"'),
    "pattern of open brackets": lambda: ({"pattern": "[" * 400_000}, '"x"'),
    "pattern of open groups": lambda: ({"pattern": "(" * 200_000 + ")" * 200_000}, '"x"'),
    "patterns of properties": lambda: (
        {"patternProperties": {f"(a|b|c)*{i}$": True for i in range(900)}},
        json.dumps({f"k{i}": 1 for i in range(80_000)}),
    ),
    "unique items": lambda: ({"uniqueItems": True}, json.dumps([[i] for i in range(130_000)])),
    "unique small": lambda: ({"uniqueItems": True}, json.dumps([[i] for i in range(100_000)])),
    "items all wrong": lambda: ({"items": {"type": "string"}}, json.dumps([1] * 300_000)),
    "items wrong in many ways": lambda: (
        {"items": {"anyOf": [{"type": "string"}, {"type": "boolean"}, {"required": [str(i) for i in range(100)]}]}},
        json.dumps([{}] * 4_000),
    ),
    "keys all missing": lambda: ({"required": [f"k{i}" for i in range(2_000)]}, json.dumps({"x": "y" * 900})),
    "keys all missing beside a long text": lambda: (
        {"required": [f"k{i}" for i in range(240)]},
        json.dumps({"x": "y" * 100_000}),
    ),
    "keys all unknown": lambda: ({"additionalProperties": False}, json.dumps({f"k{i}": 1 for i in range(80_000)})),
    "text of 5 MB": lambda: ({}, json.dumps("x" * 5 * MEGABYTE)),
    "number of a million digits": lambda: ({"type": "integer"}, "1" * MEGABYTE),
    "number with a huge exponent": lambda: ({"multipleOf": 0.1}, "1e308"),
    "key a million times": lambda: ({}, "{" + ",".join(['"a":1'] * 150_000) + "}"),
}


def main(name: str) -> None:
    from holdfast.contracts.base import Contract
    from holdfast.contracts.forms.schema import compile_schema
    from holdfast.errors import ConfigError

    schema, text = CASES[name]()
    compile_schema({"pattern": "^a$"})  # what loads once is no one's fault
    resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        checked = Contract(compile_schema(schema)).check(text)
        outcome = str(checked.violations[0]) if checked.violations else "ok"
    except ConfigError as error:
        outcome = f"refused: {error}"
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    sys.stdout.write(json.dumps({"outcome": outcome, "seconds": round(seconds, 3), "megabytes": grown}))


if __name__ == "__main__":
    main(sys.argv[1])
