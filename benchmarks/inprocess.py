"""The whole request path of Holdfast in this process, before providers that are no servers."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from holdfast.client import Holdfast
from holdfast.clock import Clock, UlidFactory
from holdfast.contracts.base import Contract
from holdfast.events import AnyEvent, Call
from holdfast.gateway.catalog import Catalog, Feature, Model, Rules
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.settings import GatewaySettings
from holdfast.gateway.traffic.health import Health
from holdfast.http.base import Timeouts, Transport
from holdfast.log.writer import LogWriter
from holdfast.privacy.subjects import SubjectHasher
from holdfast.providers.base import ModelSettings
from holdfast.providers.known import resolve
from holdfast.providers.openai import OpenAIUpstream


class Tally(LogWriter):
    """Counts what the log would be told, and keeps nothing."""

    def __init__(self) -> None:
        self.sync, self.failing = False, None
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        return False

    def append(self, event: AnyEvent, size: int = 0) -> None:
        if isinstance(event, Call):
            self.outcomes[event.outcome] += 1
            self.reasons.update([attempt.reason for attempt in event.attempts])


def model(name: str, transport: Transport, clock: Clock) -> Model:
    """Return a model of the OpenAI wire behind a transport."""
    endpoint = resolve(name, ModelSettings(provider="openai", base_url="http://127.0.0.1:1"), Path())
    return Model(
        name=name,
        provider="openai",
        upstream=OpenAIUpstream(endpoint),
        transport=transport,
        timeouts=Timeouts(),
        health=Health.private(clock),
    )


def feature(name: str, models: Iterable[Model], *, hedge: bool = False, contract: Contract | None = None) -> Feature:
    """Return a feature whose calls are not logged."""
    return Feature(
        name=name,
        models=tuple(models),
        rules=Rules(hedge=hedge),
        deadline=30.0,
        max_answer=2**20,
        store="none",
        contract=contract,
    )


def gateway(features: Mapping[str, Feature], tally: Tally, clock: Clock, chance: random.Random) -> Holdfast:
    """Return a gateway with some features and their models."""
    models = {model.name: model for feature in features.values() for model in feature.models}
    catalog = Catalog(config="", settings=GatewaySettings(), features=features, models=models)
    with TemporaryDirectory() as folder:
        subjects = SubjectHasher.load(Path(folder))
    return Holdfast(Pipeline(catalog, tally, subjects, clock, chance), UlidFactory(clock))
