"""Regular expressions, in the dialect of JSON Schema (ECMA-262), matched in time linear in the text.

Look-around and back-references can't be matched so, and are refused. Linear still means the size of the text times that
of the automaton, in the worst case, so both are bounded.
"""

import re
from typing import Any, Final

from holdfast.contracts.base import needs_extra, refuse, shortened

MAX_WORK: Final = 50_000_000
"""The most that one check may cost, in units of about 3 ns for each character: 0.2 s."""
MAX_PATTERN: Final = 8_192
"""The longest pattern, in characters."""
_TOTAL_BYTES: Final = 16 * 2**20
_MAX_BYTES: Final = 2**20
_COST_OF_STATE: Final = 5
_MOST: Final = 10**9
_CLASS: Final = r"\[\^?(?:\\.|[^\]\\])*+(?:\]|\\?\Z)"
_COUNTED: Final = r"\{(\d*+),?(\d*+)\}"
_GROUP: Final = r"\(\?<?[^>:)]{0,64}[>:]"
_TOKEN: Final = re.compile(rf"\\[pP]\{{[^}}]{{0,64}}\}}|\\.|{_CLASS}|{_COUNTED}|{_GROUP}|.", re.DOTALL)


class Pattern:
    """A regular expression that a whole text matches or not."""

    __slots__ = ("_cost", "_validator", "source")

    def __init__(self, source: str, *, name: str = "contract", key: str = "pattern") -> None:
        """Raise ConfigError if it is no regular expression that is matched in linear time."""
        rust = library()
        if len(source) > MAX_PATTERN:
            refuse(f"a pattern is longer than {MAX_PATTERN:,} characters", key, name)
        self.source = source
        self._cost = cost(source)
        try:
            for written in (
                source,
                f"^(?:{source})$",
            ):  # alone first: "a)|(b" must not become valid by what is around it
                self._validator = rust.Draft202012Validator({"pattern": written}, pattern_options=options(rust))
        except (rust.ValidationError, ValueError) as error:
            refuse(reason(getattr(error, "message", str(error))), key, name)

    def affords(self, length: int) -> bool:
        """Return whether a text of so many characters is matched in bounded time."""
        return self._cost * length <= MAX_WORK

    def matches(self, text: str) -> bool:
        try:
            return bool(self._validator.is_valid(text))
        except ValueError:  # half of a surrogate pair
            return False


def library() -> Any:
    """Import the JSON Schema validator, whose regular expressions these are. Raises ConfigError where it is missing."""
    try:
        import jsonschema_rs
    except ImportError:
        needs_extra("jsonschema-rs")
    return jsonschema_rs


def options(rust: Any, patterns: int = 1) -> Any:
    """Return the options of an engine whose time is linear, and whose memory is shared among so many patterns."""
    size = min(_TOTAL_BYTES // max(patterns, 1), _MAX_BYTES)
    return rust.RegexOptions(size_limit=size, dfa_size_limit=size)


def reason(message: str) -> str:
    """Return what is wrong with a pattern, from what the validator says of it."""
    first = shortened(message.partition("\n")[0])
    if first.endswith('is not a "regex"'):
        return f"{first} that is matched in linear time: look-around, back-references and very large ones are not"
    return first


def cost(pattern: str) -> int:
    """Return what matching a character may cost: the states of the automaton, counted repetitions written out."""
    groups = [[0, 0]]  # the size so far, and of its last item, of each open group
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(" or text.startswith("(?"):
            groups.append([1, 0])
        elif text == ")" and len(groups) > 1:
            _append(groups[-2], sum(groups.pop()))
        elif text[0] == "{" and (times := token[2] or token[1]):
            groups[-1][1] = min(groups[-1][1] * max(int(times[:9]), 1), _MOST)
        elif text not in "*+?|^$":
            _append(groups[-1], 20 if text[:2] in {r"\p", r"\P"} else 1)
    return min(_COST_OF_STATE * sum(map(sum, groups)) + 1, _MOST)


def _append(group: list[int], size: int) -> None:
    group[0] = min(group[0] + group[1], _MOST)
    group[1] = size
