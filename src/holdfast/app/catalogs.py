"""What can be called, made of a configuration: models with their providers, features with all that they name."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from holdfast.config import Configuration
from holdfast.config.contracts import contract_of
from holdfast.errors import ConfigError, Problem
from holdfast.gateway import last_resort
from holdfast.gateway.catalog import Catalog, Feature, Model, Replay, Rules
from holdfast.gateway.questions.canonical import hash_of
from holdfast.gateway.questions.examples import ready as examples_ready
from holdfast.gateway.questions.prompt import Prompt
from holdfast.gateway.settings import Examples, FeatureSettings
from holdfast.gateway.traffic.health import Register
from holdfast.http.base import Transport
from holdfast.http.egress import Egress
from holdfast.http.pool import PooledTransport
from holdfast.providers import prices
from holdfast.providers.anthropic import AnthropicUpstream
from holdfast.providers.base import Endpoint, Upstream, Wire
from holdfast.providers.google import GoogleUpstream
from holdfast.providers.known import PROVIDERS, price_provider, resolve
from holdfast.providers.openai import OpenAIUpstream
from holdfast.providers.prices import Price

if TYPE_CHECKING:
    from holdfast.providers.simulated import Simulator

UPSTREAMS: Final[Mapping[Wire, type[Upstream]]] = {
    "openai": OpenAIUpstream,
    "anthropic": AnthropicUpstream,
    "google": GoogleUpstream,
}


class Catalogs:
    """Makes the catalog of each configuration. What lasts from one to the next is here: connections, and the health of
    models in `register`. `directory` is where found prices are kept.
    """

    def __init__(self, register: Register, directory: Path) -> None:
        self.egress = Egress()
        """Where connections may lead: to what is configured, and to what `[network]` lists."""
        self._register = register
        self._prices = directory / "prices.json"
        self._transports = _Transports(self.egress)
        self._simulator: Simulator | None = None

    async def make(self, configuration: Configuration, agree: Callable[[], Awaitable[None]] | None = None) -> Catalog:
        """Return the catalog of a configuration; `agree` comes last. If it raises, all stays as it was.

        Raises:
            ConfigError: a secret, a file or a function that it names can't be used.
        """
        endpoints = await self._endpoints(configuration)
        network = configuration.config.network
        with self.egress.becoming(_hosts(configuration, endpoints), () if network is None else network.allow):
            catalog = await self._made(configuration, endpoints)
            if agree is not None:
                await agree()
            return catalog

    async def _made(self, configuration: Configuration, endpoints: Mapping[str, Endpoint]) -> Catalog:
        config = configuration.config
        named = {name: (price_provider(model), model.name or name) for name, model in config.models.items()}
        wanted = [named[name] for name, model in config.models.items() if model.price is None or model.context is None]
        listed = await asyncio.to_thread(prices.find, wanted, self._prices)
        models = {}
        for name in config.models:
            models[name] = self._model(name, endpoints[name], listed.get(named[name]), configuration)
        gateway = config.gateway
        direct = {
            name: Feature(
                name=None,
                models=(model,),
                groups=((model,),),
                deadline=gateway.deadline,
                max_answer=gateway.max_answer,
                store=gateway.store,
                stream="pass",  # whoever streams from a model expects to
            )
            for name, model in models.items()
        }
        features = await asyncio.to_thread(_features, configuration, models, direct)  # which may import functions
        tenants = {name: tenant.limits("tenant", name) for name, tenant in config.tenants.items()}
        return Catalog(
            config=configuration.hash, settings=gateway, features=features | direct, models=models, tenants=tenants
        )

    async def _endpoints(self, configuration: Configuration) -> dict[str, Endpoint]:
        """Return where each model is reached."""
        endpoints = {}
        for name, settings in configuration.config.models.items():
            started = settings.provider == "simulated" and settings.base_url is None
            address = (await self._simulated()).url(PROVIDERS[settings.provider].wire) if started else None
            try:
                endpoints[name] = resolve(name, settings, configuration.base, address)
            except ValueError as error:
                raise ConfigError([Problem(str(configuration.path), 0, f"models.{name}", str(error))]) from error
        return endpoints

    def _model(self, name: str, endpoint: Endpoint, listed: Price | None, configuration: Configuration) -> Model:
        settings = configuration.config.models[name]
        return Model(
            name=name,
            provider=settings.provider,
            upstream=UPSTREAMS[PROVIDERS[settings.provider].wire](endpoint),
            transport=self._transports.to(settings.proxy),
            timeouts=settings.timeouts,
            price=listed if settings.price is None else Price.of(settings.price),
            context=settings.context or (None if listed is None else listed.context),
            max_output=settings.max_output,
            health=self._register.health(name, settings, configuration.config.gateway),
        )

    async def _simulated(self) -> "Simulator":
        """Return the simulated providers, started when the first model asks for them."""
        if self._simulator is None:
            from holdfast.providers.simulated import Simulator  # loaded only where a simulated model is configured

            self._simulator = Simulator(keep=0)
            await self._simulator.start()
        return self._simulator

    async def aclose(self) -> None:
        """Close every connection, and the simulated providers."""
        await self._transports.aclose()
        if self._simulator is not None:
            await self._simulator.aclose()


class _Transports:
    """The transports of a process: one for direct connections, and one for each HTTP proxy."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._by_proxy: dict[str | None, Transport] = {}

    def to(self, proxy: str | None) -> Transport:
        if proxy not in self._by_proxy:
            egress = self._egress
            self._by_proxy[proxy] = PooledTransport(egress=egress) if proxy is None else _proxied(proxy, egress)
        return self._by_proxy[proxy]

    async def aclose(self) -> None:
        for transport in self._by_proxy.values():
            await transport.aclose()


def _proxied(proxy: str, egress: Egress) -> Transport:
    from holdfast.http.aiohttp import AiohttpTransport  # an extra, loaded only where a proxy is configured

    return AiohttpTransport(proxy=proxy, egress=egress)


def _hosts(configuration: Configuration, endpoints: Mapping[str, Endpoint]) -> set[str]:
    """Return the hosts that the configuration names."""
    config = configuration.config
    urls = [endpoint.base_url for endpoint in endpoints.values()]
    urls += [model.proxy for model in config.models.values() if model.proxy is not None]
    urls += [] if config.telemetry is None else [config.telemetry.endpoint]
    return {host for url in urls if (host := urlsplit(url).hostname)}


def _features(
    configuration: Configuration, models: Mapping[str, Model], direct: Mapping[str, Feature]
) -> dict[str, Feature]:
    features = configuration.config.features
    return {name: _feature(name, settings, configuration, models, direct) for name, settings in features.items()}


def _feature(
    name: str,
    settings: FeatureSettings,
    configuration: Configuration,
    models: Mapping[str, Model],
    direct: Mapping[str, Feature],
) -> Feature:
    gateway = configuration.config.gateway
    contract = None if settings.contract is None else contract_of(settings.contract, configuration)
    examples = settings.examples
    balanced = any(len(group) > 1 for group in settings.groups)
    hedge = settings.hedge if isinstance(settings.hedge, bool) else float(settings.hedge)
    return Feature(
        name=name,
        models=tuple(models[model] for model in settings.names),
        groups=tuple(tuple(models[model] for model in group) for group in settings.groups) if balanced else (),
        rules=Rules(retries=settings.retries, hedge=hedge, route_around_refusals=settings.on_refusal == "next"),
        deadline=settings.deadline or gateway.deadline,
        max_answer=gateway.max_answer,
        prompt=None if settings.prompt is None else Prompt(configuration.text(settings.prompt)),
        last_resort=_last_resort(name, settings, configuration),
        rollout=settings.rollout,
        enabled=settings.enabled,
        store=settings.store,
        timeouts=settings.timeouts,
        contract=contract,
        examples=None if examples is None else examples_ready(examples, configuration.text, contract),
        vectors=_vectors(name, settings, direct),
        vote=settings.vote,
        replay=_replay(name, settings, configuration),
        reask_tokens=settings.reask_tokens,
        stream=settings.stream,
        limits=settings.limits(name),
    )


def _vectors(name: str, settings: FeatureSettings, direct: Mapping[str, Feature]) -> Feature | None:
    """Return what gives the vectors of examples. They are known from the configuration, so the log needs no bodies."""
    examples = settings.examples
    if not isinstance(examples, Examples) or examples.embeddings is None:
        return None
    model = direct[examples.embeddings]
    store = "none" if model.store == "none" else "metadata"
    return msgspec.structs.replace(model, store=store, limits=settings.limits(name))


def _replay(name: str, settings: FeatureSettings, configuration: Configuration) -> Replay | None:
    """Return how answers are given again: they depend on all that the feature and its models are, and say."""
    if not settings.reproducible:
        return None
    models = configuration.config.models
    parts = {"feature": f"{name} {settings!r}"} | {f"models.{model}": repr(models[model]) for model in settings.names}
    said = {file: text for file, text in configuration.files.items() if file != configuration.path.name}
    kept = 0.0 if settings.store == "none" else float(settings.replay_ttl)
    return Replay(hash=hash_of(parts | said), ttl=kept)


def _last_resort(name: str, settings: FeatureSettings, configuration: Configuration) -> last_resort.Resort | None:
    if settings.last_resort is None:
        return None
    try:
        return last_resort.ready(settings.last_resort, configuration.text, configuration.base)
    except ValueError as error:
        key = f"features.{name}.last_resort.function"
        raise ConfigError([Problem(str(configuration.path), 0, key, str(error))]) from error
