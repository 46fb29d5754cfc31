"""Which models can't be called, or not by every call, under the limits of a configuration."""

from collections.abc import Iterator, Mapping

from holdfast.config import Config
from holdfast.providers.prices import Price
from holdfast.state.limits import Limit, Unit


def warnings(config: Config, prices: Mapping[str, Price | None], contexts: Mapping[str, int | None]) -> list[str]:
    """Return a line for each model that lacks what a limit needs. What calls themselves bring is not known here."""
    return [*_unpriced(config, prices), *_unbounded(config, contexts)]


def _unpriced(config: Config, prices: Mapping[str, Price | None]) -> Iterator[str]:
    for model, limits in _held(config, ("nanousd",)).items():
        if prices[model] is None:
            yield f"{model} can't be called where a budget in money holds ({', '.join(limits)}): set its `price`."


def _unbounded(config: Config, contexts: Mapping[str, int | None]) -> Iterator[str]:
    for model, limits in _held(config, ("nanousd", "tokens")).items():
        if config.models[model].max_output is None and contexts[model] is None:
            yield (
                f"Chats with {model} have to bring max_tokens where a limit in money or tokens holds "
                f"({', '.join(limits)}): set its `max_output`."
            )


def _held(config: Config, units: tuple[Unit, ...]) -> dict[str, list[str]]:
    """Return the models that limits in these units hold for, and the names of those limits."""
    held: dict[str, list[str]] = {}
    for limit, models in _limits(config):
        for model in models if limit.unit in units else ():
            held.setdefault(model, []).append(limit.name)
    return held


def _limits(config: Config) -> Iterator[tuple[Limit, tuple[str, ...]]]:
    for name, tenant in config.tenants.items():
        for limit in tenant.limits("tenant", name):
            yield limit, tuple(config.models)
    for name, feature in config.features.items():
        for limit in feature.limits(name):
            yield limit, feature.names
