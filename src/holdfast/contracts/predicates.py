"""Conditions written in Python.

@holdfast.predicate
def adds_up(answer):
    "the total is the sum of the prices"
    return answer["total"] == sum(item["price"] for item in answer["items"])

@holdfast.predicate("/items/*/price")
def positive(price):
    return price > 0 or f"{price} is not a price"
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, overload

from holdfast.contracts.base import Violation, shortened
from holdfast.contracts.conditions import parse_field, select
from holdfast.errors import ConfigError

Test = Callable[[Any], object]
"""Gets a value and returns whether it will do: True or None if so, else False or what is wrong with it."""


class Predicate:
    """A condition written in Python. It can still be called as the function that it was."""

    def __init__(self, test: Test, field: str | None = None, message: str | None = None) -> None:
        if inspect.iscoroutinefunction(test) or not _takes_one(test):
            raise TypeError(f"{test!r} is no predicate: expected a plain function of one value")
        self.__name__ = getattr(test, "__name__", type(test).__name__)
        self.__doc__ = inspect.getdoc(test) if inspect.isroutine(test) else None
        said = (self.__doc__ or "").strip().partition("\n")[0]
        self._wrong = message or (f"must hold: {said}" if said else f"{self.__name__} does not hold")
        self._message = message
        self._test = test
        self.field = _steps(field)
        """The steps to the fields that it is over, none for the whole answer."""

    @property
    def rule(self) -> str:
        """What it asks for, to tell a model: its docstring, or its message. Empty where it has neither."""
        said = " ".join((self.__doc__ or self._message or "").split())
        return f"of /{'/'.join(self.field)}: {said}" if said and self.field else said

    def __call__(self, value: Any) -> object:
        return self._test(value)

    def violations(self, text: str, data: Any) -> Iterator[Violation]:
        for path, value in select(data, self.field):
            if wrong := self._told(value):
                yield Violation(path, wrong, "predicate")

    def _told(self, value: Any) -> str | None:
        try:
            verdict = self._test(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (a function of the application, which must not end the process)
            return f"{self.__name__} failed: {shortened(f'{type(error).__name__}: {error}')}"
        if verdict is None or verdict is True:
            return None
        if isinstance(verdict, str):
            return shortened(verdict) or self._wrong
        if verdict is False:
            return self._wrong
        return f"{self.__name__} returned {type(verdict).__name__}, neither True, False, None nor a message"


@overload
def predicate(test: Test) -> Predicate: ...
@overload
def predicate(test: str | None = None, *, message: str | None = None) -> Callable[[Test], Predicate]: ...
def predicate(test: Test | str | None = None, *, message: str | None = None) -> Predicate | Callable[[Test], Predicate]:
    """Make a condition of a function of one value, over the whole answer or over the fields at a JSON pointer.

    In the pointer, `*` stands for every item or key. An answer that is not JSON is a text. The function returns True or
    None where the value will do, False or what is wrong with it where it won't; one that raises is a violation too. It
    runs on the request path, so it must be quick.

    Raises:
        TypeError: it is no plain function of one value.
        ValueError: the field is no JSON pointer.
    """
    if test is None or isinstance(test, str):
        field = test
        return lambda function: Predicate(function, field, message)
    return Predicate(test, None, message)


def _steps(field: str | None) -> tuple[str, ...]:
    try:
        return () if field is None else parse_field(field)
    except ConfigError as error:
        raise ValueError(error.problems[0].message) from None


def _takes_one(test: Test) -> bool:
    try:
        signature = inspect.signature(test)
    except ValueError:  # some that are written in C don't tell
        return True
    except TypeError:
        return False
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True
