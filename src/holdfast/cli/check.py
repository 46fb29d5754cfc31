"""`holdfast check`: is the configuration valid, and what does it say?"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from holdfast.cli.confined import load_confined
from holdfast.cli.enforcement import contracts_of
from holdfast.cli.limited import warnings
from holdfast.cli.master_check import master_problems
from holdfast.config import Config, Configuration
from holdfast.errors import ConfigError
from holdfast.gateway.questions.prompt import Prompt
from holdfast.gateway.settings import FeatureSettings, LastResort
from holdfast.providers.base import ModelSettings
from holdfast.providers.known import PROVIDERS, price_provider
from holdfast.providers.prices import Price, find
from holdfast.settings import Duration

INVALID = 2
WIDE = 1000
"""Columns: what is wrapped or cut can't be copied."""


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), default="holdfast.toml", show_default=True)
@click.option("--no-secrets", is_flag=True, help="Look for no secret and no master key: for CI, which has none.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file instead.")
def command(file: Path, no_secrets: bool, as_json: bool, schema: bool) -> None:
    """Validate the configuration. Exits with 2 and all that is wrong, or shows what each feature calls."""
    if schema:
        from holdfast.config.schema import schema as json_schema

        _print_json(json_schema())
        return
    try:
        configuration = load_confined(file, resolve_secrets=not no_secrets)
        if not no_secrets and (problems := master_problems(configuration)):
            raise ConfigError(list(problems))
    except ConfigError as error:
        _refuse(error, as_json, "" if file.exists() else _no_file(file))
    listed = _listed(configuration.config)
    models = _models(configuration.config, listed, "not checked" if no_secrets else "found")
    warned = _warnings(configuration.config, listed)
    if as_json:
        features = {name: list(feature.models) for name, feature in configuration.config.features.items()}
        told = {"valid": True, "hash": configuration.hash, "features": features, "models": models}
        policies = {name: _policy(feature) for name, feature in configuration.config.features.items()}
        contracts = {name: contract.told() for name, contract in contracts_of(configuration).items()}
        more = {"variables": _variables(configuration), "contracts": contracts, "warnings": warned}
        _print_json(told | {"policies": policies} | more)
    else:
        click.echo(f"{file} is valid ({configuration.hash}).\n")
        _show(configuration.config, models)
        for name, feature in configuration.config.features.items():
            click.echo(f"\n{name} asks {_order(feature)}{_hedge(feature)}. {_refusal(feature)}{_last_resort(feature)}")
        for name, variables in _variables(configuration).items():
            click.echo(f"\nThe prompt of {name} needs the variables: {', '.join(variables)}")
        for name, contract in contracts_of(configuration).items():
            contract.show(name)
        for warning in warned:
            click.echo(f"\n{warning}")


def _no_file(file: Path) -> str:
    return f"It was looked for in {file.absolute().parent}. Without one, `holdfast up` runs a demo."


def _variables(configuration: Configuration) -> dict[str, list[str]]:
    """Return what a call to each feature must bring for its prompt."""
    needed = {
        name: sorted(Prompt(configuration.text(feature.prompt)).variables)
        for name, feature in configuration.config.features.items()
        if feature.prompt is not None
    }
    return {name: variables for name, variables in needed.items() if variables}


def _policy(feature: FeatureSettings) -> dict[str, Any]:
    """Return how a feature treats what goes wrong. Durations are in seconds, the last resort is as it is configured."""
    return {
        "retries": feature.retries,
        "hedge": feature.hedge,
        "on_refusal": feature.on_refusal,
        "last_resort": None if feature.last_resort is None else _set(feature.last_resort),
    }


def _set(resort: LastResort) -> dict[str, Any]:
    return {key: value for key, value in msgspec.structs.asdict(resort).items() if value is not None}


def _order(feature: FeatureSettings) -> str:
    """Tell who is asked after whom, and how often."""
    tries = {0: "once", 1: "at most twice"}.get(feature.retries, f"at most {feature.retries + 1} times")
    return f"{', then '.join(' or '.join(group) for group in feature.groups)}, each {tries}"


def _hedge(feature: FeatureSettings) -> str:
    if not feature.hedge:
        return ""
    late = f"after {feature.hedge:g}s" if isinstance(feature.hedge, Duration) else "later than usual"
    return f"; the next one too when the first token comes {late}"


def _refusal(feature: FeatureSettings) -> str:
    return "A refusal goes to the next model. " if feature.on_refusal == "next" else ""


def _last_resort(feature: FeatureSettings) -> str:
    if feature.last_resort is None:
        return "Its last resort: an error"
    ((form, value),) = _set(feature.last_resort).items()
    shown = json.dumps(value, ensure_ascii=False) if form in ("message", "object") else value
    return f"Its last resort: the {form} {shown}"


def _refuse(error: ConfigError, as_json: bool, advice: str) -> NoReturn:
    if as_json:
        _print_json({"valid": False, "problems": msgspec.to_builtins(error.problems)})
    else:
        click.echo(f"{error}. {advice}" if advice else error, err=True)
    sys.exit(INVALID)


def _listed(config: Config) -> dict[str, Price | None]:
    """Return what the list of prices knows of each model."""
    named = {name: (price_provider(model), model.name or name) for name, model in config.models.items()}
    prices = find(named.values())
    return {name: prices[asked] for name, asked in named.items()}


def _models(config: Config, listed: Mapping[str, Price | None], key: str) -> dict[str, dict[str, Any]]:
    return {
        name: _model(name, model, Price.of(model.price) if model.price else listed[name], key)
        for name, model in config.models.items()
    }


def _warnings(config: Config, listed: Mapping[str, Price | None]) -> list[str]:
    models = config.models.items()
    prices = {name: Price.of(model.price) if model.price else listed[name] for name, model in models}
    contexts = {name: model.context or (price.context if (price := listed[name]) else None) for name, model in models}
    return warnings(config, prices, contexts)


def _model(name: str, model: ModelSettings, price: Price | None, key: str) -> dict[str, Any]:
    rates = price.now().rates if price else None
    output = rates.output if rates else None
    return {
        "provider": model.provider,
        "name": model.name or name,
        "base_url": model.base_url or PROVIDERS[model.provider].base_url,
        "key": key if model.api_key else None,
        "input_usd_per_million": None if rates is None else float(rates.input),
        "output_usd_per_million": None if output is None else float(output),
    }


def _show(config: Config, models: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "feature", "model", "provider", "name", "address", "USD/M in", "USD/M out", "key", box=None, pad_edge=False
    )
    called = {model for feature in config.features.values() for model in feature.names}
    rows = [(name, feature.names) for name, feature in config.features.items()]
    for feature, names in [*rows, ("-", tuple(model for model in models if model not in called))]:
        for index, name in enumerate(names):
            table.add_row("" if index else feature, name, *_cells(models[name]))
    Console(highlight=False, markup=False, width=WIDE).print(table)


def _cells(model: dict[str, Any]) -> list[str]:
    prices = [model[key] for key in ("input_usd_per_million", "output_usd_per_million")]
    known = ["unknown" if price is None else f"{price:g}" for price in prices]
    return [model["provider"], model["name"], model["base_url"] or "started with it", *known, model["key"] or "none"]


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
