"""Turns plain data into settings and collects every mistake on the way, where msgspec stops at the first."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Set
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from holdfast.gateway.settings import LastResort
from holdfast.settings import Duration, Secret, Size

Place = tuple[str | int, ...]
"""The keys that lead to a value."""
Mistake = tuple[Place, str]
Check = Callable[[Any, Place, bool], Iterable[Mistake]]
"""Finds mistakes in settings at a place. The flag says whether they are whole; else, what was wrong has its default."""

INLINE: Final = 'secrets are never written here, use { env = "NAME" } or { file = "PATH" }'
FOREVER: Final = 366 * 86_400.0
MAY_BE_ZERO: Final = {"drain"}
ELSEWHERE: Final[Mapping[Place, str]] = {
    ("gateway", "port"): "unknown key: use --port of `holdfast up` or `holdfast serve`",
    ("gateway", "host"): "unknown key: use --host of `holdfast up` or `holdfast serve`",
    ("gateway", "workers"): "unknown key: use --workers of `holdfast serve`",
}
"""What is said in another place than this file."""
MISSING: Final = object()
"""Stands for a value that could not be built."""

_WORDS: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
}


class Collector:
    """Builds settings and collects `mistakes`. The check of a type runs on each of its values that could be built."""

    def __init__(self, checks: Mapping[type, Check]) -> None:
        self.mistakes: list[Mistake] = []
        self._checks = checks

    def build(self, type: Any, value: object, at: Place = ()) -> Any:
        """Return `value` as a `type`, or MISSING."""
        options = alternatives(type)
        if isinstance(value, str) and Secret in options and str not in options:
            return self._refuse(at, INLINE)
        if isinstance(value, dict):
            for option in options:
                if is_struct(option):
                    return self._struct(option, value, at)
                if get_origin(option) is dict:
                    return self._dict(get_args(option)[1], value, at)
        for option in options if isinstance(value, str) and str not in options else ():
            if is_struct(option) and (example := _example(option)):
                return self._refuse(at, f"expected a table: write {at[-1]} = {example}")
        return self._leaf(type, value, at)

    def _struct(self, cls: type[msgspec.Struct], table: dict[str, Any], at: Place) -> Any:
        fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
        missing = {key for key, field in fields.items() if field.required} - table.keys()
        meant = self._unknown(table.keys() - fields.keys(), list(fields), missing, at)
        built = {}
        for key, field in fields.items():
            if key in table:
                built[field.name] = self.build(field.type, table[key], (*at, key))
            elif key == meant:
                built[field.name] = MISSING
            elif key in missing:
                built[field.name] = self._refuse((*at, key), "required, but missing")
        return self._checked(cls, built, at)

    def _unknown(self, keys: Set[str], known: list[str], missing: Set[str], at: Place) -> str | None:
        """Refuse unknown keys. Return the missing key that one of them was meant to be: it is told with that."""
        meant = None
        for key in keys:
            hint = did_you_mean(key, known)
            if len(keys) == len(missing) == 1 and (not hint or hint == did_you_mean(key, missing)):
                (meant,) = missing
                hint = f' (did you mean "{meant}"? It is required)'
            self._refuse((*at, key), ELSEWHERE.get((*at, key), f"unknown key{hint}"))
        return meant

    def _checked(self, cls: type[msgspec.Struct], built: dict[str, Any], at: Place) -> Any:
        right = {key: value for key, value in built.items() if value is not MISSING}
        whole = len(right) == len(built)
        try:
            struct = cls(**right)
        except TypeError:  # a required field is among the wrong ones
            return MISSING
        except ValueError as error:
            return self._refuse(at, str(error)) if whole else MISSING
        if cls in self._checks:
            self.mistakes += self._checks[cls](struct, at, whole)
        return struct if whole else MISSING

    def _dict(self, type: Any, table: dict[str, Any], at: Place) -> Any:
        built = {key: self.build(type, value, (*at, key)) for key, value in table.items()}
        return MISSING if MISSING in built.values() else built

    def _leaf(self, type: Any, value: object, at: Place) -> Any:
        words = [word for option in alternatives(type) if get_origin(option) is Literal for word in get_args(option)]
        if words and isinstance(value, str) and value not in words:
            expected = " or ".join(f'"{word}"' for word in words)
            return self._refuse(at, f"expected {expected}, got {value!r}{did_you_mean(value, words)}")
        try:
            leaf = msgspec.convert(value, _as_leaf(type, value), dec_hook=_scalar)
        except msgspec.ValidationError as error:
            text, _, where = str(error).partition(" - at `$")
            return self._refuse((*at, *map(int, re.findall(r"\[(\d+)\]", where))), _in_words(text, value, at))
        if isinstance(leaf, Duration | Size) and not leaf and at[-1] not in MAY_BE_ZERO:
            return self._refuse(at, "must be more than zero")
        return leaf

    def _refuse(self, at: Place, message: str) -> object:
        self.mistakes.append((at, message))
        return MISSING


def alternatives(type: Any) -> list[Any]:
    """Return the members of a union without None, or the type itself; without what constrains it."""
    if get_origin(type) is Annotated:
        type = get_args(type)[0]
    if get_origin(type) in (Union, UnionType):
        return [option for member in get_args(type) if member is not NoneType for option in alternatives(member)]
    return [type]


def is_struct(option: Any) -> bool:
    """Whether it is a Struct class."""
    return isinstance(option, type) and issubclass(option, msgspec.Struct)


def _as_leaf(type: Any, value: object) -> Any:
    """Return what msgspec is to find a value to be that is no table. In a union, it takes no scalar of ours."""
    options = alternatives(type)
    tables = [option for option in options if is_struct(option) or get_origin(option) is dict]
    if tables:
        return reduce(or_, [dict, *(option for option in options if option not in tables)])
    if len(options) > 1 and Duration in options:
        return Duration if isinstance(value, str) else reduce(or_, [part for part in options if part is not Duration])
    return type


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a hint at the word that is meant, empty when none is near."""
    near = difflib.get_close_matches(word, list(words), n=1) or difflib.get_close_matches(
        word.lower(), list(words), n=1
    )
    return f' (did you mean "{near[0]}"?)' if near else ""


def _scalar(cls: Any, value: object) -> Any:
    try:
        scalar = cls.parse(value)
    except OverflowError:
        raise ValueError("too large") from None
    if isinstance(scalar, Duration) and scalar > FOREVER:
        raise ValueError("longer than a year")
    return scalar


def _example(cls: type[msgspec.Struct]) -> str:
    """Return an inline table of what is required, empty if nothing is."""
    if cls is LastResort:
        return '{ message = "..." }'
    required = [field for field in msgspec.structs.fields(cls) if field.required]
    pairs = [field.encode_name + (' = "..."' if field.type is str else " = ...") for field in required]
    return f"{{ {', '.join(pairs)} }}" if pairs else ""


def _advice(value: object, at: Place) -> str:
    """Return what helps with a value that is often written like this."""
    if at[-1] == "rollout" and isinstance(value, int | float) and 1 < value <= 100:
        return f": {value:g} % is {value / 100:g}"
    if at[-1] == "models" and isinstance(value, str):
        return f': write models = ["{value}"]'
    if at[-1] == "hedge":
        return ', or a duration such as "500ms"'
    return ""


def _in_words(text: str, value: object, at: Place) -> str:
    """Translate what msgspec says of Python's and JSON's types into TOML's, and give advice where there is some."""
    if at[-1] == "models" and (value == [] or (isinstance(value, list) and [] in value and "length" in text)):
        return "name at least one model"
    if at[-1] == "on" and "matching regex" in text:
        return 'expected a JSON pointer such as "/category"'

    def translate(quoted: re.Match[str]) -> str:
        names = [name for name in quoted[1].split(" | ") if name != "null"]
        return " or ".join(_WORDS.get(name, name) for name in names)

    return re.sub(r"`([^`]+)`", translate, text[:1].lower() + text[1:]) + _advice(value, at)
