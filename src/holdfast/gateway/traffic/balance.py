"""Which of several equal models is asked first: the better of two at random, by load and recent latency."""

from collections.abc import Sequence
from random import Random
from typing import Final, Protocol, TypeVar

from holdfast.gateway.traffic.latency import Latency

EXPLORED: Final = 1 / 32
"""The share of choices left to chance, so that a model that has become faster is found out."""


class Breaker(Protocol):
    """Whether a model may be called."""

    def open_for(self) -> float:
        """Return for how many seconds nothing should be sent; 0.0 when something may be."""
        ...


class Health(Protocol):
    """What a choice goes by."""

    @property
    def breaker(self) -> Breaker:
        """Whether it may be called."""
        ...

    @property
    def first_token(self) -> Latency:
        """How long first tokens of streams take."""
        ...

    @property
    def answer(self) -> Latency:
        """How long whole answers take."""
        ...

    def outstanding(self) -> int:
        """Return how many attempts are under way."""
        ...


class Balanced(Protocol):
    """A model among its equals."""

    @property
    def health(self) -> Health:
        """Its state."""
        ...


M = TypeVar("M", bound=Balanced)


def order(groups: Sequence[Sequence[M]], random: Random, *, stream: bool = False) -> tuple[M, ...]:
    """Return the models of all groups in the order in which a call tries them.

    The groups keep their order. Of each group two models are drawn: the one with fewer attempts under way, weighed by
    its recent latency (of first tokens for a stream, else of answers), goes first. The rest follows at random, and
    models known to be down at the end, those first that may be asked again the soonest.
    """
    models: list[M] = []
    for group in groups:
        models += group if len(group) == 1 else _ordered(group, random, stream)
    return tuple(models)


def _ordered(group: Sequence[M], random: Random, stream: bool) -> list[M]:
    models = random.sample(group, len(group))
    waits = {id(model): model.health.breaker.open_for() for model in models}
    models.sort(key=lambda model: waits[id(model)])
    first, second = models[:2]
    if not waits[id(second)] and _better(second.health, first.health, stream) and random.random() >= EXPLORED:
        models[:2] = second, first
    return models


def _better(one: Health, other: Health, stream: bool) -> bool:
    """Whether `one` is likely to answer sooner. While one of them is unknown, only what is under way counts."""
    ours, theirs = (one.first_token, other.first_token) if stream else (one.answer, other.answer)
    own, its = ours.typical(), theirs.typical()
    if own is None or its is None:
        own = its = 1.0
    return (one.outstanding() + 1) * own < (other.outstanding() + 1) * its
