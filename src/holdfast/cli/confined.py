"""Loads a configuration in a process that is held to its `[network]` before it imports what the configuration names."""

import tomllib
from pathlib import Path

import msgspec

from holdfast.config import Configuration, load
from holdfast.http.confinement import confine
from holdfast.http.egress import Egress, NetworkSettings


def load_confined(path: Path, *, resolve_secrets: bool = True, beside: tuple[str, ...] = ()) -> Configuration:
    """Load a configuration as `config.load` does.

    Where it has `[network]` this process connects to what `allow` lists from now on, and to the hosts `beside`, and to
    nothing else; the gateway adds the hosts of models and telemetry when it knows them.

    Raises:
        ConfigError: with all that is wrong.
    """
    network = _network(path)
    if network is not None:
        confine(Egress(beside, network.allow))
    return load(path, resolve_secrets=resolve_secrets)


def _network(path: Path) -> NetworkSettings | None:
    """Return the table before anything is checked. What is wrong with it, and told later, allows nothing."""
    try:
        table = tomllib.loads(path.read_text("utf-8-sig")).get("network")
    except (OSError, ValueError, RecursionError):
        return None
    try:
        return None if table is None else msgspec.convert(table, NetworkSettings)
    except msgspec.ValidationError:
        return NetworkSettings()
