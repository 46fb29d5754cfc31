"""What a feature answers when no model can: a text that is known beforehand, or what a function says of the call."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Final, NoReturn, Protocol

import msgspec

from holdfast.chat import Request
from holdfast.errors import CallError, InternalError
from holdfast.gateway.function import Function, find_function
from holdfast.gateway.settings import LastResort

THREADS: Final = 32
"""Functions that may run at once, each in a thread of its own."""

logger = logging.getLogger(__name__)


class Resort(Protocol):
    """A last resort that is ready to answer."""

    async def answer(self, request: Request, error: CallError) -> str:
        """Return the text that stands for the answer. It takes what time it takes: bound it.

        Raises:
            InternalError: it has no answer for this call. The log of the process says why.
        """
        ...


def ready(settings: LastResort, text: Callable[[str], str], base: Path) -> Resort:
    """Return the last resort of a feature. `text` gives the text of a file, `base` is the folder of `holdfast.toml`.

    Raises:
        ValueError: the function can't be used, and why.
    """
    if settings.function is not None:
        return Computed(settings.function, find_function(settings.function, base))
    if settings.file is not None:
        return Fixed(text(settings.file))
    return Fixed(settings.message if settings.message is not None else _json(settings.object))


class Fixed(msgspec.Struct, frozen=True):
    """A last resort that is the same for every call. It never waits."""

    text: str

    async def answer(self, request: Request, error: CallError) -> str:
        """Return the text."""
        return self.text


class Computed:
    """A last resort that a function finds. One that is no coroutine function runs in a thread."""

    def __init__(self, name: str, function: Function) -> None:
        self._name = name
        self._function = function
        self._asynchronous = inspect.iscoroutinefunction(function)
        self._free = asyncio.Semaphore(THREADS)

    async def answer(self, request: Request, error: CallError) -> str:
        """Return what the function says. Raises InternalError."""
        try:
            return _text(await self._call(request, error.code))
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            self._fail("it was cancelled")  # by itself, and not because its caller was
        except Exception as failure:  # noqa: BLE001 (logged)
            self._fail(failure)

    def _fail(self, why: object) -> NoReturn:
        logger.error("the last resort %s failed: %s", self._name, why, exc_info=isinstance(why, Exception))
        raise InternalError(f"The last resort {self._name} failed.")

    async def _call(self, request: Request, code: str) -> object:
        if self._asynchronous:
            said = self._function(request, code)
        else:
            await self._free.acquire()
            said = await _in_thread(self._function, request, code, self._free.release)
        return await said if inspect.isawaitable(said) else said


async def _in_thread(function: Function, request: Request, code: str, ended: Callable[[], object]) -> object:
    """Run a function in a thread that keeps nothing else waiting if it never ends: not even the process's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()
    context = copy_context()

    def tell(said: object, failure: BaseException | None) -> None:
        ended()
        if not done.done():
            done.set_result((said, failure))

    def run() -> None:
        said: object = None
        failure: BaseException | None = None
        try:
            said = context.run(function, request, code)
        except BaseException as error:  # noqa: BLE001 (told to who waits)
            failure = error
        with suppress(RuntimeError):  # the gateway has stopped
            loop.call_soon_threadsafe(tell, said, failure)

    try:
        threading.Thread(target=run, name="last-resort", daemon=True).start()
    except RuntimeError:  # there are too many already
        ended()
        raise
    said, failure = await done
    if failure is not None:
        raise failure if isinstance(failure, Exception) else RuntimeError(f"{type(failure).__name__}: {failure}")
    return said


def _text(said: object) -> str:
    if isinstance(said, dict | list):
        return _json(said)
    if not isinstance(said, str):
        raise TypeError(f"expected a text, or a dict or list for JSON, got {type(said).__name__}")
    said.encode()  # a text that no wire can carry is an error here and not there
    return said


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
