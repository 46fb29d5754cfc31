"""The types of single settings, as they are written in `holdfast.toml`."""

import os
import re
from pathlib import Path
from typing import Self

import msgspec

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the groups of settings."""


class Duration(float):
    """Seconds, written "8s", "250ms", "1.5m", "1h" or "7d"."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raise ValueError if `text` is not a duration."""
        match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f'expected a duration such as "8s" or "250ms", got {text!r}')
        return cls(float(match[1]) * _SECONDS[match[2]])


class Size(int):
    """Bytes, written "512KiB" or "10MB"."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raise ValueError if `text` is not a size."""
        match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f'expected a size such as "512KiB" or "10MB", got {text!r}')
        return cls(round(float(match[1]) * _BYTES[match[2]]))


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is found: an environment variable or a file. The value itself never enters the configuration."""

    env: str | None = None
    """The name of an environment variable."""
    file: str | None = None
    """A file, relative to the folder of `holdfast.toml`."""

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError('expected { env = "NAME" } or { file = "PATH" }')

    def reveal(self, base: Path) -> str:
        """Return the secret, a relative file being relative to `base`.

        Raises:
            ValueError: the variable is not set, the file can't be read, or either is empty or more than a line.
        """
        if self.env is not None:
            place, value = f"environment variable {self.env}", os.environ.get(self.env)
            if value is None:
                raise ValueError(f"{place} is not set")
        else:
            path = base / (self.file or "")
            place = f"file {path}"
            try:
                value = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{place} can't be read: {error}") from error
        value = value.strip()
        if not value:
            raise ValueError(f"{place} is empty")
        if not value.isprintable():
            raise ValueError(f"{place} holds more than one line, or characters that no header can carry")
        return value
