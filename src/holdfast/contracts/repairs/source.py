"""A text that holds JSON with mistakes, and what is known of all of it."""

import re
from functools import cached_property

from holdfast.contracts.ledger import Reason

MAX_STEPS = 100_000
"""Values, repairs, quotes and escapes that are looked at: some hundred milliseconds."""

_FOREIGN_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}|([A-Za-z()\[\]{}]))')
_COMMAND = re.compile(
    r"(?:bar|begin|beta|big|binom|bmod|boldsymbol|bot|boxed|bullet|flat|forall|frac|nabla|ne|neq|nmid|not|notin|nu|"
    r"rangle|rceil|rfloor|rho|right|rightarrow|tan|tanh|tau|text|textbf|textit|tfrac|theta|tilde|times|to|top|"
    r"triangle)(?![A-Za-z])"
)
"""Commands of LaTeX that begin like an escape of JSON."""
_PATH = re.compile(r"(?<![A-Za-z])[A-Za-z]:\\[^\s\"']*$")


class Broken(Exception):
    """A value can't be read. `reason` and `offset` as in a refusal."""

    def __init__(self, reason: Reason, offset: int, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.offset = offset
        self.message = message


class Source:
    """A text under repair. What readers of its values take is counted together."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps = 0

    def step(self, at: int) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Broken("too_many", at, f"reading it takes more than {MAX_STEPS:,} steps")

    def is_foreign(self, at: int) -> bool:
        """Whether an escape of JSON is none here: it begins a command of LaTeX, or stands in a path of Windows."""
        looks = _COMMAND.match(self.text, at + 1) or _PATH.search(self.text[max(0, at - 200) : at])
        return bool(looks) and self._has_foreign_escapes

    @cached_property
    def _has_foreign_escapes(self) -> bool:
        """Whether the text has backslashes that JSON can't mean, so that \\times is no tab and "imes"."""
        return any(match[1] for match in _FOREIGN_ESCAPE.finditer(self.text))
