"""The classifier: logistic regression over the words, pairs of words and matters of a sentence, and of two in a row."""

import functools
import gzip
import math
from collections.abc import Iterator
from importlib.resources import files
from itertools import combinations, pairwise, repeat
from typing import Any, Literal

import msgspec
from msgspec import Struct

from holdfast.guards.injection.units import Unit

Head = Literal["direct", "planted"]
"""What is asked: whether a text attacks whoever sends it, or whether it asks for anything at all, as a text that was
given to be read should not."""


class Weights(Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of stems ("ignore"), of pairs in a row ("ignore previo"), of sets of concepts ("forget+orders").

    `threshold` is the score from which a text is flagged.
    """

    bias: float
    words: dict[str, float]
    pairs: dict[str, float]
    concepts: dict[str, float]
    threshold: float = 0.5


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """What was trained, and the report of its training."""

    direct: Weights
    planted: Weights
    report: dict[str, Any]

    @classmethod
    def decode(cls, raw: bytes) -> "Model":
        """Raise ValueError if `raw` is not a model."""
        try:
            return msgspec.json.decode(gzip.decompress(raw), type=cls)
        except (msgspec.MsgspecError, OSError, EOFError) as error:
            raise ValueError(f"not a trained model: {error}") from error

    def encode(self) -> bytes:
        return gzip.compress(msgspec.json.encode(self, order="deterministic"), 9, mtime=0)


@functools.cache
def shipped() -> Model:
    """Return the model that comes with the package."""
    return Model.decode((files(__package__) / "model.json.gz").read_bytes())


class Scored(Struct, frozen=True, gc=False):
    """A score from 0 to 1 of `text[start:end]`."""

    start: int
    end: int
    score: float


class Scorer:
    """Scores sentences by the weights of one head."""

    def __init__(self, weights: Weights, head: Head) -> None:
        self._every = head == "planted"
        self.threshold = weights.threshold
        self._bias = weights.bias
        self._words = weights.words.get
        self._pairs = {tuple(pair.split(" ")): weight for pair, weight in weights.pairs.items()}.get
        self._concepts = functools.lru_cache(4096)(functools.partial(concept_score, weights.concepts))

    def windows(self, units: list[Unit]) -> Iterator[Scored]:
        """Score each sentence, and each with the one after it.

        A sentence about nothing in the lexicon attacks nobody, so only where requests of all kinds are looked for, it
        is scored, too.
        """
        words, pairs, concepts, bias, zero = self._words, self._pairs, self._concepts, self._bias, repeat(0.0)
        before, before_words, before_length = None, 0.0, 0
        for unit in units:
            if not unit.concepts and not self._every:
                before = None
                continue
            stems = unit.stems
            length = len(stems)
            of_words = sum(map(words, stems, zero)) + sum(map(pairs, pairwise(stems), zero))
            score = bias + concepts(unit.concepts) + of_words / math.sqrt(length or 1)
            yield Scored(unit.start, unit.end, _probability(score))
            if before is not None and (unit.concepts or before.concepts):
                both = (of_words + before_words) / math.sqrt(length + before_length or 1)
                score = bias + concepts(unit.concepts | before.concepts) + both
                yield Scored(before.start, unit.end, _probability(score))
            before, before_words, before_length = unit, of_words, length


def concept_score(weights: dict[str, float], concepts: frozenset[str]) -> float:
    """Return what the concepts of a sentence add to its score, each and in twos and threes."""
    return sum([weights.get(key, 0.0) for key in concept_keys(concepts)])


def concept_keys(concepts: frozenset[str]) -> list[str]:
    """Return the names of the sets of one to three of some concepts."""
    ordered = sorted(concepts)[:8]
    return ["+".join(some) for size in (1, 2, 3) for some in combinations(ordered, size)]


def _probability(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(score, -30.0), 30.0)))
