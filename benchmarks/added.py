"""What a contract adds to a call: `python benchmarks/contracts.py added`.

The whole request path runs in this process, from the caller's arguments to the answer and the call's event, between an
application and a provider that answers at once without a socket. Calls with a contract and without take turns. As
nothing is waited for, what is timed is the CPU of the one thread, which doesn't count what else the machine does.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import uvloop
from checks import ANSWER, SCHEMA
from inprocess import Tally, feature, gateway, model
from report import Table
from resilience import Finding

from holdfast.client import Holdfast
from holdfast.clock import SystemClock
from holdfast.contracts.base import Contract
from holdfast.contracts.load import make_contract
from holdfast.contracts.streaming.watch import Watch
from holdfast.http.base import Headers, HttpRequest

VALID_US, REPAIRED_US, CHUNK_US = 60.0, 1000.0, 10.0
WARM: Final = 200
ROUNDS: Final = 7
"""Turns of all kinds of calls: a shared machine is slow for seconds at a time."""
PIECE: Final = 8
"""Characters of a streamed piece: about two tokens."""
MESSAGE: Final = "How do I reset my password? " * 20

TEXT: Final = json.dumps(ANSWER, ensure_ascii=False)
BROKEN: Final = (
    "Sure! Here it is:\n```json\n"
    + TEXT.replace("stopped working at once. ", "stopped\nworking.\t", 1)[:-1].replace('"note": null', '"note": None,')
    + "}\n```\nIs there anything else?"
)
"""The same in a fence within prose, with raw control characters, a literal of Python and a trailing comma."""


class Provider:
    """A provider without a socket, which answers everything alike: a `Transport`."""

    def __init__(self, text: str) -> None:
        self._whole = Response((_body(text),), b"application/json")
        pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
        self.pieces = len(pieces)
        self._stream = Response((*map(_event, pieces), _END), b"text/event-stream")

    async def send(self, request: HttpRequest, *, connect: float, headers: float) -> "Response":
        return self._stream if b'"stream":true' in request.body else self._whole

    async def aclose(self) -> None:
        pass


class Response:
    """An `HttpResponse` that is all there."""

    status = 200

    def __init__(self, parts: tuple[bytes, ...], kind: bytes) -> None:
        self.headers: Headers = ((b"content-type", kind),)
        self._parts = parts

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    async def read(self, limit: int, seconds: float) -> bytes:
        return b"".join(self._parts)

    async def pieces(self, first: float, idle: float) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part

    def close(self) -> None:
        pass


def _body(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return msgspec.json.encode(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": _USAGE}
    )


def _event(piece: str) -> bytes:
    choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
    return b"data: " + msgspec.json.encode(_CHUNK | {"choices": [choice]}) + b"\n\n"


_USAGE: Final = {"prompt_tokens": 120, "completion_tokens": 230, "total_tokens": 350}
_CHUNK: Final = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_END: Final = (
    b"data: "
    + msgspec.json.encode(_CHUNK | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + b"\n\ndata: [DONE]\n\n"
)


def caller_of(providers: Mapping[str, Provider], contract: Contract) -> Holdfast:
    """Return a gateway with two features a provider: by its name, and with "+" and the contract."""
    clock = SystemClock()
    features = {}
    for name, provider in providers.items():
        only = [model(name, provider, clock)]
        features[name] = feature(name, only)
        features[name + "+"] = feature(name + "+", only, contract=contract)
    return gateway(features, Tally(), clock, random.Random(1))


Call = Callable[[], Awaitable[object]]


async def compared(without: Call, other: Call, calls: int) -> tuple[float, float, float]:
    """Let two calls take turns; return the p50 of each and that of their differences, in microseconds."""
    for _ in range(WARM):
        await without()
        await other()
    taken: tuple[list[int], list[int]] = ([], [])
    for number in range(calls):
        pair = [(without, taken[0]), (other, taken[1])]
        for call, times in pair if number % 2 else reversed(pair):
            start = time.thread_time_ns()
            await call()
            times.append(time.thread_time_ns() - start)
    differences = [second - first for first, second in zip(*taken, strict=True)]
    return (
        statistics.median(taken[0]) / 1000,
        statistics.median(taken[1]) / 1000,
        statistics.median(differences) / 1000,
    )


def measure(calls: int) -> tuple[list[Table], list[Finding]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(calls))


async def _measure(calls: int) -> tuple[list[Table], list[Finding]]:
    providers = {"valid": Provider(TEXT), "broken": Provider(BROKEN)}
    caller = caller_of(providers, make_contract(SCHEMA, name="answer.json"))
    format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}

    def whole(feature: str, **more: Any) -> Call:
        return lambda: caller.chat(feature, MESSAGE, **more)

    def streamed(feature: str, how: str) -> Call:
        async def call() -> str:
            hints = {"stream": how}
            return "".join([chunk.text async for chunk in caller.stream(feature, MESSAGE, hints=hints)])

        return call

    assert (await caller.chat("valid+", MESSAGE)).text == TEXT
    repaired = json.loads((await caller.chat("broken+", MESSAGE)).text)
    assert (repaired["language"], repaired["note"]) == ("en", None)
    chunks = providers["valid"].pieces
    pairs = {
        "valid": (whole("valid"), whole("valid+")),
        "valid, by a `response_format`": (whole("valid"), whole("valid", response_format=format)),
        "repaired": (whole("broken"), whole("broken+")),
        "streamed, passed on": (streamed("valid", "pass"), streamed("valid+", "pass")),
        "streamed, held back": (streamed("valid", "hold"), streamed("valid+", "hold")),
    }
    rounds = [
        {name: await compared(*pair, calls=calls // ROUNDS) for name, pair in pairs.items()} for _ in range(ROUNDS)
    ]
    found = {name: _medians([one[name] for one in rounds]) for name in pairs}
    rows = [
        (name, f"{off:.0f}", f"{on:.0f}", f"{more:+.0f} ({least:+.0f} to {most:+.0f})", f"{on / off:.2f}x")
        for name, (off, on, more, least, most) in found.items()
    ]
    passed, held = found["streamed, passed on"][2] / chunks, found["streamed, held back"][2] / chunks
    alone = _watch_us(calls)
    heads = (f"an answer of {len(TEXT.encode()):,} bytes", "without (us)", "with (us)", "added (us)", "ratio")
    valid, mended = found["valid"][2], found["repaired"][2]
    return [
        Table(
            f"A call with a contract and without: p50, medians of {ROUNDS} rounds, least to greatest",
            heads,
            tuple(rows),
        )
    ], [
        Finding("added to a call whose answer is valid (us)", f"{valid:.0f}", f"< {VALID_US:g}", valid < VALID_US),
        Finding("added where it is repaired (us)", f"{mended:.0f}", f"< {REPAIRED_US:g}", mended < REPAIRED_US),
        Finding(f"added to each of {chunks} chunks passed on (us)", f"{passed:.1f}", f"< {CHUNK_US:g}", passed < 10),
        Finding("added to each chunk held back (us)", f"{held:.1f}", f"< {CHUNK_US:g}", held < CHUNK_US),
        Finding("the stream check alone, each chunk (us)", f"{alone:.1f}", f"< {CHUNK_US:g}", alone < CHUNK_US),
    ]


def _medians(rounds: list[tuple[float, float, float]]) -> tuple[float, float, float, float, float]:
    """Return the medians over rounds, then the least and the greatest difference."""
    off, on, more = zip(*rounds, strict=True)
    return statistics.median(off), statistics.median(on), statistics.median(more), min(more), max(more)


def _watch_us(calls: int) -> float:
    """Return the p50 of the stream check of an answer, divided by its pieces."""
    contract = make_contract(SCHEMA)
    pieces = [TEXT[at : at + PIECE] for at in range(0, len(TEXT), PIECE)]
    taken = []
    for _ in range(calls // 10):
        start = time.thread_time_ns()
        watch = Watch(contract)
        for piece in pieces:
            watch.feed(piece)
        taken.append(time.thread_time_ns() - start)
    return statistics.median(taken) / 1000 / len(pieces)
