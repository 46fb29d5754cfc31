"""A feature's prompt: a text with places that the caller's variables fill."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from holdfast.chat import Message, Text
from holdfast.errors import InvalidRequest

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_LOOKALIKE = re.compile(r"\{\{([^{}\n\"]*)\}\}")
"""Double braces in a line, around anything that JSON would not have there: what has quotes is meant as it stands."""


def not_places(text: str) -> Iterator[tuple[int, str]]:
    """Find what looks like a place for a variable and is none, such as `{{ first-name }}`: its line, and how it stands.

    >>> list(not_places('Hello {{ first-name }},\\nanswer as {{"reply": "..."}}'))
    [(1, '{{ first-name }}')]
    """
    for found in _LOOKALIKE.finditer(text):
        if not _PLACE.fullmatch(found[0]):
            yield text.count("\n", 0, found.start()) + 1, found[0]


class Prompt(msgspec.Struct, frozen=True):
    """The text of a prompt file. `{{ name }}` is replaced by the variable `name`; all else stands as it is."""

    text: str

    @property
    def variables(self) -> frozenset[str]:
        """The names that a call must fill."""
        return frozenset(_PLACE.findall(self.text))

    def render(self, variables: Mapping[str, str]) -> Message:
        """Return the system message. Values are inserted as they are, never read as a template themselves.

        Raises:
            InvalidRequest: naming a variable that is missing.
        """

        def fill(place: re.Match[str]) -> str:
            name = place[1]
            if name not in variables:
                raise InvalidRequest(
                    f"The prompt of this feature needs the variable {name!r}: send it in "
                    f'{{"holdfast": {{"variables": {{"{name}": "..."}}}}}}.',
                    param=f"holdfast.variables.{name}",
                )
            return variables[name]

        return Message(role="system", parts=(Text(text=_PLACE.sub(fill, self.text)),))
