"""JSON pointers (RFC 6901): the places of a JSON value, written as text."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

NOWHERE: Final = msgspec.UNSET
"""What is at a place that a value does not have."""
_MAX_DIGITS: Final = 9


def step(key: object) -> str:
    """Return a key, or the number of an item, as a step of a pointer.

    >>> step("a/b~c")
    'a~1b~0c'
    """
    return str(key).replace("~", "~0").replace("/", "~1")


def pointer(keys: Iterable[object]) -> str:
    """Return the pointer to what some keys lead to, one below the other.

    >>> pointer(["items", 0, "a/b"])
    '/items/0/a~1b'
    """
    return "".join([f"/{step(key)}" for key in keys])


def keys_of(pointer: str) -> list[str]:
    """Return the keys that a pointer leads along, numbers of items as they are written.

    >>> keys_of("/items/0/a~1b")
    ['items', '0', 'a/b']
    """
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]


def item(value: Any, key: str) -> Any:
    """Return what a value has under a key, or under the number of an item; NOWHERE if nothing is there."""
    if isinstance(value, dict):
        return value.get(key, NOWHERE)
    if isinstance(value, list) and key.isascii() and key.isdigit() and len(key) <= _MAX_DIGITS:
        return value[int(key)] if int(key) < len(value) else NOWHERE
    return NOWHERE


def at(value: Any, pointer: str) -> Any:
    """Return what stands at a pointer, NOWHERE if nothing does.

    >>> at({"a": [1, {"b/c": 2}]}, "/a/1/b~1c")
    2
    >>> at({"a": 1}, "/b")
    UNSET
    """
    return follow(value, keys_of(pointer))


def follow(value: Any, keys: Iterable[str]) -> Any:
    """Return what some keys lead to, one below the other, NOWHERE if it is nothing."""
    for key in keys:
        value = item(value, key)
    return value
