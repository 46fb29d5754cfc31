"""Answers that are text: any, one of a few choices, or what a regular expression describes."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from holdfast.contracts.base import Constraint, Violation, refuse, shortened
from holdfast.contracts.forms.patterns import Pattern

Read = tuple[Any, Any, tuple[Violation, ...]]


class AnyText:
    """Any text, for conditions to say more."""

    __slots__ = ()
    constraint: Constraint | None = None

    def read(self, text: str) -> Read:
        return text, text, ()


class PatternForm:
    """A text that matches a regular expression from its start to its end."""

    __slots__ = ("_pattern", "constraint")

    def __init__(self, pattern: str, *, name: str = "contract") -> None:
        """Raise ConfigError if it is no regular expression that is matched in linear time."""
        self._pattern = Pattern(pattern, name=name)
        self.constraint: Constraint | None = Constraint("pattern", pattern)

    def read(self, text: str) -> Read:
        violation = unmatched("", text, self._pattern)
        return (None, None, (violation,)) if violation else (text, text, ())


class ChoiceForm:
    """A text that is one of a few, to the letter."""

    __slots__ = ("_choices", "constraint")

    def __init__(self, choices: Sequence[str], *, name: str = "contract") -> None:
        """Raise ConfigError if there is no choice, or one twice."""
        if not choices or not all(choices):
            refuse("expected one text or more, none of them empty", "choice", name)
        if len(set(choices)) != len(choices):
            refuse("a choice stands there twice", "choice", name)
        self._choices = frozenset(choices)
        self.constraint: Constraint | None = Constraint("choice", tuple(choices))

    def read(self, text: str) -> Read:
        if text in self._choices:
            return text, text, ()
        return None, None, (Violation("", self._told(text), "choice"),)

    def _told(self, text: str) -> str:
        told = [json.dumps(choice, ensure_ascii=False) for choice in sorted(self._choices)[:20]]
        more = ", …" if len(self._choices) > len(told) else ""
        near = (
            get_close_matches(text.strip(), self._choices, n=1) if len(text) < 200 and len(self._choices) < 200 else ()
        )
        hint = f"; nearest is {json.dumps(near[0], ensure_ascii=False)}" if near else ""
        return f"{json.dumps(shortened(text), ensure_ascii=False)} is none of {', '.join(told)}{more}{hint}"


def unmatched(path: str, text: str, pattern: Pattern) -> Violation | None:
    """Return how a text fails a pattern, None if it matches."""
    if not pattern.affords(len(text)):
        return Violation(path, "too long for its pattern to be checked", "limit")
    if pattern.matches(text):
        return None
    shown = json.dumps(shortened(text), ensure_ascii=False)
    return Violation(path, f"{shown} does not match {shortened(pattern.source)} from its start to its end", "pattern")
