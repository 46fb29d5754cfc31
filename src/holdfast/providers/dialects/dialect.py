"""What a server understands of JSON Schema, as data, and the keywords that a schema constrains by.

`holdfast.providers.dialects.narrowing` writes a schema in a dialect.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from holdfast.chat import ResponseFormat
from holdfast.pointers import step

Json = dict[str, Any]

MAX_DEPTH: Final = 100
"""How deep schemas are looked into. What is below is never enforced."""

MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"})
"""Keywords whose value is an object of schemas."""
LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords whose value is an array of schemas."""
SINGLES: Final = frozenset(
    {
        *("not", "if", "then", "else", "items", "additionalItems", "contains", "additionalProperties"),
        *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords whose value is a schema. `items` was also an array of them, until 2019."""
KINDS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), frozenset({"number", "integer"})
    ),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), frozenset({"string"})),
    **dict.fromkeys(
        (
            *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"),
            *("minContains", "maxContains", "unevaluatedItems"),
        ),
        frozenset({"array"}),
    ),
    **dict.fromkeys(
        (
            *("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties"),
            *("maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
        ),
        frozenset({"object"}),
    ),
}
"""The types that a keyword says something about; a value of another type passes it."""
CONSTRAINTS: Final = frozenset(
    {
        *KINDS,
        *("type", "enum", "const", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
        *("$ref", "$dynamicRef", "$recursiveRef"),
    }
)
"""The keywords that can make a value invalid. All others describe."""


class Keyword(msgspec.Struct, frozen=True, order=True):
    """A keyword of a constraint: `path` is the JSON pointer of the schema that it stands in.

    A constraint that is no schema has one, at the path "": "pattern", "choice", "grammar" or "json".
    """

    path: str
    keyword: str


class Constrained(msgspec.Struct, frozen=True, kw_only=True):
    """What a server makes of a constraint. Each of its keywords is in exactly one of `enforced` and `checked`."""

    format: ResponseFormat | None
    """What to ask the server for; the very format that was given, where it goes as it is. None: nothing."""
    enforced: tuple[Keyword, ...] = ()
    """What no answer of the server can break, by its documentation."""
    checked: tuple[Keyword, ...] = ()
    """What the server is not known to enforce, so that answers have to be checked."""
    reason: str | None = None
    """Why nothing of a schema is enforced, where it is for something in the schema."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What a server enforces of JSON Schema. Keywords that are not named here are taken out of what it is sent."""

    general: frozenset[str] = frozenset({"type", "enum", "anyOf", "$ref"})
    """Which of type, enum, const, anyOf and $ref. A `oneOf` is sent as `anyOf`."""
    object: frozenset[str] = frozenset({"properties", "required", "additionalProperties"})
    array: frozenset[str] = frozenset({"items"})
    string: frozenset[str] = frozenset()
    integer: frozenset[str] = frozenset()
    number: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    most: Mapping[str, int] = {}
    """The largest value that a keyword may have."""
    enum_types: frozenset[str] = frozenset({"string", "number", "integer", "boolean", "null"})
    sends_all: bool = False
    """Whether the whole schema is sent as it is, because nothing is known to be refused."""
    closing: Literal["never", "silently", "must"] = "never"
    """What becomes of an object that names its properties and doesn't say whether others are allowed: others are
    allowed; the server allows none by itself; it must be told to allow none, and takes no other schema."""
    all_required: bool = False
    """Whether every property must be required."""
    all_typed: bool = False
    """Whether every schema must say its type, every object its properties and every array its items."""
    object_root: bool = False
    """Whether the answer must be an object."""
    type_lists: bool = True
    """Whether `type` may be an array."""
    recursion: bool = True
    one_of_string: bool = True
    """Whether a string is held to only one of `pattern`, `format` and lengths, in this order."""
    schema_of_others: bool = False
    """Whether `additionalProperties` may be a schema."""
    tells: bool = False
    """Whether what is taken out is put into the description, for the model to read."""
    max_properties: int | None = None
    max_depth: int | None = None
    max_enum: int | None = None
    max_branches: int | None = None
    """The most schemas of one `anyOf`."""
    max_optional: int | None = None
    max_unions: int | None = None
    """The most of `anyOf` and of arrays of types."""
    max_bytes: int | None = None

    def of(self, type: str) -> frozenset[str]:
        """Return the keywords that are enforced for values of a type."""
        return getattr(self, type) if type in _TYPED else frozenset()


_TYPED: Final = frozenset({"object", "array", "string", "integer", "number"})


def keywords(schema: Any) -> tuple[Keyword, ...]:
    """Return every keyword of a schema that can make a value invalid, wherever in it.

    A schema that is just `false` has the keyword "false", where nothing else tells of it.
    """
    return tuple(sorted(_keywords(schema), key=_place))


def _place(one: Keyword) -> tuple[str, str]:
    return one.path, one.keyword


def _keywords(schema: Any) -> Iterator[Keyword]:
    waiting: list[tuple[Any, str]] = [(schema, "")]
    while waiting:
        node, path = waiting.pop()
        if node is False:
            yield Keyword(path, "false")
        elif isinstance(node, dict):
            yield from (Keyword(path, name) for name in node if name in CONSTRAINTS)
            waiting += below(node, path)


def below(node: Json, path: str = "") -> Iterator[tuple[Any, str]]:
    """Yield the schemas in a schema, with their JSON pointers."""
    for name, value in node.items():
        inner = f"{path}/{name}"  # none of these names needs escaping
        if isinstance(value, dict):
            if name in MAPS:
                yield from ((one, f"{inner}/{step(key)}") for key, one in value.items() if is_schema(one))
            elif name in SINGLES:  # of true and false, the keyword itself is told
                yield value, inner
        elif isinstance(value, list) and (name in LISTS or name == "items"):
            yield from ((one, f"{inner}/{i}") for i, one in enumerate(value) if is_schema(one))


def is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)
