"""The guard against injected instructions: normalise, look for signs, ask the classifier."""

import functools
from itertools import chain
from typing import Final

from holdfast.guards.base import PASS, Context, Finding, Span, Verdict
from holdfast.guards.injection import rules
from holdfast.guards.injection.model import Model, Scorer, shipped
from holdfast.guards.injection.units import Unit, units
from holdfast.guards.mapped import Mapped
from holdfast.guards.normal import normal

SIGN_SCORE: Final = 0.99
MOST_FINDINGS: Final = 100


class Injection:
    """Blocks what tries to give a model other orders than its own.

    A text that is not `trusted` was given to be read, so that whatever asks the model for anything there is an attack;
    what the caller says himself is one only if it turns against his own feature. `threshold` and `planted_threshold`
    are the scores from which these are blocked; without them, the model's own, at which its report was made.

    Its report says what it misses: a signal among others, not a wall.
    """

    name = "injection"
    span: Span = "whole"

    def __init__(
        self, *, threshold: float | None = None, planted_threshold: float | None = None, model: Model | None = None
    ) -> None:
        self._model = model
        self._threshold = threshold
        self._planted_threshold = planted_threshold

    def check(self, text: str, context: Context) -> Verdict:
        """Return a block, with the worst score and where it was found, or a pass with the score."""
        seen = normal(text)
        sentences = units(seen.text)
        score, found = self._classified(sentences, seen, trusted=context.trusted)
        for sign in chain(rules.of_units(sentences, seen.text), rules.of_text(seen.text)):
            score = max(score, SIGN_SCORE)
            found.append(Finding(sign.kind, *seen.origin(sign.start, sign.end), SIGN_SCORE))
        if not found:
            return Verdict("pass", score=score) if score else PASS
        found.sort(key=lambda finding: (finding.start, finding.end, finding.kind))
        kinds = ", ".join(sorted({finding.kind for finding in found}))
        return Verdict(
            "block", f"looks like an injected instruction: {kinds}", score, None, tuple(found[:MOST_FINDINGS])
        )

    def _classified(self, sentences: list[Unit], seen: Mapped, *, trusted: bool) -> tuple[float, list[Finding]]:
        scorer, own = (self._direct, self._threshold) if trusted else (self._planted, self._planted_threshold)
        threshold = scorer.threshold if own is None else own
        kind = "attack" if trusted else "planted_request"
        best, found = 0.0, []
        for window in scorer.windows(sentences):
            best = max(best, window.score)
            if window.score >= threshold:
                found.append(Finding(kind, *seen.origin(window.start, window.end), round(window.score, 4)))
        return round(best, 4), found

    @functools.cached_property
    def _direct(self) -> Scorer:
        return Scorer((self._model or shipped()).direct, "direct")

    @functools.cached_property
    def _planted(self) -> Scorer:
        return Scorer((self._model or shipped()).planted, "planted")
