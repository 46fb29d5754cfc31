"""From files to a valid configuration, or to everything that is wrong with it."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.clock import Clock, SystemClock
from holdfast.config.checks import checks, document, mask
from holdfast.config.collect import Check, Collector, Mistake, Place
from holdfast.config.files import Sources, read
from holdfast.config.types import Config, Configuration, fingerprint
from holdfast.errors import ConfigError, Problem

_CLOCK: Final = SystemClock()
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_TOML_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_REPEATED: Final = re.compile(r"Cannot (overwrite|declare|mutate)|Duplicate inline table key")


def load(path: Path, *, resolve_secrets: bool = True, clock: Clock = _CLOCK) -> Configuration:
    """Read and check `holdfast.toml` and the files that it names.

    Without `resolve_secrets`, no secret is looked for: for an editor or CI, which have none.

    Raises:
        ConfigError: with all that is wrong.
    """
    return build(read(path), at_us=int(clock.now() * 1e6), resolve_secrets=resolve_secrets)


def parse(files: Mapping[str, str], base: Path = Path(), at_us: int = 0) -> Configuration:
    """Return the configuration that consists of `files`, `holdfast.toml` first, as in `Configuration.files`.

    Looks at no file, for no secret and no function, so that each worker can rebuild what one process has checked.

    Raises:
        ConfigError: with all that is wrong.
    """
    name = next(iter(files), "holdfast.toml")
    return build(Sources(path=base / name, texts=files), at_us=at_us, resolve_secrets=False, find_functions=False)


def build(sources: Sources, *, at_us: int, resolve_secrets: bool, find_functions: bool = True) -> Configuration:
    """Return the configuration that consists of `sources`. Raises ConfigError."""
    place = str(sources.path)
    if failure := sources.failure(sources.path.name):
        raise ConfigError([Problem(place, 0, "", failure)])
    text = sources.texts[sources.path.name]
    doc = _document(text, place)
    try:
        config, mistakes = _collect(
            doc, checks(sources, resolve_secrets=resolve_secrets, find_functions=find_functions)
        )
        if mistakes:
            raise ConfigError(_locate(mistakes, text, place))
    except RecursionError:
        raise ConfigError([Problem(place, 0, "", "tables or arrays are nested too deeply")]) from None
    return Configuration(
        config=config, path=sources.path, files=sources.texts, hash=fingerprint(sources.texts), at_us=at_us
    )


def _document(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        problem = Problem(place, 0, "", "tables or arrays are nested too deeply")
    except ValueError as error:
        message = str(error)
        found = _TOML_PLACE.search(message)
        last = text.rstrip().count("\n") + 1
        line = int(found[1] or last) if found else 0
        if _REPEATED.match(message) and (repeated := _repeated(text, line)):
            raise ConfigError([Problem(place, *repeated)]) from None
        problem = Problem(place, line, "", f"not TOML: {mask(_TOML_PLACE.sub('', message))}")
    raise ConfigError([problem])


def _repeated(text: str, line: int) -> tuple[int, str, str] | None:
    """Return what is wrong with a key that stands twice: its line, name and first line. None if it is not found."""
    from holdfast.config.locate import Lines

    found = Lines(text).repeated(line)
    if found is None:
        return None
    at, second, first = found
    return second, mask(_dotted(at)), "stands twice" + (f", first in line {first}" if first != second else "")


def _collect(doc: dict[str, Any], checked: Mapping[type, Check]) -> tuple[Config, list[Mistake]]:
    collector = Collector(checked)
    config = collector.build(Config, doc)
    found = {at for at, _ in collector.mistakes}
    return config, collector.mistakes + [(at, message) for at, message in document(doc) if at not in found]


def _locate(mistakes: list[Mistake], text: str, place: str) -> list[Problem]:
    from holdfast.config.locate import Lines

    lines = Lines(text)
    return [Problem(place, lines.of(at), mask(_dotted(at)), mask(message)) for at, message in mistakes]


def _dotted(at: Place) -> str:
    """Return a key as TOML writes it, with the index of an array's item."""
    parts = [f"[{key}]" if isinstance(key, int) else f".{key if _BARE.fullmatch(key) else repr(key)}" for key in at]
    return "".join(parts).removeprefix(".")
