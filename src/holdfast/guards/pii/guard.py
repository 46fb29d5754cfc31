"""The guard of personal data: it hides, masks or blocks it."""

from collections import Counter
from collections.abc import Collection
from typing import Literal

from msgspec.structs import replace

from holdfast.guards.base import PASS, Context, Finding, Span, Verdict, rewritten
from holdfast.guards.pii import detect
from holdfast.guards.pii.standins import Standins

Action = Literal["restore", "mask", "block"]


class PersonalData:
    """Acts on personal data of some kinds.

    "mask" puts the name of its kind in its place. "restore" puts stand-ins there; what restores an answer comes from
    `Standins.hide_all`, with the same key and session. Findings below `least` are let pass.
    """

    name = "pii"
    span: Span = detect.SPAN

    def __init__(
        self, action: Action, kinds: Collection[str] = detect.KINDS, *, key: bytes = b"", least: float = 0.0
    ) -> None:
        if unknown := sorted(set(kinds) - set(detect.KINDS)):
            raise ValueError(f"unknown kinds of personal data: {', '.join(unknown)}; known: {', '.join(detect.KINDS)}")
        if action == "restore" and not key:
            raise ValueError("stand-ins need a key")
        self._action = action
        self._kinds = frozenset(kinds)
        self._key = key
        self._least = least

    def check(self, text: str, context: Context) -> Verdict:
        found = tuple(
            finding for finding in detect.find(text) if finding.kind in self._kinds and finding.score >= self._least
        )
        if not found:
            return PASS
        score = max(finding.score for finding in found)
        if self._action == "block":
            return Verdict("block", _reason(found), score, findings=found)
        if self._action == "mask":
            found = tuple(replace(finding, replacement=f"[{finding.kind}]") for finding in found)
            return Verdict("rewrite", _reason(found), score, rewritten(text, found), found)
        hidden, _ = Standins(self._key, context.session, self._kinds).hide(text)
        return Verdict("rewrite", _reason(found), score, hidden, found)


def _reason(found: tuple[Finding, ...]) -> str:
    counts = Counter(finding.kind for finding in found)
    return "personal data: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
