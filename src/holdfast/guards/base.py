"""What a guard is: it sees a text and says whether it may pass, must change or is blocked."""

from collections.abc import Iterable
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

Kind = Literal["pass", "rewrite", "block"]
Direction = Literal["input", "output"]
Span = int | Literal["sentence", "whole"]
"""How much of a stream a guard must see before it can let a character go.

`n` characters: whether a character belongs to a finding depends on no more than the `n` characters to either side of
it, any finding decides (a text without one passes), and each that is rewritten says what replaces it. "sentence": what
it says of a text is what it says of its sentences, one by one (see `streaming.sentences`). "whole": it must see all of
the answer, so the stream is held back.
"""


class Finding(Struct, frozen=True, gc=False):
    """What a guard saw at `text[start:end]`, and how sure it is, from 0 to 1.

    `replacement` is what a rewrite puts in its place; None leaves it.
    """

    kind: str
    start: int
    end: int
    score: float = 1.0
    replacement: str | None = None


class Verdict(Struct, frozen=True):
    """What a guard says of a text.

    `text` is the whole of it rewritten, in a rewrite. `reason` is for people and is logged: it names kinds and counts,
    and never quotes what was found. Findings point into the text that was checked, in order of their start.
    """

    kind: Kind
    reason: str = ""
    score: float | None = None
    text: str | None = None
    findings: tuple[Finding, ...] = ()


PASS = Verdict("pass")


def rewritten(text: str, findings: Iterable[Finding]) -> str:
    """Return the text with each finding replaced. They are in order and don't overlap."""
    parts, at = [], 0
    for finding in findings:
        if finding.replacement is not None:
            parts += [text[at : finding.start], finding.replacement]
            at = finding.end
    return "".join([*parts, text[at:]])


class Context(Struct, frozen=True):
    """Where a text comes from.

    `session` is whose conversation it is. A text is `trusted` unless somebody else wrote it: a passage, the result of
    a tool. `prompt` is the system prompt, `canaries` are words that no answer may contain, because only an injected
    instruction would bring them there.
    """

    direction: Direction = "input"
    session: str = ""
    trusted: bool = True
    prompt: str = ""
    canaries: tuple[str, ...] = ()


@runtime_checkable
class Guard(Protocol):
    """A check on what goes in or comes out: pure, deterministic, in time linear in the length of the text."""

    @property
    def name(self) -> str: ...

    @property
    def span(self) -> Span: ...

    def check(self, text: str, context: Context) -> Verdict: ...
