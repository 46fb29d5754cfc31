"""The guard that keeps credentials from leaving: they are masked, or the text is blocked."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from holdfast.guards.base import PASS, Context, Finding, Span, Verdict, rewritten
from holdfast.guards.secrets.assigned import assigned, passwords_in_urls
from holdfast.guards.secrets.shapes import tokens

SPAN: Final = 512
"""Characters that tell where a secret starts: no name with its value is longer, and no header of a longer secret."""
_PEM: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?P<body>(?:[A-Za-z0-9+/=\s\\:,.()]++|-(?!----))*+)(?:-----END [A-Z0-9 ]{0,48}-----)?"
)
_LONGEST: Final = 16_384
"""An RSA key of 16,384 bits has 12,700 characters."""
_SHORTEST: Final = 64
_LOOKED_AT: Final = 256
_TELEGRAM: Final = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"
)


class Secrets:
    """Keys and tokens of known providers, private keys, JWTs, passwords in URLs, what is called a password or token.

    Each is rewritten as its kind in brackets, "[GitHub token]", or the text is blocked. `ignore` names kinds that may
    pass.
    """

    def __init__(
        self, name: str = "secrets", *, action: Literal["rewrite", "block"] = "rewrite", ignore: Iterable[str] = ()
    ) -> None:
        self.name = name
        self.span: Span = SPAN
        self._action = action
        self._ignore = frozenset(ignore)

    def check(self, text: str, context: Context) -> Verdict:
        found = _apart(finding for finding in secrets(text) if finding.kind not in self._ignore)
        if not found:
            return PASS
        counts = Counter(finding.kind for finding in found)
        reason = "secrets: " + ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in counts.items())
        score = max(finding.score for finding in found)
        rewrite = rewritten(text, found) if self._action == "rewrite" else None
        return Verdict(self._action, reason, score, rewrite, found)


def secrets(text: str) -> Iterator[Finding]:
    """Yield the secrets in a text, in no order; they may overlap."""
    yield from private_keys(text)
    yield from tokens(text)
    yield from passwords_in_urls(text)
    if ":AA" in text:
        for match in _TELEGRAM.finditer(text):
            yield Finding("Telegram token", match.start(), match.end())
    yield from assigned(text)


def private_keys(text: str) -> Iterator[Finding]:
    """Yield private keys in PEM, whether their end is there or not; a header without a key is none."""
    if "PRIVATE KEY" not in text:
        return
    for match in _PEM.finditer(text):
        body = match["body"][:_LOOKED_AT].strip()
        if len(body) >= _SHORTEST and len(set(body)) >= 12:
            yield Finding("private key", match.start(), min(match.end(), match.start() + _LONGEST))


def _apart(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Put findings in order, those that overlap becoming one of the first one's kind, and say what replaces each."""
    apart: list[Finding] = []
    for found in sorted(findings, key=lambda finding: (finding.start, -finding.end)):
        if apart and found.start < apart[-1].end:
            first = apart.pop()
            start, end, score = first.start, max(first.end, found.end), max(first.score, found.score)
            apart.append(Finding(first.kind, start, end, score, first.replacement))
        else:
            apart.append(Finding(found.kind, found.start, found.end, found.score, f"[{found.kind}]"))
    return tuple(apart)
