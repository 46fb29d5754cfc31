"""What there is to drill: features, or models by their own names, with the answers that their models are to give."""

from collections.abc import Sequence

import msgspec

from holdfast.config import Configuration
from holdfast.config.contracts import contract_of
from holdfast.drill.answers import Answers, answers_to
from holdfast.drill.faults import Fault
from holdfast.gateway import last_resort
from holdfast.gateway.questions.answered import read_examples
from holdfast.gateway.questions.prompt import Prompt
from holdfast.gateway.settings import Examples, FeatureSettings, LastResort
from holdfast.http.base import Timeouts
from holdfast.providers.simulated.tokens import count

CALLS_TO_KNOW_A_MODEL = 25
"""Calls after which a gateway knows how fast a model is. After one it has the vectors of all examples."""
OFF = (
    "The contract {contract} is off for this drill: no answer could be made up that meets it. With `examples`, or a "
    "last resort that is no function, it is drilled with an answer of these."
)
VOTED = "Its answers are voted on and asked for whole: faults that only streams have are left out."


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a row of the drill calls: a feature, or a model by its own name. Times in seconds."""

    name: str
    models: tuple[str, ...]
    deadline: float
    timeouts: Timeouts
    variables: tuple[str, ...] = ()
    usual_calls: int = 0
    """How many usual calls come before a fault: what the gateway does rests on what it has seen before."""
    embeddings: str | None = None
    """The model that finds the nearest of its examples."""
    answers: Answers = Answers()
    votes: bool = False
    """Whether its answers are voted on, so that models are never asked for a stream."""
    off: str | None = None
    """The contract that had to be taken off for the drill."""

    @property
    def first(self) -> str:
        """The model that the faults befall."""
        return self.models[0]

    @property
    def tokens(self) -> int:
        """How many tokens its models' answers have."""
        return count(self.answers.reply)

    @property
    def notes(self) -> tuple[str, ...]:
        """What its rows leave out, in sentences."""
        off = () if self.off is None else (OFF.format(contract=self.off),)
        return (*off, VOTED) if self.votes else off

    def takes(self, fault: Fault) -> bool:
        """Whether a fault can befall it."""
        return self.answers.say(fault.says) is not None and not (self.votes and "whole" not in fault.modes)


def targets(configuration: Configuration, names: Sequence[str] = ()) -> tuple[Target, ...]:
    """Return what there is to drill: the features of these names, all for no name; models where there is no feature.

    Raises:
        ValueError: there is no feature of a name.
        ConfigError: a contract can't be used.
    """
    config = configuration.config
    known = list(config.features or config.models)
    for name in names:
        if name not in known:
            raise ValueError(f"there is no feature {name!r}: there are {', '.join(known) or 'none'}")
    return tuple(_target(configuration, name) for name in known if name in names or not names)


def _target(configuration: Configuration, name: str) -> Target:
    config = configuration.config
    feature = config.features.get(name)
    if feature is None:
        return Target(
            name=name, models=(name,), deadline=float(config.gateway.deadline), timeouts=config.models[name].timeouts
        )
    prompt = None if feature.prompt is None else Prompt(configuration.text(feature.prompt))
    embeddings = feature.examples.embeddings if isinstance(feature.examples, Examples) else None
    answers = _answers(feature, configuration)
    return Target(
        name=name,
        models=feature.names,
        deadline=float(feature.deadline or config.gateway.deadline),
        timeouts=feature.timeouts or config.models[feature.names[0]].timeouts,
        variables=() if prompt is None else tuple(sorted(prompt.variables)),
        usual_calls=CALLS_TO_KNOW_A_MODEL if feature.hedge is True else int(embeddings is not None),
        embeddings=embeddings,
        answers=answers or Answers(),
        votes=feature.vote is not None,
        off=feature.contract if answers is None else None,
    )


def _answers(feature: FeatureSettings, configuration: Configuration) -> Answers | None:
    """Return what models are to say, None where nothing is known that meets the contract."""
    if feature.contract is None:
        return Answers()
    examples: Sequence[str] = ()
    if feature.examples is not None:
        file = feature.examples if isinstance(feature.examples, str) else feature.examples.file
        examples = [example.output for example in read_examples(configuration.text(file))[0]]
    resort = None if feature.last_resort is None else _fixed(feature.last_resort, configuration)
    return answers_to(contract_of(feature.contract, configuration), examples, resort)


def _fixed(resort: LastResort, configuration: Configuration) -> str | None:
    ready = last_resort.ready(resort, configuration.text, configuration.base) if resort.function is None else None
    return ready.text if isinstance(ready, last_resort.Fixed) else None
