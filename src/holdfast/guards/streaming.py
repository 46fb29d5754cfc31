"""Any guard over a stream: each character is let go as soon as the guard's span allows it, and no sooner.

The law: whatever the chunks, what is let go is the text that the guard would have let pass at once, and nothing is let
go that the guard blocks.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from msgspec.structs import replace

from holdfast.guards.base import Context, Finding, Guard, Verdict, rewritten

LONGEST_SENTENCE = 2_000
"""Characters after which a sentence ends even if nothing ends it: a stream is not held back for ever."""

_END = re.compile(r"[.!?…][\"')\]”’»]{0,3}\s|[。！？]|\n")


class Blocked(Exception):
    """The stream was blocked by a guard."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


def sentences(text: str) -> list[str]:
    """Split a text into its sentences. Joined, they are the text."""
    ends = [0, *_ends(text), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]


def _ends(text: str) -> Iterator[int]:
    """Iterate over the ends of sentences of which it is certain that they end there, whatever follows."""
    start = 0
    for match in _END.finditer(text):
        while match.end() - start > LONGEST_SENTENCE:
            start += LONGEST_SENTENCE
            yield start
        if match.end() > start:
            start = match.end()
            yield start
    while len(text) - start >= LONGEST_SENTENCE:
        start += LONGEST_SENTENCE
        yield start


class Stream:
    """A guard over a text that comes in pieces.

    `verdict` is what it said so far; at the end, its kind and its findings are those of the whole text.
    """

    def __init__(self, guard: Guard, context: Context) -> None:
        self._guard = guard
        self._context = context
        self._seen: list[str] = []
        self._held = ""
        self._before = 0
        """How many characters of `_held` were dealt with already: they are context only."""
        self._offset = 0
        """Where `_held` starts in the whole text."""
        self.verdict = Verdict("pass")

    def feed(self, text: str) -> str:
        """Take the next piece and return what may go now.

        Raises:
            Blocked: nothing more may go; what was returned before is what the guard let pass.
        """
        span = self._guard.span
        if span == "whole":
            self._seen.append(text)
            return ""
        self._held += text
        return self._feed_sentences() if span == "sentence" else self._slide(span)

    def end(self) -> str:
        """Return the rest, once the text has ended.

        Raises:
            Blocked: the rest may not go.
        """
        span = self._guard.span
        if isinstance(span, int):
            return self._slide(0)
        rest = "".join(self._seen) if span == "whole" else self._held
        self._seen, self._held = [], ""
        return self._check(rest) if rest or span == "whole" else ""

    # --- whole pieces ---

    def _feed_sentences(self) -> str:
        ends = list(_ends(self._held))
        if not ends:
            return ""
        done, self._held = self._held[: ends[-1]], self._held[ends[-1] :]
        return "".join(map(self._check, [done[start:end] for start, end in pairwise([0, *ends])]))

    def _check(self, piece: str) -> str:
        verdict = self._guard.check(piece, self._context)
        self._note(verdict, verdict.findings, self._offset)
        self._offset += len(piece)
        return piece if verdict.kind == "pass" or verdict.text is None else verdict.text

    # --- a window that slides ---

    def _slide(self, span: int) -> str:
        """Let go what lies `span` characters before the end, but no part of a finding that reaches beyond."""
        settled = len(self._held) - span
        if settled <= self._before:
            return ""
        verdict = self._guard.check(self._held, self._context)
        findings = [
            replace(found, start=max(found.start, self._before))
            for found in verdict.findings
            if found.end > self._before
        ]
        settled = min([settled, *(found.start for found in findings if found.end > settled)])
        if settled <= self._before:
            return ""
        certain = tuple(found for found in findings if found.end <= settled)
        if certain or not verdict.findings:
            self._note(verdict, certain, self._offset)
        return self._let_go(settled, certain)

    def _let_go(self, settled: int, findings: tuple[Finding, ...]) -> str:
        start = self._before
        moved = [replace(found, start=found.start - start, end=found.end - start) for found in findings]
        released = rewritten(self._held[start:settled], moved)
        span = self._guard.span
        drop = max(settled - span, 0) if isinstance(span, int) else settled
        self._held = self._held[drop:]
        self._offset += drop
        self._before = settled - drop
        return released

    # --- what was said ---

    def _note(self, verdict: Verdict, findings: tuple[Finding, ...], offset: int) -> None:
        so_far = self.verdict
        if verdict.kind != "pass":
            moved = tuple(replace(found, start=found.start + offset, end=found.end + offset) for found in findings)
            scores = [score for score in (so_far.score, verdict.score) if score is not None]
            self.verdict = Verdict(
                verdict.kind, verdict.reason, max(scores, default=None), findings=so_far.findings + moved
            )
        if verdict.kind == "block":
            self._held, self._seen = "", []
            raise Blocked(self.verdict)
