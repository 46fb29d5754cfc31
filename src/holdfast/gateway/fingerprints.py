"""What providers say they serve under a model's name, and when that changes."""

from collections import OrderedDict
from typing import Final

from holdfast.clock import Clock
from holdfast.events import FingerprintChanged

REMEMBERED: Final = 8
"""How many kinds of answers of a model are not news: providers spread calls over machines that differ a little."""

Told = tuple[str | None, str | None]
"""The served name and the fingerprint, as far as a provider tells them."""


class Fingerprints:
    """Notices when a provider begins to serve a model under another name or fingerprint."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, Told] = {}
        self._known: dict[str, OrderedDict[Told, None]] = {}

    def seen(
        self, model: str, provider: str, served_model: str | None, fingerprint: str | None
    ) -> FingerprintChanged | None:
        """Take note of what an answer told. Return the event if no recent answer of the model told the same.

        What one answer leaves open contradicts no other, and the first answer of a model is no change.
        """
        told = (served_model, fingerprint)
        if self._last.get(model) == told:
            return None
        return self._compare(model, provider, told)

    def _compare(self, model: str, provider: str, told: Told) -> FingerprintChanged | None:
        if told == (None, None):
            return None
        known = self._known.setdefault(model, OrderedDict())
        before, self._last[model] = self._last.get(model), told
        agreed = any(_agree(told, other) for other in known)
        known[told] = None
        known.move_to_end(told)
        if len(known) > REMEMBERED:
            known.popitem(last=False)
        if before is None or agreed:
            return None
        at_us = int(self._clock.now() * 1e6 + 0.5)
        return FingerprintChanged(
            at_us=at_us, model=model, provider=provider, before=_words(before), after=_words(told)
        )


def _agree(one: Told, other: Told) -> bool:
    """Whether two answers may be of the same model, by what both tell."""
    return all(a == b or a is None or b is None for a, b in zip(one, other, strict=True))


def _words(told: Told) -> str:
    return " ".join(word for word in told if word)
