"""An upstream that streams chat completions at a steady pace: `python upstream.py --port P`.

One timer serves all streams, and the events are made in advance, so that a core shared with the load generator can pace
more than 15,000 events a second. `GET /stats` tells whether the pace was kept.

On demand it fails: `--faults 0.02` lets something befall two of a hundred requests (a 503, a reset, an answer that is
cut in the middle, silence), `--down` answers everything with 503, `--first-ms 30 --late 0.05` begins every answer after
about 30 ms and one of twenty after ten times that.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httptools
import payloads
import uvloop
from ticker import Ticker

TICK = 0.00005
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


FAULTS = ("status", "reset", "cut", "silence")
DOWN = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
LATE_TIMES = 10
JITTER = 0.1
"""Sigma of the lognormal that spreads the first tokens."""


class Chance:
    """What befalls a request, repeatably."""

    def __init__(self, faults: float, first: float, late: float, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.faults, self.first, self.late = faults, first, late
        self.struck: Counter[str] = Counter()

    def fault(self) -> str | None:
        """Return what goes wrong with the next request, None for most."""
        if not self.faults or self.random.random() >= self.faults:
            return None
        fault = "status" if self.faults >= 1 else self.random.choice(FAULTS)
        self.struck[fault] += 1
        return fault

    def delay(self) -> float:
        """Return the seconds before the next answer begins."""
        if not self.first:
            return 0.0
        delay = self.first * self.random.lognormvariate(0, JITTER)
        return delay * LATE_TIMES if self.random.random() < self.late else delay


class Wheel:
    """Sends every stream its next frame once a turn, at the phase in which it began."""

    def __init__(self, interval: float, chance: Chance) -> None:
        self.chance = chance
        self.requests = 0
        self.slots: list[set[Connection]] = [set() for _ in range(max(1, round(interval / TICK)))]
        self.patience_ns = int(interval * 1e9 / 2)
        self.ticker: Ticker | None = None
        self.position = self.open = 0
        self.events = self.streams = self.late = 0

    def join(self, connection: "Connection") -> None:
        self.streams += 1
        self.open += 1
        connection.slot = self.slots[self.position % len(self.slots)]
        connection.slot.add(connection)
        if self.ticker is None:  # without streams the core is left in peace
            self.ticker = Ticker(1 / TICK, self.tick)

    def leave(self, connection: "Connection") -> None:
        if connection in connection.slot:
            connection.slot.discard(connection)
            self.open -= 1
            if not self.open and self.ticker is not None:
                self.ticker.close()
                self.ticker = None

    def tick(self, due_ns: int) -> None:
        """Send what is due. Frames sent more than half a turn after their time count as late."""
        slot = self.slots[self.position % len(self.slots)]
        self.position += 1
        if slot:
            self.events += len(slot)
            if time.monotonic_ns() - due_ns > self.patience_ns:
                self.late += len(slot)
            for connection in tuple(slot):
                connection.advance()

    def stats(self) -> bytes:
        counts = {"streams": self.streams, "events": self.events, "late": self.late, "open": self.open}
        return json.dumps(counts | {"requests": self.requests} | self.chance.struck).encode()


class Connection(asyncio.Protocol):
    """One caller: answers its requests in turn, a stream where it asks for one."""

    def __init__(self, wheel: Wheel, frames: Sequence[bytes], frames_with_usage: Sequence[bytes]) -> None:
        self.wheel = wheel
        self.frames, self.frames_with_usage = frames, frames_with_usage
        self.slot: set[Connection] = set()
        self.parser = httptools.HttpRequestParser(self)
        self.body, self.path = bytearray(), b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.wheel.leave(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        self.body.clear()
        self.path = url

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        asked = json.loads(self.body) if self.body else {}
        if self.path == b"/stats":
            self.write_whole(self.wheel.stats())
            return
        self.wheel.requests += 1
        if (fault := self.wheel.chance.fault()) and self.fail(fault):
            return
        delay = self.wheel.chance.delay()
        if delay:
            asyncio.get_running_loop().call_later(delay, self.answer, asked, fault)
        else:
            self.answer(asked, fault)

    def answer(self, asked: dict[str, Any], fault: str | None) -> None:
        if self.transport.is_closing():
            return
        if not asked.get("stream"):
            self.write_whole(payloads.reply(), cut=fault == "cut")
            return
        usage = (asked.get("stream_options") or {}).get("include_usage")
        frames = self.frames_with_usage if usage else self.frames
        self.cut = fault == "cut"
        self.left = len(frames) // 2 if self.cut else len(frames)
        self.pending = iter(frames)
        self.transport.write(HEAD)
        self.wheel.join(self)

    def write_whole(self, body: bytes, *, cut: bool = False) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(head + (body[: len(body) // 2] if cut else body))
        if cut:
            self.transport.close()

    def fail(self, fault: str) -> bool:
        """Fail before the answer begins; return whether that is all that becomes of it."""
        if fault == "status":
            self.transport.write(DOWN)
        elif fault == "reset":
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.transport.abort()
        return fault != "cut"

    def advance(self) -> None:
        self.transport.write(next(self.pending))
        self.left -= 1
        if not self.left:
            self.wheel.leave(self)
            if self.cut:
                self.transport.close()


def frames(chunks: int, *, usage: bool) -> tuple[bytes, ...]:
    """Return the events of an answer, each in a frame of chunked transfer coding; the last one ends the answer."""
    coded = [b"%x\r\n%s\r\n" % (len(event), event) for event in payloads.events(chunks, usage=usage)]
    return (*coded[:-1], coded[-1] + b"0\r\n\r\n")


async def serve(port: int, chunks: int, interval: float, chance: Chance) -> None:
    wheel = Wheel(interval, chance)
    plain, with_usage = frames(chunks, usage=False), frames(chunks, usage=True)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(wheel, plain, with_usage), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; it is printed")
    parser.add_argument("--chunks", type=int, default=payloads.CHUNKS)
    parser.add_argument("--interval-ms", type=float, default=10)
    parser.add_argument("--faults", type=float, default=0, help="the share of requests that something befalls")
    parser.add_argument("--down", action="store_true", help="answer every request with 503")
    parser.add_argument("--first-ms", type=float, default=0, help="when an answer begins, spread a little")
    parser.add_argument("--late", type=float, default=0, help="the share that begins ten times as late")
    args = parser.parse_args()
    gc.disable()
    chance = Chance(1 if args.down else args.faults, args.first_ms / 1000, args.late)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(args.port, args.chunks, args.interval_ms / 1000, chance))


if __name__ == "__main__":
    main()
