"""What `holdfast check` tells of contracts: of each keyword and model, whether its server enforces it."""

from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from holdfast.config import Configuration
from holdfast.config.contracts import contract_of
from holdfast.contracts.requested import format_of
from holdfast.providers.base import Constrained, Endpoint, Keyword
from holdfast.providers.known import PROVIDERS, server_of

WIDE: Final = 1000
_SHOWN: Final = 3
"""The most places that are shown of one keyword."""


class Enforcement(msgspec.Struct, frozen=True):
    """The contract of a feature: what each of its models makes of it, and what is looked at here in any case."""

    source: str
    models: Mapping[str, Constrained]
    conditions: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        models = {
            name: {
                "asked": None if found.format is None else found.format.type,
                "reason": found.reason,
                "enforced": msgspec.to_builtins(found.enforced),
                "checked": msgspec.to_builtins(found.checked),
            }
            for name, found in self.models.items()
        }
        return {"contract": self.source, "models": models, "conditions": list(self.conditions)}

    def show(self, feature: str) -> None:
        """Print a table: a row for each keyword, and one more for where it fares otherwise."""
        from rich.console import Console
        from rich.table import Table

        click.echo(f"\nThe contract of {feature}, {self.source}, is checked here. Of that, the servers enforce:\n")
        if rows := self._rows():
            table = Table("keyword", "where", *self.models, box=None, pad_edge=False)
            for (keyword, words), paths in rows.items():
                table.add_row(keyword, _places(paths), *words)
            Console(highlight=False, markup=False, width=WIDE).print(table)
        for name, found in self.models.items():
            if found.reason is not None:
                click.echo(f"{name} can't be held to it: {found.reason}")
        for rule in self.conditions:
            click.echo(f"checked for every model: {rule}")

    def _rows(self) -> dict[tuple[str, tuple[str, ...]], list[str]]:
        """Return where keywords stand that fare alike, by the keyword and how they fare with each model."""
        enforced = {name: frozenset(found.enforced) for name, found in self.models.items()}
        rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for one in self._keywords():
            words = tuple("enforced" if one in enforced[name] else "checked" for name in self.models)
            rows.setdefault((one.keyword, words), []).append(one.path)
        return dict(sorted(rows.items()))

    def _keywords(self) -> list[Keyword]:
        return sorted({one for found in self.models.values() for one in (*found.enforced, *found.checked)})


def contracts_of(configuration: Configuration) -> dict[str, Enforcement]:
    """Return what becomes of the contract of each feature that has one. Raises ConfigError."""
    features = configuration.config.features.items()
    return {
        name: _enforcement(feature.contract, feature.names, configuration)
        for name, feature in features
        if feature.contract is not None
    }


def _enforcement(source: str, models: tuple[str, ...], configuration: Configuration) -> Enforcement:
    contract = contract_of(source, configuration)
    format = format_of(contract)
    rules = tuple(getattr(condition, "rule", "") or type(condition).__name__ for condition in contract.conditions)
    if format is None:
        return Enforcement(source, {}, rules)
    return Enforcement(source, {name: _upstream(name, configuration).constrain(format) for name in models}, rules)


def _upstream(name: str, configuration: Configuration) -> Any:
    from holdfast.app.catalogs import UPSTREAMS  # loaded only where a contract is configured

    settings = configuration.config.models[name]
    endpoint = Endpoint(model=settings.name or name, base_url=settings.base_url or "", server=server_of(name, settings))
    return UPSTREAMS[PROVIDERS[settings.provider].wire](endpoint)


def _places(paths: list[str]) -> str:
    """Return the first places of many."""
    shown = ", ".join(path or "(whole)" for path in paths[:_SHOWN])
    return f"{shown} and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else shown
