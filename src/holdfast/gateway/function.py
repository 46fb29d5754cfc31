"""Python functions that a configuration names: "package.module:name"."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.chat import Request
from holdfast.references import find_reference, misnamed

__all__ = ["Function", "find_function", "misnamed"]

Function = Callable[[Request, str], object]
"""Gets the request and the code of the error that no model could avoid. Returns a text, or a dict or list for JSON; or
is a coroutine function that does."""


def find_function(reference: str, base: Path) -> Function:
    """Import a function, as `find_reference` does.

    Raises:
        ValueError: it can't be imported, or not be called with a request and the code of an error.
    """
    function = find_reference(reference, base)
    if not callable(function):
        raise ValueError(f"{reference} can't be called: it is of the type {type(function).__name__}")
    if not _takes_two(function):
        raise ValueError(f"{reference} must take two arguments: the request, and the code of what went wrong")
    found: Function = function
    return found


def _takes_two(function: Callable[..., Any]) -> bool:
    with suppress(ValueError):  # some that are written in C don't tell
        signature = inspect.signature(function)
        try:
            signature.bind(None, "")
        except TypeError:
            return False
    return True
