"""Conditions on a whole answer or on single fields: lengths, phrases, patterns, predicates."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

from holdfast.contracts.base import Condition, Violation, refuse, shortened
from holdfast.contracts.forms.patterns import Pattern
from holdfast.contracts.forms.text import unmatched
from holdfast.pointers import NOWHERE, at, step

Unit = Literal["characters", "words", "tokens"]
Count = Callable[[str], int]
Phrase = Literal["stops_at", "stops_before", "includes"]

BYTES_PER_TOKEN: Final = 4


def approximate_tokens(text: str) -> int:
    """Return about how many tokens a text has: a quarter of its bytes in UTF-8, rounded up."""
    return math.ceil(len(text.encode(errors="surrogatepass")) / BYTES_PER_TOKEN)


def count_words(text: str) -> int:
    """Return how many words a text has: what white space separates."""
    return len(text.split())


_COUNTS: Final[dict[Unit, Count]] = {"characters": len, "words": count_words, "tokens": approximate_tokens}


class Length:
    """How long a text may be. It says nothing of other values, whose length is a matter of the schema."""

    __slots__ = ("_count", "_min", "is_usual", "max", "unit")

    def __init__(
        self, unit: Unit, *, min: int = 0, max: int | None = None, count: Count | None = None, name: str = "contract"
    ) -> None:
        """Count tokens with `count`, or by approximation. Raise ConfigError if no length could be right."""
        if min < 0 or (max is not None and max < min):
            refuse(f"expected 0 <= min <= max, got {min} and {max}", unit, name)
        self.unit: Unit = unit
        self._min, self.max = min, max
        self._count = count or _COUNTS[unit]
        self.is_usual = count is None
        """Whether it counts as the functions here do."""

    @property
    def rule(self) -> str:
        """What it asks for, to tell a model."""
        most = None if self.max is None else f"at most {self.max:,}"
        least = f"at least {self._min:,}" if self._min else None
        return f"it has {' and '.join(filter(None, (least, most)))} {self.unit}" if least or most else ""

    def violations(self, text: str, data: Any) -> Iterator[Violation]:
        if not isinstance(data, str):
            return
        try:
            length = self._count(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (a function of the application, which must not end the process)
            yield Violation("", f"counting its {self.unit} failed: {_told(error)}", self.unit)
            return
        if length < self._min:
            yield Violation("", f"it has {length:,} {self.unit}, fewer than {self._min:,}", self.unit)
        if self.max is not None and length > self.max:
            yield Violation("", f"it has {length:,} {self.unit}, more than {self.max:,}", self.unit)


class Phrases:
    """What a text must not go on after (`stops_at`), must not hold (`stops_before`), or must hold (`includes`)."""

    __slots__ = ("keyword", "phrases")

    def __init__(self, keyword: Phrase, phrases: Sequence[str], *, name: str = "contract") -> None:
        """Raise ConfigError for an empty phrase."""
        if not all(phrases):
            refuse("expected phrases, none of them empty", keyword, name)
        self.keyword: Phrase = keyword
        self.phrases = tuple(phrases)

    @property
    def rule(self) -> str:
        """What it asks for, to tell a model."""
        asked = {"includes": "holds", "stops_before": "does not hold", "stops_at": "ends with, or does not hold,"}
        told = ", ".join(json.dumps(shortened(phrase), ensure_ascii=False) for phrase in self.phrases)
        return f"it {asked[self.keyword]} {told}"

    def violations(self, text: str, data: Any) -> Iterator[Violation]:
        if not isinstance(data, str):
            return
        for phrase in self.phrases:
            if wrong := self._wrong(data, phrase):
                yield Violation("", f"{wrong} {json.dumps(shortened(phrase), ensure_ascii=False)}", self.keyword)

    def _wrong(self, text: str, phrase: str) -> str | None:
        at = text.find(phrase)
        if self.keyword == "includes":
            return "it does not hold" if at < 0 else None
        if self.keyword == "stops_before":
            return "it holds" if at >= 0 else None
        return "it goes on after" if 0 <= at < len(text) - len(phrase) else None


class Matches:
    """A pattern that a text matches from its start to its end."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str, *, name: str = "contract") -> None:
        """Raise ConfigError as Pattern does."""
        self._pattern = Pattern(pattern, name=name)

    @property
    def rule(self) -> str:
        """What it asks for, to tell a model."""
        return f"it matches the regular expression {self._pattern.source} from start to end"

    def violations(self, text: str, data: Any) -> Iterator[Violation]:
        if isinstance(data, str) and (violation := unmatched("", data, self._pattern)):
            yield violation


class OnText:
    """A condition on the text of the whole answer as it was written, also where it is JSON."""

    __slots__ = ("condition",)

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    @property
    def rule(self) -> str:
        """What it asks for, to tell a model."""
        return getattr(self.condition, "rule", "")

    def violations(self, text: str, data: Any) -> Iterator[Violation]:
        return self.condition.violations(text, text)


class AtField:
    """A condition on single fields. What isn't there is left to the schema."""

    __slots__ = ("_condition", "field")

    def __init__(self, field: str, condition: Condition, *, name: str = "contract") -> None:
        """Take a JSON pointer, in which `*` stands for every item or key. Raise ConfigError if it is none."""
        self.field = parse_field(field, name)
        """Its steps."""
        self._condition = condition

    @property
    def rule(self) -> str:
        """What it asks for, to tell a model."""
        rule = getattr(self._condition, "rule", "")
        return rule and f"of /{'/'.join(self.field)}: {rule}"

    def violations(self, text: str, data: Any) -> Iterator[Violation]:
        for path, value in select(data, self.field):
            for found in self._condition.violations(text, value):
                yield Violation(path + found.path, found.message, found.keyword)


def parse_field(field: str, name: str = "contract") -> tuple[str, ...]:
    """Return the steps of a JSON pointer. Raise ConfigError if it is none."""
    if not field.startswith("/"):
        refuse(f'expected a JSON pointer such as "/items/*/price", got {json.dumps(field)}', "fields", name)
    return tuple(field.split("/")[1:])


def select(value: Any, steps: tuple[str, ...], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is at a JSON pointer, with where it is."""
    if not steps:
        yield path, value
        return
    first, rest = steps[0], steps[1:]
    if first == "*" and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from select(item, rest, f"{path}/{step(key)}")
    elif (item := at(value, f"/{first}")) is not NOWHERE:
        yield from select(item, rest, f"{path}/{first}")


def _told(error: BaseException) -> str:
    return shortened(f"{type(error).__name__}: {error}".strip(": "))
