"""What `holdfast.toml` holds, and a configuration as it was read: with every file that it names."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from holdfast.events import Snapshot
from holdfast.gateway.settings import FeatureSettings, GatewaySettings
from holdfast.http.egress import NetworkSettings
from holdfast.log.base import LogSettings
from holdfast.log.telemetry import TelemetrySettings
from holdfast.privacy.settings import PrivacySettings
from holdfast.providers.base import ModelSettings
from holdfast.settings import Settings
from holdfast.state.limits import BudgetSettings


class TenantSettings(BudgetSettings, frozen=True, kw_only=True):
    """[tenants.NAME]: what the keys of a tenant may spend together."""


class Config(Settings, frozen=True, kw_only=True):
    """`holdfast.toml`."""

    models: dict[str, ModelSettings]
    """What can be called, by the name that features and callers use."""
    features: dict[str, FeatureSettings] = {}
    """What applications call, by name."""
    tenants: dict[str, TenantSettings] = {}
    """Limits of those whose keys say whom they belong to, by name."""
    gateway: GatewaySettings = GatewaySettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings | None = None
    network: NetworkSettings | None = None
    privacy: PrivacySettings = PrivacySettings()


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A valid configuration. `files` are the texts that it consists of by name, `holdfast.toml` itself first."""

    config: Config
    path: Path
    """Where `holdfast.toml` is; the other files are relative to its folder."""
    files: Mapping[str, str]
    hash: str
    """32 hexadecimal digits that stand for the names and texts of all files."""
    at_us: int
    """When it was read, in microseconds since 1970 UTC."""

    @property
    def base(self) -> Path:
        """The folder that relative files are relative to."""
        return self.path.parent

    def text(self, file: str) -> str:
        """Return the text of a file, named as in `holdfast.toml`."""
        return self.files[relative(file, self.base)]

    def snapshot(self) -> Snapshot:
        """Return the event that explains the calls made under this configuration."""
        return Snapshot(hash=self.hash, at_us=self.at_us, files=dict(self.files))


def relative(file: str, base: Path) -> str:
    """Return the name of a file in `Configuration.files`: its path relative to `base`, with slashes."""
    absolute = os.path.abspath(base)
    return Path(os.path.relpath(os.path.join(absolute, file), absolute)).as_posix()


def fingerprint(files: Mapping[str, str]) -> str:
    """Return the hash of names and texts (BLAKE2b, 128 bits)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (part for pair in files.items() for part in pair):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.hexdigest()
