"""An outage in simulated time: the whole request path of Holdfast between callers and providers that are made up.

Nothing is really waited for: the event loop's clock leaps from one timer to the next, so an hour takes some minutes.
"""

import asyncio
import contextlib
import random
import selectors
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import payloads
from inprocess import Tally, feature, gateway, model

from holdfast.client import Holdfast
from holdfast.errors import CallError
from holdfast.http.base import Headers, HttpRequest

RATE = 100
"""Calls a second."""
RECOVERY = 20.0
"""Seconds after the outage, in which the model has to be found well."""
FIRST_TOKEN, JITTER, LATE, LATE_TIMES = 0.2, 0.15, 0.05, 10
"""To the first token of a model that is well: seconds, sigma of their lognormal, and which share is how much later."""
REFUSAL = 0.05
"""Seconds to the 503 of one that is not."""
TOKENS = 4


@dataclass(frozen=True)
class Seen:
    """What an outage came to. `back_after` is in seconds, infinite if the model was not asked again."""

    calls: int
    answered: int
    on_dead: int
    hedges: int
    back_after: float


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock leaps to the next timer whenever nothing is ready. It reads no sockets."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Leap(self))

    def time(self) -> float:
        return self.now


class _Leap(selectors.DefaultSelector):
    def __init__(self, loop: LeapingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        self._loop.now += max(0.0, timeout)
        return super().select(0)


class LoopClock:
    """The clock of the loop."""

    def __init__(self, loop: LeapingLoop) -> None:
        self.monotonic = loop.time
        self.now = loop.time


class Provider:
    """A provider without a socket: a `Transport`. Down while `down` says so of the time."""

    def __init__(self, clock: LoopClock, chance: random.Random, down: Callable[[float], bool]) -> None:
        self._clock, self._chance, self._down = clock, chance, down
        self.requests: list[float] = []

    async def send(self, request: HttpRequest, *, connect: float, headers: float) -> "Response":
        now = self._clock.monotonic()
        self.requests.append(now)
        if self._down(now):
            await asyncio.sleep(REFUSAL)
            return Response(503, 0.0)
        first = FIRST_TOKEN * self._chance.lognormvariate(0, JITTER)
        return Response(200, first * LATE_TIMES if self._chance.random() < LATE else first)

    async def aclose(self) -> None:
        pass


class Response:
    """An `HttpResponse`: a short stream, or a 503."""

    headers: Headers = ((b"content-type", b"text/event-stream"),)
    events = tuple(payloads.events(TOKENS, usage=False))

    def __init__(self, status: int, first: float) -> None:
        self.status, self._first = status, first

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    async def read(self, limit: int, seconds: float) -> bytes:
        return b"{}"

    async def pieces(self, first: float, idle: float) -> AsyncIterator[bytes]:
        await asyncio.sleep(self._first)
        for event in self.events:
            yield event

    def close(self) -> None:
        pass


def simulate(seconds: float, rate: int = RATE, seed: int = 1) -> Seen:
    """Let calls come for some seconds while the first of three models is down, and for a while after it is back."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, LeapingLoop)
        return runner.run(_simulate(seconds, rate, seed, LoopClock(loop)))


async def _simulate(seconds: float, rate: int, seed: int, clock: LoopClock) -> Seen:
    back, tally = clock.monotonic() + seconds, Tally()
    chances = [random.Random(f"{seed}:{number}") for number in range(3)]
    dead = Provider(clock, chances[0], lambda now: now < back)
    others = [Provider(clock, chance, lambda _: False) for chance in chances[1:]]
    caller = _gateway([dead, *others], tally, clock, random.Random(seed))
    calls = await _calls(caller, int(seconds * rate), rate)
    answered, hedges = tally.outcomes["answered"], tally.reasons["hedge"]
    on_dead = len(dead.requests)
    await _calls(caller, int(RECOVERY * rate), rate)
    again = [at - back for at in dead.requests if at >= back]
    return Seen(calls, answered, on_dead, hedges, min(again, default=float("inf")))


def _gateway(providers: list[Provider], tally: Tally, clock: LoopClock, chance: random.Random) -> Holdfast:
    names = ("dead", "sound", "spare")
    models = [model(name, provider, clock) for name, provider in zip(names, providers, strict=True)]
    return gateway({"outage": feature("outage", models, hedge=True)}, tally, clock, chance)


async def _calls(caller: Holdfast, count: int, rate: int) -> int:
    """Make calls at a steady rate; return how many when all have ended."""
    under_way: set[asyncio.Task[None]] = set()
    for _ in range(count):
        task = asyncio.create_task(_call(caller))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*under_way)
    return count


async def _call(caller: Holdfast) -> None:
    with contextlib.suppress(CallError):  # its outcome is in the tally
        async for _ in caller.stream("outage", "When does the next ferry leave?"):
            pass
