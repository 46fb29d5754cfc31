"""What may be talked about: lists of words and phrases, and regular expressions.

Phrases are compared word by word, whatever the case, the punctuation and the way that characters are written. Patterns
are matched by the engine of the extra `contracts`, whose time is linear in the text whatever the pattern: Python's own
is not, and no check of a pattern tells the harmless ones without refusing most. That engine says whether a pattern
matches and not where, so patterns block.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from holdfast.guards.base import PASS, Context, Finding, Span, Verdict, rewritten
from holdfast.guards.phrases import Pattern, Phrases, spared
from holdfast.guards.words import places, words

SPAN: Final = 512
"""The longest that a phrase may be in a text, whatever stands between its words."""
_SHOWN: Final = 100
"""The most findings of a text that is blocked by the first."""


class Topics:
    """Blocks or masks what lists deny, or blocks what mentions nothing that a list allows.

    - `deny`: phrases that may not occur, save within one of `spare`: "shoot" is denied, "photo shoot" spared;
    - `patterns`: regular expressions in the dialect of JSON Schema that may match nowhere;
    - `allow`: phrases of which one must occur.
    """

    def __init__(
        self,
        name: str = "topics",
        *,
        deny: Iterable[str] = (),
        spare: Iterable[str] = (),
        allow: Iterable[str] = (),
        patterns: Iterable[str] = (),
        action: Literal["rewrite", "block"] = "block",
    ) -> None:
        """Raise ValueError if a phrase has no words or too many, a pattern can't be matched in linear time or can't be
        rewritten, or nothing could ever be blocked."""
        self.name = name
        self._deny, self._spare, self._allow = Phrases(deny), Phrases(spare), Phrases(allow)
        self._patterns = [Pattern(source) for source in patterns]
        self._action = action
        if not (self._deny or self._allow or self._patterns):
            raise ValueError("nothing is denied and nothing is allowed: name phrases in deny or in allow, or patterns")
        if action == "rewrite" and (self._patterns or self._allow):
            raise ValueError('action = "rewrite" masks phrases in deny only: patterns and allow can only block')
        self.span: Span = "whole" if self._allow or self._patterns else SPAN

    def check(self, text: str, context: Context) -> Verdict:
        found = words(text)
        if self._allow and found and next(self._allow.find(found), None) is None:
            return Verdict("block", "nothing is mentioned that is allowed", 1.0, findings=_whole("off topic", text))
        for number, pattern in enumerate(self._patterns, 1):
            if pattern.matches(text):
                return Verdict("block", f"pattern {number} matches", 1.0, findings=_whole(f"pattern {number}", text))
        findings = tuple(self._denied(text, found))
        if not findings:
            return PASS
        rewrite = rewritten(text, findings) if self._action == "rewrite" else None
        times = "1 denied phrase" if len(findings) == 1 else f"{len(findings)} denied phrases"
        return Verdict(self._action, times, 1.0, rewrite, findings)

    def _denied(self, text: str, found: Sequence[str]) -> Iterator[Finding]:
        hits = list(self._deny.find(found))
        if not hits:
            return
        hits = spared(hits, self._spare.find(found))
        if self._action == "block":
            hits = hits[:_SHOWN]
        where = places(text, {index for start, end in hits for index in (start, end - 1)})
        done = 0
        for start, end in hits:
            low, high = max(where[start][0], done), where[end - 1][1]
            if done < high <= where[start][0] + SPAN:
                yield Finding("denied phrase", low, high, replacement="[removed]")
                done = high


def _whole(kind: str, text: str) -> tuple[Finding, ...]:
    return (Finding(kind, 0, len(text)),)
