"""A load generator that checks every answer and, in the open loop, counts latency from when a request was due.

    python load.py --port P --body FILE --connections 64                    closed loop
    python load.py --port P --body FILE --connections 64 --rate 1000       open loop
    python load.py --port P --body FILE --connections 200 --stream         streams, one after the other

It prints one JSON object: counts are of the window that follows the warm-up, except `answered` and `errors`, which are
of everything that was sent. Latencies are microseconds.
"""

import argparse
import asyncio
import collections
import gc
import json
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httptools
import payloads
import uvloop
from processes import cpu_seconds, memory_mb
from ticker import Ticker

DRAIN_SECONDS = 90
MAX_CONNECTIONS = 512
FIRST = payloads.TOKEN.encode()


def wire(path: str, headers: Sequence[str], body: bytes) -> bytes:
    """Return a request as it goes over the wire."""
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def plain_fault(body: bytes) -> str | None:
    """Say what is wrong with an answer."""
    return None if payloads.TEXT.encode() in body else "the text of the answer is not the upstream's"


def stream_fault(body: bytes) -> str | None:
    """Say what is wrong with a streamed answer. Nothing may be lost, doubled or added."""
    tokens, done = body.count(FIRST), body.count(b"data: [DONE]")
    if tokens != payloads.TOKENS or done != 1:
        return f"{tokens} of {payloads.TOKENS} tokens and {done} [DONE]"
    return None


class Tally:
    """What was seen. `counting` is on during the window."""

    def __init__(self) -> None:
        self.counting = False
        self.answered = self.bytes = self.events = self.in_window = 0
        self.latencies, self.first, self.gaps = array("Q"), array("Q"), array("Q")
        self.errors: collections.Counter[str] = collections.Counter()
        self.events_per_answer: collections.Counter[int] = collections.Counter()

    def window(self, seconds: float, cpu: float) -> dict[str, Any]:
        return {
            "seconds": round(seconds, 3),
            "requests": self.in_window,
            "rate": round(self.in_window / seconds, 1),
            "events": self.events,
            "cpu_s": round(cpu, 3),
            **_percentiles("", self.latencies),
            **_percentiles("first_", self.first),
            **_percentiles("gap_", self.gaps),
            "gap_max_us": round(max(self.gaps, default=0) / 1000, 1),
        }

    def totals(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "bytes_per_answer": round(self.bytes / self.answered) if self.answered else 0,
            "events_per_answer": dict(self.events_per_answer),
            "errors": dict(self.errors),
        }


def _percentiles(prefix: str, values: "array[int]") -> dict[str, float | None]:
    ranked = sorted(values)
    return {
        f"{prefix}p{p}_us": round(ranked[int((len(ranked) - 1) * p / 100)] / 1000, 1) if ranked else None
        for p in (50, 99)
    }


class Connection(asyncio.Protocol):
    """Sends one request at a time and reads its answer. `on_idle` is called when it may take the next."""

    gaps = False
    """Whether the time between the events of a stream is measured; that costs."""

    def __init__(self, tally: Tally, message: bytes, stream: bool, on_idle: Callable[["Connection"], None]) -> None:
        self.tally, self.message, self.stream, self.on_idle = tally, message, stream, on_idle
        self.busy = False
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, due_ns: int) -> None:
        self.busy, self.due_ns = True, due_ns
        self.pieces: list[bytes] = []
        self.events, self.carry, self.speaking = 0, b"\n", False
        self.last_ns = 0
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.tally.bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.end(f"malformed response: {error}")
            self.transport.abort()

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)
        if self.stream:
            self.count(data)

    def count(self, data: bytes) -> None:
        """Count the events that begin in `data`, also where their first bytes came before it."""
        text = self.carry + data
        self.carry = text[-5:]
        found = text.count(b"\ndata:")
        self.events += found
        if not self.speaking and FIRST in data:
            self.speaking = True
            if self.tally.counting:
                self.tally.first.append(time.monotonic_ns() - self.due_ns)
        if self.tally.counting:
            self.tally.events += found
            if found and self.gaps:
                self.note_gap(time.monotonic_ns())

    def note_gap(self, now: int) -> None:
        """Note the time between the events that came together and those before them."""
        if self.last_ns:
            self.tally.gaps.append(now - self.last_ns)
        self.last_ns = now

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        body = b"".join(self.pieces)
        fault = (stream_fault(body) if self.stream else plain_fault(body)) if status == 200 else None
        self.end(f"status {status}: {body[:200]!r}" if status != 200 else fault)

    def end(self, fault: str | None) -> None:
        tally, self.busy = self.tally, False
        if fault is not None:
            tally.errors[fault] += 1
        else:
            tally.answered += 1
            if self.stream:
                tally.events_per_answer[self.events] += 1
            if tally.counting:
                tally.in_window += 1
                tally.latencies.append(time.monotonic_ns() - self.due_ns)
        if not self.parser.should_keep_alive():
            self.lost = True
            self.transport.close()
        self.on_idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.busy:
            self.end(f"the connection broke: {exc}")


class Load:
    """Drives the connections. In the closed loop an idle connection sends at once, in the open loop what is due."""

    def __init__(self, port: int, message: bytes, *, stream: bool, rate: float) -> None:
        self.port, self.message, self.stream, self.rate = port, message, stream, rate
        self.tally = Tally()
        self.idle: list[Connection] = []
        self.due: collections.deque[int] = collections.deque()
        self.open = self.connecting = 0
        self.stopping = False
        self.tasks: set[asyncio.Task[None]] = set()

    def free(self, connection: Connection) -> None:
        """Take back a connection that may send."""
        if connection.lost:
            self.open -= 1
            if not self.stopping:
                self.connect()
        elif self.rate or self.stopping:
            self.idle.append(connection)
            self.send_due()
        else:
            connection.send(time.monotonic_ns())

    def connect(self) -> None:
        task = asyncio.ensure_future(self._connect())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self) -> None:
        self.open += 1
        self.connecting += 1
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self.tally, self.message, self.stream, self.free), "127.0.0.1", self.port
            )
        except OSError as error:
            self.open -= 1
            self.tally.errors[f"can't connect: {error}"] += 1
            return
        finally:
            self.connecting -= 1
        self.free(connection)

    def send_due(self) -> None:
        while self.due and self.idle:
            connection = self.idle.pop()
            if connection.lost:
                self.open -= 1
            else:
                connection.send(self.due.popleft())
        if len(self.due) > self.connecting and self.open < MAX_CONNECTIONS and not self.stopping:
            self.connect()

    async def run(self, connections: int, warmup: float, seconds: float, pid: int | None) -> dict[str, Any]:
        for _ in range(connections):
            self.connect()
            await asyncio.sleep(min(0.01, warmup / 2 / connections))
        ticker = Ticker(self.rate, self.on_tick) if self.rate else None
        await asyncio.sleep(warmup / 2)
        window = await self.measure(seconds, pid)
        if ticker is not None:
            ticker.close()
        window["backlog"] = len(self.due)
        await self.drain()
        return window | self.tally.totals()

    def on_tick(self, due: int) -> None:
        self.due.append(due)
        self.send_due()

    async def measure(self, seconds: float, pid: int | None) -> dict[str, Any]:
        cpu = cpu_seconds(pid) if pid else 0.0
        start = time.monotonic()
        self.tally.counting = True
        await asyncio.sleep(seconds)
        self.tally.counting = False
        elapsed = time.monotonic() - start
        window = self.tally.window(elapsed, (cpu_seconds(pid) if pid else 0.0) - cpu)
        return window | ({"memory_mb": round(memory_mb(pid), 1)} if pid else {})

    async def drain(self) -> None:
        """Wait for what is under way; what does not come is an error."""
        self.stopping = True
        end = time.monotonic() + DRAIN_SECONDS
        while len(self.idle) < self.open and time.monotonic() < end:
            await asyncio.sleep(0.01)
        if missing := self.open - len(self.idle):
            self.tally.errors["no answer before the end"] += missing
        for connection in self.idle:
            connection.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--header", action="append", default=[], help="such as 'Authorization: Bearer x'")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0 is the closed loop")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--gaps", action="store_true", help="measure the time between the events of a stream")
    parser.add_argument("--warmup", type=float, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--pid", type=int, help="the process tree whose CPU seconds count")
    args = parser.parse_args()
    gc.disable()
    Connection.gaps = args.gaps
    message = wire(args.path, args.header, args.body.read_bytes())
    load = Load(args.port, message, stream=args.stream, rate=args.rate)
    result = uvloop.run(load.run(args.connections, args.warmup, args.seconds, args.pid))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
