"""A script: which model behaves how, and when. Written in TOML or JSON, or built from values.

seed = 7
default = "ttft=200ms,tps=60"

[models.gpt]
text  = "Yes."
steps = ["status=429,retry_after=2", "cut=1,repeat=3", "status=503,lasts=60s"]
"""

import math
import random
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from holdfast.clock import Clock
from holdfast.errors import ConfigError, Problem
from holdfast.providers.simulated.behaviour import (
    PRESETS,
    Behaviour,
    Model,
    Step,
    did_you_mean,
    merge,
    overlay,
    read_value,
    readable,
    split_name,
)
from holdfast.providers.simulated.faults import Accept
from holdfast.settings import Settings


class Script(Settings, frozen=True, kw_only=True):
    """What the simulated providers do.

    `default` is for models that have no entry; with `strict` they get their provider's 404. Where `api_keys` are given,
    any other key is refused. `accept` is what happens to new connections: they are served, closed or reset at once, or
    left without an answer.
    """

    seed: int = 0
    strict: bool = False
    api_keys: tuple[str, ...] = ()
    accept: Accept = "serve"
    default: Behaviour = Behaviour()
    models: dict[str, Model] = {}


_MOST_NAMES = 10_000
"""Names to keep count of: they come from requests."""

S = TypeVar("S", bound=Settings)
B = TypeVar("B", bound=Behaviour)
ScriptSource = Script | Mapping[str, Any] | str | Path | None
"""A script, its table, or the path of its file."""


def load(source: ScriptSource) -> Script:
    """Return the script that `source` stands for; corpus files are relative to the script's own.

    Raises:
        ConfigError: the file can't be read, or says something wrong.
    """
    if isinstance(source, Script):
        return source
    if isinstance(source, str | Path):
        return from_table(read(Path(source)), str(source), Path(source).parent)
    return from_table(source or {})


def read(path: Path) -> Mapping[str, Any]:
    """Read the table of a script's file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(str(path), f"can't be read: {error}") from error
    return parse(text, path.suffix == ".json", str(path))


def parse(text: str, is_json: bool, place: str = "script") -> Mapping[str, Any]:
    """Parse the text of a script. Raises ConfigError."""
    try:
        table = msgspec.json.decode(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(place, f"is not {'JSON' if is_json else 'TOML'}: {error}") from error
    if not isinstance(table, dict):
        raise _wrong(place, "expected a table of settings")
    return table


def from_table(table: Mapping[str, Any], place: str = "script", base: Path | None = None) -> Script:
    """Build a script from its table, each model's fields laid over the default's and each step's over the model's.

    Raises:
        ConfigError: with every mistake and its key.
    """
    problems: list[Problem] = []
    default = _convert(Behaviour, [table.get("default", {})], "default", place, problems)
    models = {}
    entries = table.get("models", {})
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        model = _model(table.get("default", {}), entry, f"models.{name}", place, problems)
        if model:
            steps = tuple([_relative(step, base) for step in model.steps])
            models[name] = msgspec.structs.replace(_relative(model, base), steps=steps)
    rest = {key: value for key, value in table.items() if key not in ("default", "models")}
    if not isinstance(entries, dict):
        rest["models"] = entries
    script = _convert(Script, [rest], "", place, problems)
    if problems or script is None or default is None:
        raise ConfigError(problems)
    return msgspec.structs.replace(script, default=_relative(default, base), models=models)


def _model(default: Any, entry: Any, key: str, place: str, problems: list[Problem]) -> Model | None:
    own = {k: v for k, v in entry.items() if k != "steps"} if isinstance(entry, Mapping) else entry
    model = _convert(Model, [default, own], key, place, problems)
    written = entry.get("steps", []) if isinstance(entry, Mapping) else []
    if not isinstance(written, list | tuple):
        problems.append(Problem(file=place, line=0, key=f"{key}.steps", message="expected a list of steps"))
        return None
    base = {k: v for k, v in own.items() if k in Behaviour.__struct_fields__} if isinstance(own, Mapping) else {}
    steps = [
        _convert(Step, [default, base, step], f"{key}.steps[{index}]", place, problems)
        for index, step in enumerate(written)
    ]
    return msgspec.structs.replace(model, steps=tuple([step for step in steps if step])) if model else None


def _convert(type_: type[S], layers: list[Any], key: str, place: str, problems: list[Problem]) -> S | None:
    """Lay the layers over one another and decode them; what is wrong joins the problems."""
    try:
        for layer in layers:
            if not isinstance(layer, str | Mapping):
                raise ValueError(f'expected a table or text such as "ttft=300ms,cut=12", got {layer!r}')
        fields = merge(*layers)
        unknown = sorted(set(fields) - set(type_.__struct_fields__))
        if not unknown:
            return msgspec.convert(fields, type_, strict=False, dec_hook=read_value)
        for name in unknown:
            message = "there is no such key" + did_you_mean(name, type_.__struct_fields__)
            problems.append(Problem(file=place, line=0, key=_join(key, name), message=message))
    except msgspec.ValidationError as error:
        where, _, what = readable(error).rpartition(": ") if " - at `$" in str(error) else ("", "", str(error))
        problems.append(Problem(file=place, line=0, key=_join(key, where), message=what))
    except ValueError as error:
        problems.append(Problem(file=place, line=0, key=key, message=str(error)))
    return None


def _join(*keys: str) -> str:
    return ".".join([key for key in keys if key])


def _relative(behaviour: B, base: Path | None) -> B:
    if base is None or not behaviour.corpus:
        return behaviour
    return msgspec.structs.replace(behaviour, corpus=tuple([str(base / file) for file in behaviour.corpus]))


def _wrong(place: str, message: str) -> ConfigError:
    return ConfigError([Problem(file=place, line=0, key="", message=message)])


class Progress:
    """Where a script has got to: which step of each model is next. `clock` ends the steps that last for a time."""

    def __init__(self, script: Script, clock: Clock) -> None:
        self.script = script
        self.clock = clock
        self._begun = clock.monotonic()
        self._models: dict[str, _ModelProgress] = {}
        self._chances: dict[str, random.Random] = {}
        self._counts: dict[str, tuple[int, float]] = {}

    def behaviour(self, name: str) -> Behaviour | None:
        """Return how the model of this name behaves towards its next request, which counts as seen. None: not there.

        Raises:
            ValueError: the name's suffix is wrong.
        """
        base, suffix = split_name(name)
        model = self.script.models.get(name)
        if model is not None:
            return self._next(name, model)
        model = self.script.models.get(base)
        if model is not None:
            return overlay(self._next(base, model), suffix)
        if base in PRESETS:
            plain = msgspec.structs.replace(self.script.default, text=None, words=None, corpus=())
            return overlay(overlay(plain, PRESETS[base]), suffix)
        return None if self.script.strict else overlay(self.script.default, suffix)

    def chance(self, name: str) -> random.Random:
        """Return the seeded generator of one model, so that traffic to others doesn't change what befalls it."""
        base = split_name(name)[0]
        if base not in self._chances:
            if len(self._chances) > _MOST_NAMES:
                self._chances.clear()
            self._chances[base] = random.Random(f"{self.script.seed}:{base}")  # noqa: S311 - repeatable
        return self._chances[base]

    def count(self, name: str) -> tuple[int, float]:
        """Count a request to the model of this name. Returns its number, and the seconds since the first."""
        now = self.clock.monotonic()
        if len(self._counts) > _MOST_NAMES:
            self._counts.clear()
        number, first = self._counts.get(name, (0, now))
        self._counts[name] = (number + 1, first)
        return number + 1, now - first

    def _next(self, name: str, model: Model) -> Behaviour:
        if name not in self._models:
            self._models[name] = _ModelProgress(model, self._begun)
        return self._models[name].next(self.clock.monotonic())


class _ModelProgress:
    """The current step of one model: how many requests it has had, and when it began."""

    def __init__(self, model: Model, now: float) -> None:
        self.model = model
        self.index = 0
        self.round = 1
        self.seen = 0
        self.begun = now

    def next(self, now: float) -> Behaviour:
        self._skip_rounds(now)
        while step := self._current():
            if step.lasts is not None:
                if now < self.begun + step.lasts:
                    return step
                self._advance(self.begun + step.lasts)
            elif self.seen < step.repeat:
                self.seen += 1
                if self.seen == step.repeat:
                    self._advance(now)
                return step
        return self.model

    def _current(self) -> Step | None:
        return self.model.steps[self.index] if self.index < len(self.model.steps) else None

    def _advance(self, at: float) -> None:
        self.index, self.seen, self.begun = self.index + 1, 0, at
        if self.index == len(self.model.steps) and self._left() > 0:
            self.index, self.round = 0, self.round + 1

    def _left(self) -> float:
        return self.model.rounds - self.round if self.model.rounds else math.inf

    def _skip_rounds(self, now: float) -> None:
        """Leap over the rounds that went by unseen, so that a long silence costs nothing."""
        if not self.model.steps:
            return
        period = sum([step.lasts or math.inf for step in self.model.steps])
        rounds = min((now - self.begun) // period, self._left()) if self.index == 0 else 0
        if rounds > 0:
            self.begun += rounds * period
            self.round += int(rounds)
