"""Where a broken answer is joined to the one that takes over, so that together they read as one. No I/O."""

from typing import Final

_TELLING: Final = 24
"""Characters that no answer repeats from its own beginning by chance."""


class Seam:
    """Joins what was sent of a broken answer with the answer of the model that takes over.

    A model that `continues` is given `prefill` and goes on after it. White space that was sent is swallowed, once.
    Should the model begin with the whole prefill again, because it `repeats` that by habit, or because it took no
    notice of it (which shows when the prefill is long enough to tell), then that is swallowed as well.

    Another model is asked afresh. What repeats `sent` is swallowed; where it departs from it the answers have
    `diverged`, and nothing more is passed on.

    What was sent and what was passed on are together, at every moment, the beginning of the joined answer.

    >>> seam = Seam("Kelp holds ", continues=True)
    >>> seam.prefill, seam.feed(" on"), seam.feed(" tight."), seam.end()
    ('Kelp holds', 'on', ' tight.', '')
    >>> seam = Seam("Kelp holds ", continues=False)
    >>> seam.feed("Kelp h"), seam.feed("olds on"), seam.end(), seam.diverged
    ('', 'on', '', False)
    """

    __slots__ = ("_at", "_expected", "_may_depart", "_space", "diverged", "prefill")

    def __init__(self, sent: str, continues: bool, *, repeats: bool = False) -> None:
        self.prefill = sent.rstrip()
        """What a model that continues is given: what was sent, without the white space at its end."""
        self.diverged = False
        """Whether this answer can't be joined to what was sent."""
        self._expected, self._space, self._at = sent, "", 0
        if continues:
            self._expected = self.prefill if repeats or len(self.prefill) >= _TELLING else ""
            self._space = sent[len(self.prefill) :]
        self._may_depart = continues

    def feed(self, text: str) -> str:
        """Return what may be passed on now."""
        if self._expected:
            text = self._swallow(text)
        if self._space and text:
            text = self._swallow_space(text)
        return text if not self.diverged else ""

    def end(self) -> str:
        """Return what is left when the answer is whole. An answer that ends before what was sent has diverged."""
        if not self._expected:
            return ""
        if not self._may_depart:
            self.diverged = True
            return ""
        text = self._give_back("")
        return self._swallow_space(text) if self._space else text

    def _swallow(self, text: str) -> str:
        """Swallow what repeats the expected beginning, and return what comes after it."""
        expected, at = self._expected, self._at
        rest = len(expected) - at
        if len(text) < rest and expected.startswith(text, at):
            self._at += len(text)
            return ""
        if text.startswith(expected[at:]):
            self._expected = ""
            return text[rest:]
        if self._may_depart:
            return self._give_back(text)
        self.diverged = True
        return ""

    def _give_back(self, text: str) -> str:
        """Return what was held back in vain, with what follows it: the model does go on."""
        held, self._expected = self._expected[: self._at], ""
        return held + text

    def _swallow_space(self, text: str) -> str:
        """Swallow the white space that was sent already, as far as the model says the same again."""
        space = self._space
        if space.startswith(text):
            self._space = space[len(text) :]
            return ""
        same = next((i for i, (a, b) in enumerate(zip(space, text, strict=False)) if a != b), len(space))
        self._space = ""
        return text[same:]
