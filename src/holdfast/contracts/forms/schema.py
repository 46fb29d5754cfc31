"""JSON that a JSON Schema describes: 2020-12, 2019-09 and drafts 7, 6, 4. Nothing is fetched, and work is bounded."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, Literal

import msgspec

from holdfast.contracts.base import (
    MAX_VIOLATIONS,
    Constraint,
    Schema,
    Violation,
    refuse,
    shortened,
)
from holdfast.contracts.forms.cost import MAX_DEPTH, Unbounded, work_by_depth, work_of_parts
from holdfast.contracts.forms.patterns import MAX_WORK, library, options, reason
from holdfast.contracts.forms.subschemas import Dialect, Subschemas
from holdfast.pointers import pointer

Draft = Literal["4", "6", "7", "2019-09", "2020-12"]

MAX_SCHEMA: Final = 512 * 2**10
"""The largest schema, in bytes of JSON."""
MAX_TOLD: Final = 20_000
"""The most evaluations for which each single violation is told: telling one takes 30 us, and it tells all or none."""
MAX_NODES_TOLD: Final = 50_000
"""The most nodes of an answer of which violations are told: it is copied for that, in one step of 0.3 us a node."""
MAX_PATTERNS: Final = 1_000
MAX_PARTS: Final = 10_000
"""The most schemas, with all that they refer to, that are compiled so that parts of an answer can be checked alone."""
_META: Final[dict[Draft, str]] = {
    "4": "http://json-schema.org/draft-04/schema#",
    "6": "http://json-schema.org/draft-06/schema#",
    "7": "http://json-schema.org/draft-07/schema#",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
}
_TOO_DEEP: Final = f"it is nested more than {MAX_DEPTH} deep"


class JsonForm:
    """JSON under a schema. Use `compile_schema`."""

    __slots__ = ("_compile", "_dialect", "_schema", "_subschemas", "_validator", "_work", "constraint", "weight")

    def __init__(
        self, schema: Schema, validator: Any, work: tuple[int, ...], dialect: Dialect, compile: Callable[[], Any]
    ) -> None:
        """Take the validators of subschemas from `compile` where they are needed."""
        self.constraint: Constraint | None = Constraint("json_schema", schema)
        self._schema = schema
        self._validator = validator
        self._work = work
        self.weight = max(work)
        """The most evaluations, weighted by their costs, of one node of an answer."""
        self._dialect: Dialect = dialect
        self._compile = compile
        self._subschemas: Subschemas | None = None

    @property
    def subschemas(self) -> Subschemas:
        """What is said of single values. It is made once, when it is first needed."""
        if self._subschemas is None:
            self._subschemas = Subschemas(self._schema, self._dialect, self._compile)
        return self._subschemas

    def read(self, text: str) -> tuple[Any, Any, tuple[Violation, ...]]:
        try:
            value = decode(text)
        except ValueError as error:
            return None, None, (Violation("", f"not JSON: {error}", "json"),)
        violations = self.violations(text, value)
        return (None, None, violations) if violations else (value, value, ())

    def violations(self, text: str, value: Any) -> tuple[Violation, ...]:
        """Return how the value of a text fails the schema."""
        if self.weight * len(text) > MAX_WORK and self._work_on(value) > MAX_WORK:
            return (Violation("", "too much work to check: the answer is too large for this schema", "limit"),)
        try:
            if self._validator.is_valid(value):
                return ()
            if not self._can_be_told(value):
                return (Violation("", "the answer does not meet the schema, and is too large to say where", "schema"),)
            return tuple(_violation(error) for error in islice(self._validator.iter_errors(value), MAX_VIOLATIONS))
        except (ValueError, OverflowError) as error:  # what it can't take in, such as nesting
            return (Violation("", shortened(str(error)), "limit"),)

    def _can_be_told(self, value: Any) -> bool:
        """Whether it takes little to say how a value fails."""
        nodes = [nodes for nodes, _ in _levels(value)]
        return sum(nodes) <= MAX_NODES_TOLD and self._weighed(nodes) <= MAX_TOLD

    def _work_on(self, value: Any) -> int:
        """Return the most evaluations that a value may take, each times the size of what it is of."""
        return self._weighed([nodes + characters for nodes, characters in _levels(value)])

    def _weighed(self, sizes: Sequence[int]) -> int:
        last = len(self._work) - 1
        return sum(size * self._work[min(depth, last)] for depth, size in enumerate(sizes))


def compile_schema(
    source: Schema | str | bytes,
    *,
    draft: Draft | None = None,
    formats: bool = True,
    documents: Mapping[str, Schema] | None = None,
    name: str = "contract",
) -> JsonForm:
    """Compile a JSON Schema, given as JSON or decoded.

    Args:
        draft: for a schema without `$schema`; 2020-12 by default.
        formats: whether `format` is checked, or only describes.
        documents: other schemas that a `$ref` may name, by URI. Nothing is fetched.
        name: what problems are reported for.

    Raises:
        ConfigError: it is no schema, refers to what isn't there, or could take unbounded work to check.
    """
    rust = library()
    schema, patterns = _schema(source, name)
    documents = documents or {}
    try:
        work = work_by_depth(schema, documents)
    except Unbounded as error:
        refuse(str(error), name=name)
    if patterns > MAX_PATTERNS:
        refuse(f"the schema has more than {MAX_PATTERNS:,} patterns", name=name)
    given = {"offline": True, "validate_formats": formats, "pattern_options": options(rust, patterns)}
    validator = _validator(rust, schema, given, draft, documents, name)
    return JsonForm(schema, validator, work, _dialect(schema, draft), partial(_parts, rust, schema, given, draft))


def decode(text: str) -> Any:
    """Decode JSON as RFC 8259 has it, strictly: no key twice in an object, no lone surrogates.

    Raises:
        ValueError: it is not such JSON, or nested too deeply.
    """
    try:
        value = msgspec.json.decode(text)
        if '"' in text and "{" in text:
            _DISTINCT.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(error.msg) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error).removeprefix("JSON is malformed: ")) from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {json.dumps(shortened(twice))} stands twice in one object")


_DISTINCT: Final = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=len, parse_float=len)


def _levels(value: Any) -> list[tuple[int, int]]:
    """Return the size of a value at each depth: its nodes, and their characters, keys and items."""
    sizes: list[tuple[int, int]] = []
    level = [value]
    while level:
        size = 0
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
                size += sum(map(len, item)) + len(item)
            elif isinstance(item, list):
                below += item
                size += len(item)
            elif isinstance(item, str):
                size += len(item)
        sizes.append((len(level), size))
        level = below
    return sizes


def _depth(value: Any) -> int:
    return len(_levels(value))


def _violation(error: Any) -> Violation:
    return Violation(pointer(error.instance_path), shortened(error.message), error.kind.name)


# --- compiling --------------------------------------------------------------------------------------------------------


def _schema(source: Schema | str | bytes, name: str) -> tuple[Schema, int]:
    """Return a copy of the schema that nobody else changes, and about how many patterns it has."""
    try:
        if isinstance(source, bytes):
            source = source.decode()
        text = source if isinstance(source, str) else json.dumps(source, allow_nan=False, ensure_ascii=False)
        if len(text) > MAX_SCHEMA:
            refuse(f"the schema is larger than {MAX_SCHEMA:,} characters", name=name)
        schema = decode(text)
    except (ValueError, TypeError, RecursionError) as error:
        refuse(f"the schema is not JSON: {_TOO_DEEP if isinstance(error, RecursionError) else error}", name=name)
    if not isinstance(schema, dict | bool):
        refuse("a JSON Schema is an object, or true or false", name=name)
    return schema, text.count("attern")


def _validator(
    rust: Any, schema: Schema, given: dict[str, Any], draft: Draft | None, documents: Mapping[str, Schema], name: str
) -> Any:
    known = f"Draft{(draft or '2020-12').replace('-', '')}"
    try:
        if documents:
            given["registry"] = rust.Registry(list(documents.items()), draft=getattr(rust, known))
        if draft is None or (isinstance(schema, dict) and "$schema" in schema):
            return rust.validator_for(schema, **given)
        return getattr(rust, f"{known}Validator")(schema, **given)
    except rust.ValidationError as error:
        refuse(_reason(error), pointer(error.instance_path), name)
    except (ValueError, rust.ReferencingError) as error:
        refuse(f"the schema can't be used: {shortened(str(error))}", name=name)


def _parts(rust: Any, schema: Schema, given: dict[str, Any], draft: Draft | None) -> Any:
    """Return the validators of all subschemas, by pointers such as "#/properties/a"; of none where that fails."""
    try:
        if work_of_parts(schema, MAX_PARTS) > MAX_PARTS:
            return {}
        if isinstance(schema, dict) and draft is not None:
            schema = {"$schema": _META[draft], **schema}
        return rust.validator_map_for(schema, **given)
    except (Unbounded, ValueError, rust.ValidationError, rust.ReferencingError):
        return {}


def _dialect(schema: Schema, draft: Draft | None) -> Dialect:
    named = schema.get("$schema") if isinstance(schema, dict) else None
    if named is None:
        return draft or "2020-12"
    drafts = (draft for draft, uri in _META.items() if isinstance(named, str) and named.rstrip("#") == uri.rstrip("#"))
    return next(drafts, "other")


def _reason(error: Any) -> str:
    message: str = error.message
    if "Retrieval is disabled" in message or "Default retriever" in message:
        return f"{shortened(message.partition(' is not present')[0])} is not in the schema, and nothing is fetched"
    return reason(message)
