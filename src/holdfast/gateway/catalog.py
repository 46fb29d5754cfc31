"""What can be called: the features and models of one configuration, ready to use. Swapped whole on reload."""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from holdfast.contracts.base import Contract
from holdfast.errors import UnknownModel
from holdfast.events import Store
from holdfast.gateway.hints import Streaming
from holdfast.gateway.last_resort import Resort
from holdfast.gateway.questions.examples import Shots
from holdfast.gateway.questions.prompt import Prompt
from holdfast.gateway.settings import GatewaySettings, Vote
from holdfast.gateway.traffic.health import Health
from holdfast.http.base import Timeouts, Transport
from holdfast.providers.base import Upstream
from holdfast.providers.prices import Price
from holdfast.state.limits import Limit

ROLLOUT_STEPS: Final = 2**32


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be called. `price` None is an unknown price, `context` None an unknown size.

    What changes while it is called is in `health`, which outlives this value.
    """

    name: str
    provider: str
    upstream: Upstream
    transport: Transport
    timeouts: Timeouts
    price: Price | None = None
    context: int | None = None
    """The tokens that it takes, prompt and answer together."""
    max_output: int | None = None
    """The most tokens that one answer can have."""
    health: Health = msgspec.field(default_factory=Health.private)

    @property
    def continues(self) -> bool:
        """Whether it goes on with an answer that it is given the beginning of, as far as is known by now."""
        return self.upstream.continues and self.health.prefill is not False


class Rules(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a feature says of its attempts."""

    retries: int = 2
    """The most tries again on one model in one call."""
    hedge: bool | float = False
    """Seconds after which the next model is started too, True for what is late by the model's own measure."""
    route_around_refusals: bool = False


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """How long answers are given again, in seconds, and the hash of all in the feature that they depend on."""

    ttl: float
    hash: bytes


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature, or a model called by its own name, which is a feature without a name of its own. Times in seconds."""

    name: str | None
    models: tuple[Model, ...]
    deadline: float
    max_answer: int
    """Bytes."""
    prompt: Prompt | None = None
    last_resort: Resort | None = None
    groups: tuple[tuple[Model, ...], ...] = ()
    """The models again, a group of equals at a time, where any has more than one."""
    rules: Rules = Rules()
    rollout: float = 1.0
    enabled: bool = True
    store: Store = "all"
    timeouts: Timeouts | None = None
    contract: Contract | None = None
    reask_tokens: int = 8192
    """The output tokens of one call for mending answers: beyond, none is mended any more."""
    stream: Streaming = "hold"
    examples: Shots | None = None
    vectors: "Feature | None" = None
    """What gives vectors to find the nearest examples by: a model called by its own name, under the same limits."""
    vote: Vote | None = None
    replay: Replay | None = None
    """Set where the same question gets the same answer."""
    limits: tuple[Limit, ...] = ()
    """What its calls may spend together."""

    def serves(self, session: str) -> bool:
        """Whether models serve this session. The same session always gets the same answer while `rollout` stays."""
        if self.rollout >= 1.0 or not self.enabled:
            return self.enabled
        digest = hashlib.blake2b(f"{self.name}\0{session}".encode(), digest_size=4).digest()
        return int.from_bytes(digest) < self.rollout * ROLLOUT_STEPS


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a call needs of one configuration; `config` is the hash of its snapshot."""

    config: str
    settings: GatewaySettings
    features: Mapping[str, Feature]
    """Features and directly called models, by the name that a caller uses."""
    models: Mapping[str, Model] = {}
    tenants: Mapping[str, tuple[Limit, ...]] = {}
    """What the calls of tenants may spend, of those that have limits."""

    def feature(self, name: str) -> Feature:
        """Return what `name` names.

        Raises:
            UnknownModel: naming what there is.
        """
        feature = self.features.get(name)
        if feature is None:
            known = ", ".join(sorted(self.features)) or "none"
            raise UnknownModel(f"There is no feature or model {name!r}. Known: {known}.", param="model")
        return feature

    def close(self) -> None:
        """Begin nothing more in the background: there is another catalog, or none."""
        for feature in self.features.values():
            if feature.examples is not None:
                feature.examples.close()
