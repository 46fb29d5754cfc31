"""Many callers who go on until a budget is used up, while workers are killed under them."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import aiohttp

from acceptance.gateways import Gateway
from acceptance.processes import kill, workers_of
from holdfast.providers.simulated import RunningSimulator

CALLERS = 200
REFUSED_SECONDS = 0.1
"""How long a caller waits who was told that the budget is used up."""
QUIET_SECONDS = 2.0
"""The budget is used up when nothing has reached the provider for so long, and somebody was refused."""
PATIENCE_SECONDS = 90.0

Ask = Callable[[random.Random], tuple[str, Mapping[str, Any]]]
"""Returns the token and the body of a call."""


class Crowd:
    """Callers at `gateway`, each of whom makes one call after the other. `broken` counts calls without an answer."""

    def __init__(self, gateway: Gateway, providers: RunningSimulator, ask: Ask, callers: int = CALLERS) -> None:
        self.url = gateway.url
        self.statuses: Counter[int] = Counter()
        self.limits: Counter[str] = Counter()
        """What those who were refused were told."""
        self.streams = self.broken = 0
        self._providers = providers
        self._ask = ask
        self._callers = callers

    @property
    def arrived(self) -> int:
        """How many requests have reached the provider."""
        return len(self._providers.requests)

    @contextlib.asynccontextmanager
    async def calling(self) -> AsyncIterator["Crowd"]:
        """Call until the block ends."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            callers = [asyncio.create_task(self._call_on(session, seed)) for seed in range(self._callers)]
            try:
                yield self
            finally:
                for caller in callers:
                    caller.cancel()
                ends = await asyncio.gather(*callers, return_exceptions=True)
        failed = [end for end in ends if isinstance(end, Exception)]
        assert not failed, failed

    async def until_arrived(self, count: int) -> None:
        """Wait until so many requests have reached the provider."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.arrived < count:
                await asyncio.sleep(0.01)

    async def until_refused(self, seconds: float = QUIET_SECONDS) -> None:
        """Wait until nothing reaches the provider any more, because the callers are refused."""
        begun = since = time.monotonic()
        arrived, refused = self.arrived, self.statuses[429]
        while time.monotonic() - since < seconds or self.statuses[429] <= refused:
            assert time.monotonic() - begun < PATIENCE_SECONDS, (arrived, self.statuses, self.limits, self.broken)
            await asyncio.sleep(0.02)
            if self.arrived != arrived:
                arrived, refused, since = self.arrived, self.statuses[429], time.monotonic()

    async def _call_on(self, session: aiohttp.ClientSession, seed: int) -> None:
        chance = random.Random(seed)
        while True:
            try:
                status = await self._call(session, *self._ask(chance))
            except (aiohttp.ClientError, ConnectionError):
                self.broken += 1
                await asyncio.sleep(0.05)
                continue
            if status != 200:
                await asyncio.sleep(REFUSED_SECONDS * chance.uniform(0.5, 1.5))

    async def _call(self, session: aiohttp.ClientSession, token: str, body: Mapping[str, Any]) -> int:
        headers = {"authorization": f"Bearer {token}"}
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as response:
            data = await response.read()
        self.statuses[response.status] += 1
        if response.status != 200:
            self.limits[data.decode()] += 1
        elif body.get("stream"):
            self.streams += data.endswith(b"data: [DONE]\n\n")
        return response.status


@contextlib.asynccontextmanager
async def murder(gateway: Gateway, seed: str, every: float) -> AsyncIterator[list[int]]:
    """Kill one of the workers about every so many seconds, until the block ends. Gives the ids of the dead.

    One is always left: those who die young are replaced ever more slowly, and nobody would call any more.
    """
    chance, dead = random.Random(seed), []

    async def go_on() -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * every)
            workers = await asyncio.to_thread(workers_of, gateway)
            if len(workers) > 1:
                victim = chance.choice(workers)
                dead.append(victim.pid)
                await asyncio.to_thread(kill, [victim])

    killing = asyncio.create_task(go_on())
    try:
        yield dead
    finally:
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing


def texts(chance: random.Random, least: int, most: int) -> Iterator[str]:
    """Return words of one letter, so that a word is about as few bytes as can be."""
    return iter(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(least, most)))
