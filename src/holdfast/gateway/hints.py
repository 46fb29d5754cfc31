"""What a caller may say of a call beside the request: `x-holdfast-*` headers, or a `holdfast` object in the body."""

import difflib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from holdfast.errors import InvalidRequest

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Priority = Literal["live", "batch"]
OnBreak = Literal["fail", "reset"]
Streaming = Literal["hold", "pass", "object"]


class Hints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose call it is, how long it may take, how it is treated, and what to file it under."""

    session: Label | None = None
    subject: Label | None = None
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    tags: Annotated[dict[Label, Annotated[str, msgspec.Meta(max_length=256)]], msgspec.Meta(max_length=32)] = {}
    variables: dict[str, str] = {}
    """For the places in the feature's prompt."""
    priority: Priority = "live"
    """Who waits where there is not room for all: batch calls do, for live ones."""
    stream: Streaming | None = None
    """How a stream under a contract comes: "hold", "pass" or "object". Default: the feature's."""
    on_break: OnBreak = "fail"
    """What a stream does that breaks and can't be continued: end with an error, or send a `holdfast.reset` and begin
    anew."""


class _Who(msgspec.Struct):
    subject: str = ""


class _Named(msgspec.Struct):
    holdfast: _Who


NO_HINTS = Hints()
_NAMED: Final = msgspec.json.Decoder(_Named).decode
_CHOICES: Final = {"priority": get_args(Priority), "on_break": get_args(OnBreak), "stream": get_args(Streaming)}
_WORDS: Final = {
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


def read_hints(headers: Mapping[bytes, bytes], body: object) -> Hints:
    """Return the hints of a call: those of the body, where it has none those of the headers.

    `headers` holds the `x-holdfast-*` headers without that prefix; `body` is the `holdfast` object, None without one.

    Raises:
        InvalidRequest: naming the hint at fault.
    """
    if not headers and body is None:
        return NO_HINTS
    found = _from_headers(headers)
    if isinstance(body, dict):
        return to_hints(found | body)
    return to_hints(found if body is None else body)


def whose(headers: Mapping[bytes, bytes], body: bytes) -> Hints:
    """Return of the hints of a call that can't be read only whose it is, if that can be told at all."""
    subject = _text(headers.get(b"subject", b""))
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        subject = _NAMED(body).holdfast.subject or subject
    return Hints(subject=subject) if subject else NO_HINTS


def to_hints(found: object) -> Hints:
    """Return the hints that a table holds. Raises InvalidRequest, naming the one at fault."""
    if not isinstance(found, Mapping):
        raise InvalidRequest("`holdfast` must be an object.", param="holdfast")
    try:
        return msgspec.convert(found, Hints)
    except msgspec.ValidationError as error:
        raise _refusal(found, error) from error


def _refusal(found: Mapping[str, Any], error: msgspec.ValidationError) -> InvalidRequest:
    """Name the hint at fault, and say what is wrong with it."""
    for name, value in found.items():
        if name not in Hints.__struct_fields__:
            near = difflib.get_close_matches(str(name), Hints.__struct_fields__, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(Hints.__struct_fields__)}"
            return InvalidRequest(f"holdfast.{name}: there is no such hint ({hint})", param=f"holdfast.{name}")
        parts = {f"{name}.{key}": {key: part} for key, part in value.items()} if isinstance(value, dict) else {}
        for place, part in (parts or {name: value}).items():
            if wrong := _wrong(name, part):
                return InvalidRequest(f"holdfast.{place}: {wrong}", param=f"holdfast.{place}")
    return InvalidRequest(f"holdfast: {error}", param="holdfast")


def _wrong(name: str, value: object) -> str | None:
    """Return what is wrong with the value of a hint, None if it is right."""
    try:
        msgspec.convert({name: value}, Hints)
    except msgspec.ValidationError as error:
        if name == "deadline_ms" and not (type(value) is int and value < 1):
            got = json.dumps(value)[:40] if isinstance(value, str | int | float) else "something else"
            return f"expected milliseconds as a whole number, got {got}"
        if name in _CHOICES and isinstance(value, str):
            return f"expected {' or '.join(_CHOICES[name])}, got {json.dumps(value[:40])}"
        text = str(error).partition(" - at `")[0]
        return re.sub("`([a-z]+)`", lambda found: _WORDS.get(found[1], found[1]), text[:1].lower() + text[1:])
    return None


def _from_headers(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in headers.items():
        text = _text(value)
        match name:
            case b"session" | b"subject" | b"priority" | b"stream":
                found[name.decode()] = text
            case b"on-break":
                found["on_break"] = text
            case b"deadline-ms":
                found["deadline_ms"] = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text
            case b"tags":
                found["tags"] = _tags(text)
            case _:
                continue
    return found


def _text(value: bytes) -> str:
    """Decode a header: UTF-8 as most clients send it, else the standard's Latin-1."""
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


def _tags(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(separator and name.strip() for name, separator, _ in pairs):
        raise InvalidRequest('Tags are written "name=value, name=value".', param="x-holdfast-tags")
    return {name.strip(): value.strip() for name, _, value in pairs}
