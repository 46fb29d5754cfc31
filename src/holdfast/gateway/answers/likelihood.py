"""How likely each of a closed set of answers is: from the log-probabilities of one answer's tokens, or from counts.

Probabilities are conditional on the answer being one of the choices; what falls outside of them is told beside.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, Literal

import msgspec

from holdfast.chat import Logprob

LEVEL: Final = 0.95
"""The confidence of the interval around a share that was counted."""
MARKS: Final = " \t\r\n\"'`*_.,:;!?“”„‘’«»"
"""What may stand around an answer without changing it."""

_SPACE: Final = re.compile(r"\s+")


class Share(msgspec.Struct, frozen=True):
    """One choice and its probability, which lies between `low` and `high`."""

    choice: str
    probability: float
    low: float
    high: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The probabilities of all choices, which sum to 1.

    `coverage` is the share of the model's answers that is known to be one of the choices, `other` the share that is
    known to be none; what is left is not known. `interval` is how sure the bounds are: 0.95 for those of counts, by
    Wilson's method; 1.0 for those of log-probabilities, which leave room for all that the model did not tell.
    """

    method: Literal["logprobs", "samples"]
    choices: tuple[Share, ...]
    coverage: float
    other: float
    interval: float
    samples: int | None = None
    """How many answers were counted."""

    @property
    def best(self) -> Share:
        """The most probable choice, of several the first."""
        return max(self.choices, key=lambda share: share.probability)


# --- which choice a text is -------------------------------------------------------------------------------------------


class Choices:
    """The answers that may be given. They are recognised as loosely as they stay distinct: in any case and between
    quotes or other marks, in any case, or as they are written but for white space around them."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.texts = tuple(choices)
        for marks, form in ((MARKS, _folded), ("", _folded), ("", _written)):
            self._marks, self._form = marks or None, form
            self._known = [form(choice).strip(self._marks) for choice in choices]
            if all(self._known) and len(set(self._known)) == len(self._known):
                break

    def match(self, text: str) -> int | None:
        """Return the number of the choice that a text is, None for any other text."""
        plain = self._form(text).strip(self._marks)
        return self._known.index(plain) if plain in self._known else None

    def begun(self, text: str) -> tuple[tuple[int, ...], bool]:
        """Return which choices a text may be the beginning of, and whether it is the whole of the only one."""
        head = self._form(text).lstrip(self._marks)
        whole = head.rstrip(self._marks)
        found = tuple(
            [i for i, known in enumerate(self._known) if known.startswith(head) or (whole and known == whole)]
        )
        return found, len(found) == 1 and self._known[found[0]] == whole


def _written(text: str) -> str:
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text))


def _folded(text: str) -> str:
    return _written(_written(text).casefold())


# --- from log-probabilities -------------------------------------------------------------------------------------------


def from_logprobs(choices: Choices, tokens: Sequence[Logprob], text: str, *, enforced: bool) -> Estimate | None:
    """Return the probabilities that the alternatives along one answer's tokens tell.

    The path of the answer is followed until it is the whole of one choice. What leaves it for a choice as a whole, or,
    where the server enforces the choices, for the beginning of one alone, is that choice's. What may still become
    several choices is shared by them, and, like what the model left untold at each token, widens their bounds.

    Args:
        text: the answer that the tokens make up; other tokens may come before it and after.
        enforced: whether the server lets the model say nothing but the choices.

    Returns:
        None where the tokens don't tell the probability of any choice.
    """
    path = _answer(tokens, text.encode("utf-8", "replace"))
    if path is None:
        return None
    weights = _Weights(choices, enforced=enforced)
    weights.follow(path, text)
    return weights.estimate()


class _Weights:
    """Where the probability goes: to one choice, to any of several, or elsewhere. All of it together is 1."""

    def __init__(self, choices: Choices, *, enforced: bool) -> None:
        self._choices = choices
        self._enforced = enforced
        self._certain = [0.0] * len(choices.texts)
        self._shares = [0.0] * len(choices.texts)
        self._open: list[tuple[tuple[int, ...], float]] = []
        self._other = 0.0

    def follow(self, path: Sequence[Logprob], text: str) -> None:
        """Give the probability of each branch of the path to where it leads, and the rest to where the path does."""
        said, rest = b"", 1.0
        for token in path:
            options, hidden = _options(token)
            before, _ = self._begun(said)
            self._open.append((before, hidden * rest))
            chosen = options.pop(_bytes(token))
            for branch, probability in options.items():
                self._branch(said + branch, probability * rest)
            said, rest = said + _bytes(token), rest * chosen
            members, whole = self._begun(said)
            if whole or not members:
                break
        self._end(said, rest, self._choices.match(text))

    def _branch(self, said: bytes, probability: float) -> None:
        members, whole = self._begun(said)
        if whole or (len(members) == 1 and self._enforced):
            self._certain[members[0]] += probability
        elif members:
            self._leave_open(members, probability, members)
        else:
            self._other += probability

    def _end(self, said: bytes, probability: float, found: int | None) -> None:
        """Give what is left to the answer that was given, as far as no other begins as it does."""
        members, whole = self._begun(said)
        if found is None:
            self._other += probability
        elif whole:
            self._certain[members[0]] += probability
        else:
            self._leave_open(tuple({*members, found}), probability, (found,))

    def _leave_open(self, members: tuple[int, ...], probability: float, likely: tuple[int, ...]) -> None:
        self._open.append((members, probability))
        for member in likely:
            self._shares[member] += probability / len(likely)

    def _begun(self, said: bytes) -> tuple[tuple[int, ...], bool]:
        return self._choices.begun(said.decode("utf-8", "ignore"))

    def estimate(self) -> Estimate | None:
        known, guessed = sum(self._certain), sum(self._certain) + sum(self._shares)
        if guessed <= 0.0:
            return None
        shares = []
        for i, choice in enumerate(self._choices.texts):
            mine, probability = self._certain[i], min(1.0, (self._certain[i] + self._shares[i]) / guessed)
            gained = sum([mass for members, mass in self._open if i in members])
            lost = sum([mass for members, mass in self._open if any(member != i for member in members)])
            low = mine / (known + lost) if known + lost else 0.0
            high = (mine + gained) / (known + gained) if known + gained else 0.0
            shares.append(Share(choice, probability, min(low, probability), min(1.0, max(high, probability))))
        return Estimate(
            method="logprobs",
            choices=tuple(shares),
            coverage=min(1.0, known),
            other=min(1.0, self._other),
            interval=1.0,
        )


def _answer(tokens: Sequence[Logprob], text: bytes) -> Sequence[Logprob] | None:
    """Return the tokens from the one on in which the answer begins, None if it is not there."""
    start = b"".join([_bytes(token) for token in tokens]).rfind(text) if text else -1
    if start < 0:
        return None
    at = 0
    for number, token in enumerate(tokens):
        at += len(_bytes(token))
        if at > start:
            return tokens[number:]
    return None


def _options(token: Logprob) -> tuple[dict[bytes, float], float]:
    """Return the probability of each alternative at a place, the chosen one among them, and what is left untold."""
    options: dict[bytes, float] = {}
    for one in (*token.top, token):
        options.setdefault(_bytes(one), _probability(one))
    total = sum(options.values())
    if total > 1.0:
        options = {key: value / total for key, value in options.items()}
    return options, max(0.0, 1.0 - total)


def _bytes(token: Logprob) -> bytes:
    return bytes(token.bytes) if token.bytes is not None else token.token.encode("utf-8", "replace")


def _probability(token: Logprob) -> float:
    return math.exp(min(0.0, token.logprob)) if token.logprob == token.logprob else 0.0


# --- from counts ------------------------------------------------------------------------------------------------------


def from_counts(choices: Choices, counts: Sequence[int], others: int) -> Estimate:
    """Return the probabilities that so many answers of each choice, and so many others, tell. At least one counts."""
    inside = sum(counts)
    shares = [Share(choice, n / inside, *wilson(n, inside)) for choice, n in zip(choices.texts, counts, strict=True)]
    return Estimate(
        method="samples",
        choices=tuple(shares),
        coverage=inside / (inside + others),
        other=others / (inside + others),
        interval=LEVEL,
        samples=inside + others,
    )


def wilson(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval in which a share lies of which `successes` of `trials` were seen.

    The score interval (E. B. Wilson, JASA 22, 1927, 209-212), which L. D. Brown, T. T. Cai and A. DasGupta recommend
    for few trials (Statistical Science 16, 2001, 101-133).

    >>> [round(bound, 4) for bound in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    z, share = NormalDist().inv_cdf((1 + level) / 2), successes / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
