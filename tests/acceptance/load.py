"""Many callers at once, each of whom notes which answers were complete, and when."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec

QUESTION = [{"role": "user", "content": "How deep is the kelp?"}]


class Done(msgspec.Struct, frozen=True):
    """A call that was answered completely, at `at` seconds of the monotonic clock."""

    call: str
    at: float
    streamed: bool


class Load:
    """What callers at `url` experience. `broken` counts the calls that ended without an answer of any kind."""

    def __init__(self, url: str, model: str = "gpt") -> None:
        self.done: list[Done] = []
        self.refused: list[int] = []
        """The statuses of errors."""
        self.broken = 0
        self._url = f"{url}/v1/chat/completions"
        self._model = model
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, callers: int = 24) -> AsyncIterator["Load"]:
        """Call without a pause, until the block ends. Every other caller streams."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            calling = [asyncio.create_task(self._call_on(session, n % 2 == 1)) for n in range(callers)]
            try:
                yield self
            finally:
                for task in calling:
                    task.cancel()
                await asyncio.gather(*calling, return_exceptions=True)

    async def answers(self, more: int, seconds: float = 10.0) -> None:
        """Wait until so many more calls have been answered."""
        wanted = len(self.done) + more
        async with asyncio.timeout(seconds):
            while len(self.done) < wanted:
                self._changed.clear()
                await self._changed.wait()

    async def _call_on(self, session: aiohttp.ClientSession, streamed: bool) -> None:
        while True:
            try:
                await self._call(session, streamed)
            except aiohttp.ClientError:
                self.broken += 1
                await asyncio.sleep(0.01)  # nobody listens: leave the machine to those who start
            self._changed.set()

    async def _call(self, session: aiohttp.ClientSession, streamed: bool) -> None:
        body = {"model": self._model, "messages": QUESTION, "stream": streamed}
        async with session.post(self._url, json=body) as response:
            data = await response.read()
        if response.status != 200:
            self.refused.append(response.status)
        elif streamed and not data.endswith(b"data: [DONE]\n\n"):
            self.broken += 1
        else:
            self.done.append(Done(response.headers["x-holdfast-call"], time.monotonic(), streamed))
