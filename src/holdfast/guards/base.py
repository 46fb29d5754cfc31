"""What a guard is: it sees a text and says whether it may pass, must change or is blocked."""

from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

Kind = Literal["pass", "rewrite", "block"]
Direction = Literal["input", "output"]
Span = int | Literal["sentence", "whole"]
"""How much of a stream a guard must see before it can let a character go.

`n` characters: whatever it finds is at most `n` characters long, and what it says of a place depends on no more than
the `n` characters to either side. "sentence": what it says of a text is what it says of its sentences, one by one.
"whole": it must see all of the answer, so the stream is held back.
"""


class Finding(Struct, frozen=True, gc=False):
    """What a guard saw at `text[start:end]`, and how sure it is, from 0 to 1."""

    kind: str
    start: int
    end: int
    score: float = 1.0


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
