"""An upstream that streams chat completions at a steady pace: `python upstream.py --port P`.

One timer serves all streams, and the events are made in advance, so that a core shared with the load generator can pace
more than 15,000 events a second. `GET /stats` tells whether the pace was kept.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import time
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


class Wheel:
    """Sends every stream its next frame once a turn, at the phase in which it began."""

    def __init__(self, interval: float) -> None:
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
        return json.dumps({"streams": self.streams, "events": self.events, "late": self.late}).encode()


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
        if asked.get("stream"):
            usage = (asked.get("stream_options") or {}).get("include_usage")
            self.pending = iter(self.frames_with_usage if usage else self.frames)
            self.left = len(self.frames_with_usage if usage else self.frames)
            self.transport.write(HEAD)
            self.wheel.join(self)
        else:
            body = self.wheel.stats() if self.path == b"/stats" else payloads.reply()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % len(body) + body)

    def advance(self) -> None:
        self.transport.write(next(self.pending))
        self.left -= 1
        if not self.left:
            self.wheel.leave(self)


def frames(chunks: int, *, usage: bool) -> tuple[bytes, ...]:
    """Return the events of an answer, each in a frame of chunked transfer coding; the last one ends the answer."""
    coded = [b"%x\r\n%s\r\n" % (len(event), event) for event in payloads.events(chunks, usage=usage)]
    return (*coded[:-1], coded[-1] + b"0\r\n\r\n")


async def serve(port: int, chunks: int, interval: float) -> None:
    wheel = Wheel(interval)
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
    args = parser.parse_args()
    gc.disable()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(args.port, args.chunks, args.interval_ms / 1000))


if __name__ == "__main__":
    main()
