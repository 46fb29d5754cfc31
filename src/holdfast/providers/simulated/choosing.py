"""What a simulated model answers that is held to one of a few choices, and how likely it finds each of them."""

import math
from collections.abc import Mapping, Sequence

from holdfast.chat import Logprob, Request
from holdfast.providers.simulated.tokens import fraction, tokenize

NEVER = -9999.0
"""The log-probability of what is never said."""


def choices_of(request: Request) -> tuple[str, ...]:
    """Return what the answer is held to, as vLLM is told of it; nothing for any other request."""
    outputs = request.extra.get("structured_outputs")
    choices = outputs.get("choice") if isinstance(outputs, Mapping) else None
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        return ()
    return tuple([choice for choice in choices if isinstance(choice, str) and choice])


def choose(choices: Sequence[str], question: str, *draw: object) -> str:
    """Return one of them: how often depends on the question, which of them on the draw too."""
    weights = _weights(choices, question)
    left = fraction(question, *draw) * sum(weights)
    for choice, weight in zip(choices, weights, strict=True):
        left -= weight
        if left < 0:
            return choice
    return choices[-1]


def choice_logprobs(choices: Sequence[str], question: str, tokens: Sequence[str], top: int) -> tuple[Logprob, ...]:
    """Return the tokens of an answer, each with the `top` most likely of those with which the choices go on there."""
    spelt = list(zip([tokenize(choice) for choice in choices], _weights(choices, question), strict=True))
    told = []
    for place, token in enumerate(tokens):
        left = [(spelling, weight) for spelling, weight in spelt if spelling[:place] == list(tokens[:place])]
        options: dict[str, float] = {}
        for spelling, weight in left:
            if place < len(spelling):
                options[spelling[place]] = options.get(spelling[place], 0.0) + weight
        whole = sum([weight for _, weight in left])
        ranked = sorted(options, key=options.__getitem__, reverse=True)[:top]
        alternatives = tuple([_one(other, options[other] / whole) for other in ranked])
        chosen = _one(token, options[token] / whole if token in options else 0.0)
        told.append(Logprob(token=token, logprob=chosen.logprob, bytes=chosen.bytes, top=alternatives))
    return tuple(told)


def _weights(choices: Sequence[str], question: str) -> list[float]:
    return [0.05 + fraction(question, choice) for choice in choices]


def _one(token: str, probability: float) -> Logprob:
    logprob = math.log(probability) if probability else NEVER
    return Logprob(token=token, logprob=logprob, bytes=tuple(token.encode()))
