"""The JSON Schema of `holdfast.toml`: for editors, and what its documentation is made of."""

import ast
import inspect
import textwrap
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from holdfast.config.collect import is_struct
from holdfast.config.types import Config
from holdfast.gateway.settings import LastResort
from holdfast.settings import Duration, Secret, Size

_SIMPLE: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Any: {},
}
_SCALARS: Final[dict[Any, dict[str, Any]]] = {
    Duration: {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)\s*$", "examples": ["250ms", "8s", "2m"]},
    Size: {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([KMG]i?)?B\s*$", "examples": ["512KiB", "10MB"]},
}
_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_LENGTHS: Final = {"min_length": "min", "max_length": "max"}
_SECONDS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
_BYTES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))


def schema() -> dict[str, Any]:
    """Return the schema, in the dialect 2020-12."""
    definitions: dict[str, Any] = {}
    root = _struct(Config, definitions)
    dialect: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "holdfast.toml"}
    return dialect | root | {"$defs": dict(sorted(definitions.items()))}


def _struct(cls: type[msgspec.Struct], definitions: dict[str, Any]) -> dict[str, Any]:
    docs = _attribute_docs(cls)
    properties: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        about = {"description": docs[field.name]} if field.name in docs else {}
        default = _default(field.default)
        properties[field.encode_name] = (
            about | _schema(field.type, definitions) | ({} if default is None else {"default": default})
        )
    required = [field.encode_name for field in msgspec.structs.fields(cls) if field.required]
    one = {"minProperties": 1, "maxProperties": 1} if cls in (Secret, LastResort) else {}
    about = {"description": _summary(cls)}
    return (
        about
        | {"type": "object", "properties": properties}
        | ({"required": required} if required else {})
        | one
        | {"additionalProperties": False}
    )


def _schema(type: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, args = get_origin(type), get_args(type)
    if origin is Annotated:
        inner = dict(_schema(args[0], definitions))
        for meta in args[1:]:
            inner |= _bounds(meta, inner) if isinstance(meta, Meta) else {}
        return inner
    if origin in (Union, UnionType):
        options = [_schema(member, definitions) for member in args if member is not NoneType]
        return options[0] if len(options) == 1 else {"anyOf": options}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(args[1], definitions)}
    if origin in (tuple, list):
        return {"type": "array", "items": _schema(args[0], definitions)}
    return _SIMPLE[type] if type in _SIMPLE else _reference(type, definitions)


def _reference(type: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    name = type.__name__
    if name not in definitions:
        definitions[name] = {"description": _summary(type)} | _SCALARS.get(type, {})
        definitions[name] |= _struct(type, definitions) if is_struct(type) else {}
    return {"$ref": f"#/$defs/{name}"}


def _bounds(meta: Meta, inner: dict[str, Any]) -> dict[str, Any]:
    units = {"array": "Items", "string": "Length"}.get(inner.get("type", ""), "Properties")
    names = _BOUNDS | {key: name + units for key, name in _LENGTHS.items()} | {"pattern": "pattern"}
    return {name: value for key, name in names.items() if (value := getattr(meta, key)) is not None}


def _default(value: Any) -> Any:
    """Return a default as TOML writes it, None where there is none, or only an empty table."""
    if isinstance(value, Duration):
        whole = [(int(value / size), unit) for unit, size in _SECONDS if value and value % size == 0]
        count, unit = whole[0] if whole else (round(value * 1000), "ms")
        return f"{count}{unit}"
    if isinstance(value, Size):
        return next(f"{value // size}{unit}" for unit, size in _BYTES if value % size == 0)
    return value if isinstance(value, str | int | float) else None


def _summary(type: Any) -> str:
    return " ".join((inspect.getdoc(type) or "").split())


def _attribute_docs(cls: type) -> dict[str, str]:
    """Return what the string after each attribute says of it."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("holdfast."):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            found |= _strings_after_names(body.body) if isinstance(body, ast.ClassDef) else {}
    return found


def _strings_after_names(body: list[ast.stmt]) -> dict[str, str]:
    return {
        name.target.id: " ".join(str(text.value.value).split())
        for name, text in pairwise(body)
        if isinstance(name, ast.AnnAssign) and isinstance(name.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
