"""A feature's prompt: a text with places that the caller's variables fill."""

import re
from collections.abc import Mapping

import msgspec

from holdfast.chat import Message, Text
from holdfast.errors import InvalidRequest

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


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
