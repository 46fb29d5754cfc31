"""Guards that are Python functions of the application: "package.module:name"."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.guards.base import PASS, Context, Finding, Span, Verdict
from holdfast.guards.failures import GuardFailed
from holdfast.references import find_reference

Function = Callable[[str, Context], object]
"""Gets a text and where it comes from. Returns None or True to let it pass, False to block it, a text to put in its
place, or a Verdict."""


class FunctionGuard:
    """A function as a guard. It sees a stream as a whole, unless its `span` is given, which it then has to keep.

    Python can't interrupt a function, so a time budget is kept around this guard and not in it: whoever runs `check`
    runs it in a thread, waits no longer than the budget, then goes on with what `on_error` says and forgets the result.
    The function still runs to its end there, so one that may hang needs timeouts of its own.
    """

    def __init__(self, name: str, function: Function, *, span: Span = "whole") -> None:
        self.name = name
        self.span: Span = span
        self._function = function

    def check(self, text: str, context: Context) -> Verdict:
        """Return what the function says.

        Raises:
            GuardFailed: it raised an error, or returned something else. The error's own words may quote the text, so
                only its type is told.
        """
        try:
            said = self._function(text, context)
        except Exception as error:
            raise GuardFailed(f"{self.name} raised {type(error).__name__}{_where(error)}.") from error
        return self._verdict(text, said)

    def _verdict(self, text: str, said: object) -> Verdict:
        if said is None or said is True:
            return PASS
        if said is False:
            return Verdict("block", f"{self.name} blocks it", findings=_whole(text, self.name, None))
        if isinstance(said, str):
            if said == text:
                return PASS
            return Verdict("rewrite", f"{self.name} rewrites it", text=said, findings=_whole(text, self.name, said))
        if not isinstance(said, Verdict):
            raise GuardFailed(
                f"{self.name} returned a value of the type {type(said).__name__}: expected None, a bool, a text or a "
                "Verdict."
            )
        if said.kind not in ("pass", "rewrite", "block"):
            raise GuardFailed(f"{self.name} returned a Verdict that is neither pass, rewrite nor block.")
        if said.kind == "rewrite" and not isinstance(said.text, str):
            raise GuardFailed(f"{self.name} returned a rewrite without a text.")
        return said


def find_function(reference: str, base: Path) -> Function:
    """Import a function, as `find_reference` does.

    Raises:
        ValueError: it can't be imported, can't be called with a text and a context, or is a coroutine function.
    """
    function = find_reference(reference, base)
    if not callable(function):
        raise ValueError(f"{reference} can't be called: it is of the type {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"{reference} is a coroutine function, and a guard is a plain one: it runs in a thread")
    if not _takes_two(function):
        raise ValueError(f"{reference} must take two arguments: the text, and where it comes from")
    found: Function = function
    return found


def _takes_two(function: Callable[..., Any]) -> bool:
    with suppress(ValueError):  # some that are written in C don't tell
        signature = inspect.signature(function)
        try:
            signature.bind("", Context())
        except TypeError:
            return False
    return True


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace else ""


def _whole(text: str, kind: str, replacement: str | None) -> tuple[Finding, ...]:
    return (Finding(kind, 0, len(text), replacement=replacement),)
