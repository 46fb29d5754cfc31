"""Logistic regression on sparse features, in pure Python: the same weights for the same rows and seed."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from holdfast.guards.injection.model import Head, Scored, Scorer, Weights, concept_keys
from holdfast.guards.injection.units import Unit, units

EPOCHS: Final = 8
AVERAGED: Final = 4
"""Of how many last epochs the weights are averaged."""
RATE: Final = 0.3
SHRINK: Final = {"w": 1e-3, "p": 1e-3, "c": 2e-3}
"""How hard weights of words, pairs and concepts are pulled to zero: chosen among seven settings by cross-validation on
the files that the report is made on, which so looks better than other data will."""
FEWEST: Final = 3
"""Rows in which a word or a pair must occur to be learnt."""
DIGITS: Final = 3


class Example(Struct, frozen=True, gc=False):
    """A text in its sentences (normalised before), what it is (1: flag it), and how much it counts."""

    units: tuple[Unit, ...]
    label: int
    weight: float = 1.0


class _Point(Struct, gc=False):
    features: list[tuple[str, float]]
    label: int
    weight: float


def fit(examples: Sequence[Example], head: Head, seed: int = 1) -> Weights:
    """Fit weights to texts, of which it is not known what sentence makes one an attack.

    First all sentences of an attack count; then, twice, those that the weights so far find worst.
    """
    known = _vocabulary(examples)
    points = [_point(_joined(example.units), example, known) for example in examples]
    weights = _descend(points, seed)
    for _ in range(2):
        scorer = Scorer(weights, head)
        points = [point for example in examples for point in _worst(example, scorer, known)]
        weights = _descend(points, seed)
    return weights


def _vocabulary(examples: Sequence[Example]) -> frozenset[str]:
    seen: Counter[str] = Counter()
    for example in examples:
        seen.update({key for unit in example.units for key in (*unit.stems, *map(" ".join, pairwise(unit.stems)))})
    return frozenset([key for key, count in seen.items() if count >= FEWEST])


def _joined(some: Sequence[Unit]) -> tuple[list[str], frozenset[str]]:
    return [stem for unit in some for stem in unit.stems], frozenset().union(*[unit.concepts for unit in some])


def _worst(example: Example, scorer: Scorer, known: frozenset[str]) -> list[_Point]:
    """Return the sentence or two of a text that score highest, and of a harmless text the second, too."""
    windows = sorted(scorer.windows(list(example.units)), key=lambda window: -window.score)
    most = 1 if example.label else 2
    return [_point(_joined(_within(example.units, window)), example, known) for window in windows[:most]]


def _within(some: Sequence[Unit], window: Scored) -> list[Unit]:
    return [unit for unit in some if window.start <= unit.start and unit.end <= window.end]


def _point(joined: tuple[list[str], frozenset[str]], example: Example, known: frozenset[str]) -> _Point:
    stems, concepts = joined
    counts = Counter([key for key in (*stems, *map(" ".join, pairwise(stems))) if key in known])
    scale = 1.0 / math.sqrt(len(stems) or 1)
    features = [(("p" if " " in key else "w") + key, count * scale) for key, count in counts.items()]
    features += [("c" + key, 1.0) for key in concept_keys(concepts)]
    return _Point(features, example.label, example.weight)


def _descend(points: list[_Point], seed: int) -> Weights:
    """AdaGrad (Duchi, Hazan and Singer 2011) with the weights pulled to zero as they are used."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    weights: dict[str, float] = {}
    squares: dict[str, float] = {}
    bias, bias_square = 0.0, 1.0
    order = list(range(len(points)))
    means: dict[str, float] = {}
    mean_bias = 0.0
    for epoch in range(EPOCHS):
        chance.shuffle(order)
        for i in order:
            point = points[i]
            score = bias + sum([weights.get(key, 0.0) * value for key, value in point.features])
            error = (1.0 / (1.0 + math.exp(-min(max(score, -30.0), 30.0))) - point.label) * point.weight
            bias_square += error * error
            bias -= RATE * error / math.sqrt(bias_square)
            for key, value in point.features:
                weight = weights.get(key, 0.0)
                slope = error * value + SHRINK[key[0]] * weight
                square = squares[key] = squares.get(key, 1e-2) + slope * slope
                weights[key] = weight - RATE * slope / math.sqrt(square)
        if epoch >= EPOCHS - AVERAGED:
            mean_bias += bias / AVERAGED
            for key, weight in weights.items():
                means[key] = means.get(key, 0.0) + weight / AVERAGED
    return _weights(means, mean_bias)


def _weights(found: dict[str, float], bias: float) -> Weights:
    def of(kind: str) -> dict[str, float]:
        rounded = {key[1:]: round(weight, DIGITS) for key, weight in sorted(found.items()) if key[0] == kind}
        return {key: weight for key, weight in rounded.items() if abs(weight) > 0.02}

    return Weights(bias=round(bias, DIGITS), words=of("w"), pairs=of("p"), concepts=of("c"))


def worst(text_units: Sequence[Unit], scorer: Scorer) -> float:
    """Return the highest score of the sentences of a text."""
    return max([window.score for window in scorer.windows(list(text_units))], default=0.0)


def example(text: str, label: int, weight: float = 1.0) -> Example:
    """Return a text, normalised, as an example."""
    return Example(tuple(units(text)), label, weight)
