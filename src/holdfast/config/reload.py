"""Notices when the files of a configuration change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from holdfast.clock import Clock, SystemClock
from holdfast.config.files import Sources, read
from holdfast.config.load import build
from holdfast.config.types import Configuration
from holdfast.errors import ConfigError

_CLOCK: Final = SystemClock()

Stamp = tuple[int, int, int, int]


class Reloader:
    """Reads a configuration again when its files change. Ask it about once a second.

    A change counts when two checks in a row see the same, so that a half-written file is never read. What is wrong is
    told once, and changes nothing.
    """

    def __init__(self, current: Configuration, *, resolve_secrets: bool = True, clock: Clock = _CLOCK) -> None:
        self.current = current
        """The last valid configuration."""
        self.error: ConfigError | None = None
        """What is wrong with the files as they are now."""
        self._resolve_secrets = resolve_secrets
        self._clock = clock
        self._last: Sources = read(current.path)
        """What was read last, which need not be valid."""
        self._secrets: Mapping[str, str] = self._last.secrets
        self._seen: Mapping[Path, Stamp | None] = {}
        self._taken: Mapping[Path, Stamp | None] = {}

    def check(self, *, force: bool = False) -> Configuration | ConfigError | None:
        """Return the new configuration, or what is wrong with it; None when nothing is new.

        With `force`, the files are read at once, and what is wrong is told again. A secret that changed in its file
        makes a new configuration with the same hash.
        """
        stamps = self._stamps()
        settled, self._seen = stamps == self._seen, stamps
        if not force and (not settled or stamps == self._taken):
            return None
        sources = read(self.current.path)
        if self._stamps() != stamps:
            self._seen = {}
            return None
        self._taken = stamps
        return self._take(sources, force)

    def _take(self, sources: Sources, force: bool) -> Configuration | ConfigError | None:
        if sources == self._last and self.error is None and sources.texts == self.current.files:
            return None
        if sources == self._last and self.error is not None and not force:
            return None
        self._last = sources
        try:
            new = build(sources, at_us=int(self._clock.now() * 1e6), resolve_secrets=self._resolve_secrets)
        except ConfigError as error:
            self.error = error
            return error
        self.error = None
        if (new.files, sources.secrets) == (self.current.files, self._secrets):
            return None
        self.current, self._secrets = new, sources.secrets
        return new

    def _stamps(self) -> Mapping[Path, Stamp | None]:
        return {path: _stamp(path) for path in self._last.paths}


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino
