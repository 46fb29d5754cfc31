"""What the tests of the Python SDKs share: the same test drives a synchronous client and an asynchronous one."""

import contextlib
import inspect
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel

QUESTION = "How deep is the kelp?"
USER = [{"role": "user", "content": QUESTION}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""
PDF = "JVBERi0xLjQKJSVFT0YK"


class Depth(BaseModel):
    place: str
    metres: int


async def settled(value: Any) -> Any:
    """Return what a client gave, awaited where it is asynchronous."""
    return await value if inspect.isawaitable(value) else value


async def each(stream: Any) -> AsyncIterator[Any]:
    """Iterate over a stream or a page of either kind."""
    stream = await settled(stream)
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


async def listed(stream: Any) -> list[Any]:
    """Return everything that a stream or a page holds."""
    return [item async for item in each(stream)]


@contextlib.asynccontextmanager
async def opened(manager: Any) -> AsyncIterator[Any]:
    """Enter a context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def closed(stream: Any) -> None:
    """Hang up."""
    await settled(stream.close())
