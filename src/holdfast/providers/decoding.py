"""How JSON of a wire is read: whatever the bytes are, what is wrong with them is said with its place."""

import re
from typing import Any

import msgspec

_PLACE = re.compile(r" - at `(?:key in )?\$(.*)`$")
_MISSING = re.compile(r"Object missing required field `(\w+)`")


class Malformed(Exception):
    """JSON that does not follow the wire format: `path` is the field at fault, such as "messages[0].content"."""

    def __init__(self, path: str, message: str) -> None:
        self.path, self.message = path, message
        super().__init__(f"{path}: {message}" if path else message)


class Unsayable(Exception):
    """A part that a wire has no words for."""


def read(decoder: msgspec.json.Decoder[Any], data: bytes | msgspec.Raw, path: str = "") -> Any:
    """Decode `data`, which stands at `path`. Raises Malformed, whatever the bytes are."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _malformed(str(error), path) from None
    except RecursionError:
        raise Malformed(path, "The JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise Malformed(path, "The text is not valid UTF-8") from None
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise Malformed(path, str(error)) from None


def _malformed(message: str, path: str) -> Malformed:
    """Take the place out of a message such as "Expected `int`, got `str` - at `$.messages[0].content`"."""
    if place := _PLACE.search(message):
        path += place[1].replace("[...]", "")
    message = _PLACE.sub("", message)
    if missing := _MISSING.fullmatch(message):
        path, message = f"{path}.{missing[1]}", "Field required"
    return Malformed(path.lstrip("."), message)
