"""Contracts as files: what `contract = ...` in a configuration names.

answer.json              a JSON Schema
app.contracts:Answer     a Pydantic model, a JSON Schema as a dict, a predicate or a Contract, in Python
answer.lark              a Lark grammar
answer.toml              any of these and more: see ContractSettings; `.json` may hold the same as `{"contract": {...}}`
"""

import inspect
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from holdfast.contracts.base import Condition, Contract, Form, Schema, refuse
from holdfast.contracts.conditions import AtField, Count, Length, Matches, OnText, Phrases
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.model import ModelForm
from holdfast.contracts.forms.schema import compile_schema, decode
from holdfast.contracts.forms.text import AnyText, ChoiceForm, PatternForm
from holdfast.contracts.ledger import Lossy
from holdfast.contracts.predicates import Predicate
from holdfast.references import find_reference, misnamed
from holdfast.settings import Settings

Text = Annotated[str, Meta(min_length=1)]
Texts = Text | tuple[Text, ...]
Read = Callable[[str], str]
_FORMS: Final = ("schema", "model", "pattern", "choice", "grammar")


class Range(Settings, frozen=True, kw_only=True):
    """A length: at least `min`, at most `max`."""

    min: Annotated[int, Meta(ge=0)] = 0
    max: Annotated[int, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        if self.max is not None and self.max < self.min:
            raise ValueError("expected min <= max")


class ConditionSettings(Settings, frozen=True, kw_only=True):
    """What must hold of a text, or of a field."""

    characters: Range | None = None
    words: Range | None = None
    tokens: Range | None = None
    """Counted by `count_tokens`."""
    stops_at: Texts = ()
    """Phrases after which nothing may come."""
    stops_before: Texts = ()
    """Phrases that must not occur."""
    includes: Texts = ()
    """Phrases that must occur."""
    predicates: Texts = ()
    """Functions in Python, "package.module:name"."""


class FieldSettings(ConditionSettings, frozen=True, kw_only=True):
    """What must hold of the field at a JSON pointer, in which `*` stands for every item or key."""

    pattern: str | None = None
    """A regular expression that a text there matches from its start to its end."""


class ContractSettings(ConditionSettings, frozen=True, kw_only=True):
    """What an answer must look like: one form at most, and conditions. Without a form, any text will do."""

    schema: Schema | str | None = None
    """A JSON Schema, or a file that holds one."""
    formats: bool = True
    """Whether the `format` of a JSON Schema is checked, or only describes."""
    model: str | None = None
    """A Pydantic model, "package.module:Name"."""
    pattern: str | None = None
    """A regular expression that the whole answer matches."""
    choice: tuple[Text, ...] | None = None
    """The answers that there are."""
    grammar: str | None = None
    """A Lark grammar, or a `.lark` file that holds one."""
    count_tokens: str | None = None
    """A function in Python that counts the tokens of a text. Default: a quarter of its bytes."""
    fields: dict[str, FieldSettings] = {}
    """Conditions on single fields, by JSON pointer."""
    allow: tuple[Lossy, ...] = ()
    """Repairs that lose something or make something up, and may be made nonetheless."""

    def __post_init__(self) -> None:
        if sum(getattr(self, form) is not None for form in _FORMS) > 1:
            raise ValueError(f"expected at most one of {', '.join(_FORMS)}")
        if self.fields and self.schema is None and self.model is None:
            raise ValueError("fields need a schema or a model")
        if self.allow and self.schema is None and self.model is None:
            raise ValueError("allow needs a schema or a model: it is about repairs of JSON")


def load_contract(source: str, base: Path = Path(), read: Read | None = None) -> Contract:
    """Return the contract that a file or a reference names, relative to the folder `base`.

    Args:
        read: returns the text of a file, named as it is written, or raises OSError or ValueError. Default: the disk's.

    Raises:
        ConfigError: it can't be read, or is no contract.
    """
    if not is_file(source):
        return make_contract(_found(source, base, source), name=source)
    return parse_contract(source, _read(source, base, source, read), base, read)


def is_file(source: str) -> bool:
    """Whether what names a contract names a file, and no object in Python."""
    return Path(source).suffix.lower() in {".json", ".toml", ".lark"} or misnamed(source) is not None


def files_in(name: str, text: str) -> Iterator[str]:
    """Find the files that the file of a contract with this name and text names, however wrong it is."""
    settings: Any = {}
    with suppress(ValueError, RecursionError):
        if name.lower().endswith(".toml"):
            settings = tomllib.loads(text)
        elif name.lower().endswith(".json") and isinstance(document := json.loads(text), dict):
            settings = document.get("contract") if len(document) == 1 else {}
    schema, grammar = (settings.get(key) if isinstance(settings, dict) else None for key in ("schema", "grammar"))
    if isinstance(schema, str):
        yield schema
    if isinstance(grammar, str) and grammar.endswith(".lark"):
        yield grammar


def parse_contract(name: str, text: str, base: Path = Path(), read: Read | None = None) -> Contract:
    """Return the contract that a file with this name and text holds. Raises ConfigError."""
    suffix = Path(name).suffix.lower()
    if suffix == ".lark":
        return Contract(GrammarForm(text, name=name), name=name)
    if suffix == ".toml":
        return build_contract(_settings(_toml(text, name), name), base, name=name, read=read)
    if suffix != ".json":
        refuse('expected a file that ends in .json, .toml or .lark, or a reference "package.module:Name"', name=name)
    try:
        document = decode(text)
    except ValueError as error:
        refuse(f"not JSON: {error}", name=name, line=_json_line(text))
    if isinstance(document, dict) and set(document) == {"contract"}:
        return build_contract(_settings(document["contract"], name), base, name=name, read=read)
    return Contract(compile_schema(document, name=name), name=name)


def make_contract(source: Any, *, name: str = "contract") -> Contract:
    """Return the contract that a value of Python stands for: a Pydantic model, a schema, a predicate or a contract.

    Raises:
        ConfigError: it stands for none.
    """
    if isinstance(source, Contract):
        return source
    if isinstance(source, Predicate):
        return Contract(AnyText(), (source,), name=name)
    if isinstance(source, Mapping | bool):
        return Contract(compile_schema(source if isinstance(source, bool) else dict(source), name=name), name=name)
    if inspect.isroutine(source):
        refuse("a function is no contract; to have it as a condition, make it one with @holdfast.predicate", name=name)
    return Contract(ModelForm(source, name=name), name=name)


def build_contract(
    settings: ContractSettings, base: Path = Path(), *, name: str = "contract", read: Read | None = None
) -> Contract:
    """Return the contract of some settings, whose files and references are relative to `base`. Raises ConfigError."""
    form = _form(settings, base, name, read)
    count: Count | None = None
    if settings.count_tokens is not None and not callable(count := _found(settings.count_tokens, base, name)):
        refuse(f"{settings.count_tokens} can't be called", "count_tokens", name)
    conditions: list[Condition] = [OnText(one) for one in _lengths_and_phrases(settings, count, name)]
    conditions += _predicates(settings, base, name)
    for field, wanted in settings.fields.items():
        inner = [*_lengths_and_phrases(wanted, count, name), *_predicates(wanted, base, name)]
        conditions += [AtField(field, one, name=name) for one in inner]
        if wanted.pattern is not None:
            conditions.append(AtField(field, Matches(wanted.pattern, name=name), name=name))
    return Contract(form, conditions, name=name, allow=settings.allow)


def _form(settings: ContractSettings, base: Path, name: str, read: Read | None) -> Form:
    if settings.schema is not None:
        schema = settings.schema
        if isinstance(schema, str):
            schema = _read(schema, base, name, read)
        return compile_schema(schema, formats=settings.formats, name=name)
    if settings.model is not None:
        return ModelForm(_found(settings.model, base, name), name=name)
    if settings.pattern is not None:
        return PatternForm(settings.pattern, name=name)
    if settings.choice is not None:
        return ChoiceForm(settings.choice, name=name)
    if settings.grammar is not None:
        grammar = settings.grammar
        return GrammarForm(_read(grammar, base, name, read) if grammar.endswith(".lark") else grammar, name=name)
    return AnyText()


def _lengths_and_phrases(settings: ConditionSettings, count: Count | None, name: str) -> Iterator[Condition]:
    for unit in ("characters", "words", "tokens"):
        if (length := getattr(settings, unit)) is not None:
            own = count if unit == "tokens" else None
            yield Length(unit, min=length.min, max=length.max, count=own, name=name)
    for keyword in ("stops_at", "stops_before", "includes"):
        if phrases := _texts(getattr(settings, keyword)):
            yield Phrases(keyword, phrases, name=name)


def _predicates(settings: ConditionSettings, base: Path, name: str) -> Iterator[Condition]:
    for reference in _texts(settings.predicates):
        found = _found(reference, base, name)
        try:
            yield found if isinstance(found, Predicate) else Predicate(found)
        except TypeError as error:
            refuse(f"{reference}: {error}", "predicates", name)


def _texts(texts: Texts) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else texts


def _settings(document: Any, name: str) -> ContractSettings:
    try:
        return msgspec.convert(document, ContractSettings)
    except (msgspec.ValidationError, ValueError) as error:
        message, _, at = str(error).partition(" - at `")
        refuse(message, at.rstrip("`").removeprefix("$").removeprefix("."), name)


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        refuse("tables or arrays are nested too deeply", name=name)
    except tomllib.TOMLDecodeError as error:
        refuse(f"not TOML: {error}", name=name)


def _json_line(text: str) -> int:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.lineno
    except (ValueError, RecursionError):
        pass
    return 0


def _read(file: str, base: Path, name: str, read: Read | None) -> str:
    try:
        return (base / file).read_text(encoding="utf-8") if read is None else read(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        refuse(f"{file} can't be read: {reason}", name=name)


def _found(reference: str, base: Path, name: str) -> Any:
    try:
        return find_reference(reference, base)
    except ValueError as error:
        refuse(str(error), name=name)
