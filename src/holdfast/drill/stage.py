"""A stage for one scene: the user's gateway, whole and on a real port, before models that are simulated."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from holdfast.app import App
from holdfast.clock import Clock
from holdfast.config import Configuration
from holdfast.drill.faults import FAULTS, Fault
from holdfast.drill.speeds import Speed
from holdfast.drill.targets import Target
from holdfast.gateway.serving.server import Server, bind
from holdfast.gateway.settings import FeatureSettings
from holdfast.log.base import LogSettings
from holdfast.providers.base import ModelSettings
from holdfast.providers.known import PROVIDERS
from holdfast.providers.simulated import Script, Simulator
from holdfast.providers.simulated.behaviour import expand
from holdfast.providers.simulated.script import from_table

CUT = 0.32
"""How much of the answer comes before damage inside it."""
NEVER = 100_000.0
EMBEDDING = 0.05
"""Seconds that vectors take."""


class Stage:
    """A stage that is set: `url` is the gateway's; `models` are the simulated providers, one for each model."""

    def __init__(
        self, url: str, models: Mapping[str, Simulator], scripts: Mapping[str, Script], lost: str | None
    ) -> None:
        self.url = url
        self.models = models
        self._scripts = scripts
        self._lost = lost

    async def strike(self) -> None:
        """Let the fault begin. What was before is forgotten by the providers, but not by the gateway."""
        for name, simulator in self.models.items():
            simulator.forget()
            simulator.follow(self._scripts[name])
        if self._lost is not None:
            await self.models[self._lost].aclose()


@contextlib.asynccontextmanager
async def stage(
    configuration: Configuration, target: Target, fault: Fault, speeds: Mapping[str, Speed], log: Path, clock: Clock
) -> AsyncIterator[Stage]:
    """Set the stage with models that are well, and clear it away again."""
    names = target.models if target.embeddings is None else (*target.models, target.embeddings)
    served = {name: configuration.config.models[name].name or name for name in names}
    async with contextlib.AsyncExitStack() as stack:
        models = {}
        for name in served:
            well = _script(served[name], target, FAULTS[0], speeds[name], name)
            models[name] = await stack.enter_async_context(Simulator(well, clock=clock))
        app = await stack.enter_async_context(App(simulated(configuration, target, models, log), clock))
        continues = [name for name, model in app.pipeline.catalog.models.items() if model.continues]
        scripts = {
            name: _script(served[name], target, fault, speeds[name], name, continues=name in continues)
            for name in served
        }
        url = await stack.enter_async_context(_served(app))
        yield Stage(url, models, scripts, target.first if fault.unreachable else None)


@contextlib.asynccontextmanager
async def _served(app: App) -> AsyncIterator[str]:
    gateway, views = app.asgi()
    server = Server(gateway, lambda: app.configuration.config.gateway, gateway.refusal, on_drain=views.drain)
    listener = bind("127.0.0.1", 0)[0]
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.create_task(server.serve(listener))
    try:
        yield url
    finally:
        server.hurry()
        await serving


def simulated(
    configuration: Configuration, target: Target, models: Mapping[str, Simulator], log: Path
) -> Configuration:
    """Return the configuration with simulated models under the same names, a log of its own, and no telemetry."""
    config = configuration.config
    replaced = {name: _model(config.models[name], simulator) for name, simulator in models.items()}
    features = {name: _feature(feature, target) for name, feature in config.features.items() if name == target.name}
    own = msgspec.structs.replace(
        config,
        models=replaced,
        features=features,
        gateway=msgspec.structs.replace(config.gateway, store="metadata"),
        log=LogSettings(path=str(log), flush_ms=1),
        telemetry=None,
    )
    return msgspec.structs.replace(configuration, config=own)


def _model(settings: ModelSettings, simulator: Simulator) -> ModelSettings:
    """Return a model at another address: no key, no header and no proxy of the user's is needed there."""
    wire = PROVIDERS[settings.provider].wire
    return msgspec.structs.replace(settings, base_url=simulator.url(wire), api_key=None, headers={}, proxy=None)


def _feature(settings: FeatureSettings, target: Target) -> FeatureSettings:
    contract = None if target.answers.contract is None else settings.contract
    return msgspec.structs.replace(settings, store="metadata", rollout=1.0, enabled=True, contract=contract)


def _script(served: str, target: Target, fault: Fault, speed: Speed, name: str, *, continues: bool = False) -> Script:
    """Return what the provider of one model does."""
    if name not in target.models:
        return from_table({"models": {served: {"ttft": _ms(EMBEDDING)}}}, "drill")
    struck = fault.everywhere or name == target.first
    reworded = fault.reworded and name != target.first
    if continues and target.answers.contract is not None:
        reworded = False  # who goes on in the middle of an object does not begin another
    gap = min(target.timeouts.idle * 1.5, target.deadline)
    cut = max(1, round(target.tokens * CUT))
    places = {"cut": str(cut), "late": _ms(speed.first_token * 10), "gap": _ms(gap), "never": _ms(NEVER)}
    table: dict[str, Any] = {
        "text": target.answers.reworded if reworded else target.answers.reply,
        "ttft": _ms(speed.first_token),
        "tps": speed.tokens_per_second,
    }
    table |= expand((fault.damage if struck else fault.others).format_map(places))
    if struck:
        said = {"text": target.answers.say(fault.says)}
        table |= {"steps": (said,)} if fault.once else said | {"steps": fault.steps, "rounds": fault.rounds}
    return from_table({"models": {served: table}}, "drill")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f}ms"
