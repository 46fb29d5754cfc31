"""Strings and numbers as JSON writes them, and as a shape wants them."""

import re

import msgspec

from holdfast.contracts.ledger import Kind
from holdfast.contracts.shape import Shape

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*+)(?:\.\d++)?+(?:[eE][-+]?\d++)?+")


def content_of(written: str) -> str | None:
    """Return what a string of JSON says, None for any other value."""
    try:
        content = msgspec.json.decode(written)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return content if isinstance(content, str) else None


def coerced_to(content: str, shape: Shape) -> tuple[Kind, str] | None:
    """Return a string as the contract's choice, number or boolean that says the same."""
    if shape.choices:
        same = [choice for choice in shape.choices if _folded(choice) == _folded(content)]
        return ("enum_case", quoted(same[0])) if content not in shape.choices and len(same) == 1 else None
    if shape.allows("string"):
        return None
    word = content.strip()
    if _JSON_NUMBER.fullmatch(word) and shape.allows("integer" if word.lstrip("-").isdigit() else "number"):
        return "string_to_number", word
    if shape.allows("boolean") and word.lower() in ("true", "false"):
        return "string_to_boolean", word.lower()
    return None


def is_other(content: str, shape: Shape) -> bool:
    """Return whether a string is something else than what the contract asks for."""
    if shape.choices and content not in shape.choices:
        return True
    return not shape.allows("string")


_CONTROLS = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f]')


def quoted(text: str) -> str:
    """Return a string of JSON."""
    return '"' + _TO_ESCAPE.sub(lambda match: escaped(match[0]), text) + '"'


def escaped(char: str) -> str:
    return _CONTROLS.get(char) or (f"\\{char}" if char in '"\\' else f"\\u{ord(char):04x}")


def spelling(number: str) -> str | None:
    """Return a number as JSON spells it, without a change of value; None for one with leading zeros."""
    spelled = number.removeprefix("+")
    spelled = re.sub(r"^(-?)\.", r"\g<1>0.", spelled)
    spelled = re.sub(r"\.(?!\d)", "", spelled)
    return spelled if _JSON_NUMBER.fullmatch(spelled) else None


def _folded(value: object) -> str | None:
    return value.strip().casefold() if isinstance(value, str) else None
