"""What a caller may say of a call beside the request: `x-holdfast-*` headers, or a `holdfast` object in the body."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from holdfast.errors import InvalidRequest

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Hints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose call it is, how long it may take, and what to file it under."""

    session: Label | None = None
    subject: Label | None = None
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    tags: Annotated[dict[Label, Annotated[str, msgspec.Meta(max_length=256)]], msgspec.Meta(max_length=32)] = {}
    variables: dict[str, str] = {}
    """For the places in the feature's prompt."""


NO_HINTS = Hints()


def read_hints(headers: Mapping[bytes, bytes], body: object) -> Hints:
    """Return the hints of a call: those of the body, where it has none those of the headers.

    `headers` holds the `x-holdfast-*` headers without that prefix; `body` is the `holdfast` object, None without one.

    Raises:
        InvalidRequest: naming the hint at fault.
    """
    if not headers and body is None:
        return NO_HINTS
    found = _from_headers(headers)
    if body is not None:
        if not isinstance(body, dict):
            raise InvalidRequest("`holdfast` must be an object.", param="holdfast")
        found |= body
    try:
        return msgspec.convert(found, Hints)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(f"holdfast: {message}", param=f"holdfast.{path.rstrip('`')}".rstrip(".")) from error


def _from_headers(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in headers.items():
        text = _text(value)
        match name:
            case b"session" | b"subject":
                found[name.decode()] = text
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
