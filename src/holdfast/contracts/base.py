"""What an answer must look like: a contract, compiled once, checks any number of texts.

A contract is a form, which gives a text its meaning (JSON under a schema, one of a few choices, a grammar), and
conditions on top of it (predicates, lengths, stop phrases). Nothing here does I/O, and a check never raises.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NoReturn, Protocol

import msgspec

from holdfast.contracts.ledger import Lossy
from holdfast.contracts.shape import ANY, Shape
from holdfast.errors import ConfigError, Problem

MAX_TEXT: Final = 4 * 2**20
"""The longest text, in characters, that is looked at. A longer one meets no contract."""
MAX_VIOLATIONS: Final = 32
"""The most violations that are told of one text."""

Schema = dict[str, Any] | bool


class Violation(msgspec.Struct, frozen=True, order=True):
    """One way in which a text does not meet its contract.

    `path` is a JSON pointer into the answer, "" for the whole. `keyword` is the keyword of JSON Schema at fault, or
    "json", "cut", "limit", "pattern", "choice", "grammar", "model", "predicate", "characters", "words", "tokens",
    "stops_at", "stops_before", "includes".
    """

    path: str
    message: str
    keyword: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Checked(msgspec.Struct, frozen=True):
    """What came of a check: the value that the text stands for, or why it meets no contract."""

    value: Any = None
    """The decoded JSON, the instance of the Pydantic model, or the text itself. None where there are violations."""
    violations: tuple[Violation, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.violations


class Constraint(msgspec.Struct, frozen=True):
    """What a model's server can be asked to enforce: a JSON Schema, a regular expression, choices or a Lark grammar."""

    kind: Literal["json_schema", "pattern", "choice", "grammar"]
    value: Any


class Form(Protocol):
    """Gives a text its meaning. `read` never raises."""

    @property
    def constraint(self) -> Constraint | None: ...

    def read(self, text: str) -> tuple[Any, Any, tuple[Violation, ...]]:
        """Return the value for the caller, the same as plain data for conditions, and the violations."""
        ...


class Condition(Protocol):
    """Something that must hold of an answer. `text` is the whole of it, `data` its plain value. Never raises."""

    def violations(self, text: str, data: Any) -> Iterator[Violation]: ...


class Contract:
    """What an answer must look like. It may be used by any number of threads."""

    __slots__ = ("__weakref__", "_conditions", "_form", "_shape", "allow", "name")

    def __init__(
        self, form: Form, conditions: Iterable[Condition] = (), *, name: str = "", allow: Iterable[Lossy] = ()
    ) -> None:
        self._form = form
        self._conditions = tuple(conditions)
        self._shape: Shape | None = None
        self.name = name
        self.allow: frozenset[Lossy] = frozenset(allow)
        """The repairs that lose or make up something, and that may be made nonetheless."""

    def check(self, text: str) -> Checked:
        """Return the value of a text, or how it fails. Conditions are looked at once the form holds."""
        if len(text) > MAX_TEXT:
            return Checked(None, (too_long(len(text)),))
        value, data, violations = self._form.read(text)
        if not violations and self._conditions:
            violations = tuple(self._unmet(text, data))
        return Checked(None, violations) if violations else Checked(value)

    def _unmet(self, text: str, data: Any) -> Iterator[Violation]:
        left = MAX_VIOLATIONS
        for condition in self._conditions:
            for violation in condition.violations(text, data):
                yield violation
                left -= 1
                if not left:
                    return

    @property
    def constraint(self) -> Constraint | None:
        """What a server can be asked to enforce. None: any text may come."""
        return self._form.constraint

    @property
    def form(self) -> Form:
        return self._form

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self._conditions

    @property
    def shape(self) -> Shape:
        """What a repair knows of the answer. It is made once, when it is first needed."""
        if self._shape is None:
            self._shape = Shape(self.schema) if isinstance(self.schema, dict) else ANY
        return self._shape

    @property
    def schema(self) -> Schema | None:
        """The JSON Schema of the answer. None: the answer is not JSON."""
        constraint = self._form.constraint
        return constraint.value if constraint is not None and constraint.kind == "json_schema" else None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the schema names at its top, in their order; those that must be there first."""
        schema = self.schema
        if not isinstance(schema, dict):
            return ()
        named, required = schema.get("properties"), schema.get("required")
        keys = [key for key in required if isinstance(key, str)] if isinstance(required, list) else []
        return tuple(dict.fromkeys([*keys, *(named if isinstance(named, dict) else ())]))

    @property
    def is_json(self) -> bool:
        """Whether the answer is JSON, so that it can be repaired as such."""
        return self.schema is not None


def too_long(length: int) -> Violation:
    return Violation("", f"the answer has {length:,} characters; no more than {MAX_TEXT:,} are checked", "limit")


def refuse(message: str, key: str = "", name: str = "contract", line: int = 0) -> NoReturn:
    """Raise ConfigError with one problem."""
    raise ConfigError([Problem(name or "contract", line, key, message)])


def needs_extra(package: str) -> NoReturn:
    """Raise ConfigError: a package of the extra `contracts` is missing."""
    refuse(f'needs {package}, of the extra "contracts": pip install -e ".[contracts]" in the checkout of Holdfast')


def shortened(text: str, most: int = 200) -> str:
    """Return a text for a message, cut in its middle where it is long."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[-most // 3 :]}"
