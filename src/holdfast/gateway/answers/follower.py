"""Answers followed as they come, and what could take long, without keeping other calls waiting."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from holdfast.chat import Chunk, ToolCallDelta
from holdfast.contracts.base import Contract, Violation
from holdfast.contracts.streaming.watch import Watch

T = TypeVar("T")

LIGHT: Final = 4 * 2**10
"""Characters of an answer up to which it is repaired within some milliseconds, however it is broken."""
BREATH: Final = 2 * 2**10
"""Characters of an answer that are followed within some milliseconds, whatever they are."""
_ASIDE: Final = ThreadPoolExecutor(1, "contracts", sys.setswitchinterval, (0.0005,))
"""Where what could take long is done: one at a time, and giving way every half millisecond, for the other calls."""


async def aside(do: Callable[..., T], *args: Any, **options: Any) -> T:
    """Do in a thread what could take long."""
    return await asyncio.get_running_loop().run_in_executor(_ASIDE, partial(do, *args, **options))


class Follower:
    """Follows an answer as it comes. Where much comes at once, other calls have their turns in between.

    `tools` are the contracts of the arguments of tools that may be called.
    """

    def __init__(self, watch: Watch | None, tools: Mapping[str, Contract] = {}) -> None:
        self.length = 0
        """How many characters of text came."""
        self._watch = watch
        self._tools = tools
        self._calls: dict[int, Watch] = {}
        self._fed = 0

    async def take(self, chunk: Chunk) -> Violation | None:
        """Return why the answer can't meet its contract any more, as far as a chunk tells."""
        if chunk.text and (violation := await self.feed(chunk.text)) is not None:
            return violation
        for delta in chunk.tool_calls:
            if (violation := self._argued(delta)) is not None:
                return violation
        return None

    def _argued(self, delta: ToolCallDelta) -> Violation | None:
        watch = self._calls.get(delta.index)
        if watch is None and (contract := self._tools.get(delta.name or "")) is not None:
            watch = self._calls[delta.index] = Watch(contract, strict=True)
        return watch.feed(delta.arguments) if watch is not None and delta.arguments else None

    async def feed(self, text: str) -> Violation | None:
        """Do what `Watch.feed` does."""
        self.length += len(text)
        if self._watch is None:
            return None
        self._fed += len(text)
        if self._fed <= BREATH:
            return self._watch.feed(text)
        self._fed = 0
        if len(text) > LIGHT:
            return await aside(self._watch.feed, text)
        await asyncio.sleep(0)
        return self._watch.feed(text)
