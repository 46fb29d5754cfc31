"""One client's connection: HTTP/1.1 in, planned responses out, to the byte and on time.

It works on the bare transport, because the faults do: a reset, a clean close in the middle of a character, silence.
"""

import asyncio
import contextlib
import fcntl
import math
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from holdfast.providers.simulated.faults import Accept
from holdfast.providers.simulated.framing import Frame, frames
from holdfast.providers.simulated.plan import Plan
from holdfast.providers.simulated.providers import Incoming
from holdfast.providers.simulated.recorder import Record, Recorder

MAX_BODY = 64 * 2**20
MAX_HEADERS = 64 * 2**10
_LINGER_NOT = struct.pack("ii", 1, 0)
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)


class Service(Protocol):
    """What a connection needs of its server."""

    recorder: Recorder
    pacer: "Pacer"

    @property
    def accept(self) -> Accept:
        """What happens to new connections."""
        ...

    def opened(self, connection: "Connection") -> int:
        """Take note of a connection and number it."""
        ...

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        ...

    def respond(self, incoming: Incoming, connection: int) -> tuple[Plan, Record]:
        """Plan the response to a request."""
        ...

    def monotonic(self) -> float:
        """Tell the time of the records."""
        ...


class Pacer:
    """Calls back at a time, to the millisecond. What is due in the same one shares a timer, so thousands of paced
    streams cost no more timers than there are milliseconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._slots: dict[int, list[Callable[[], None]]] = {}

    def at(self, due: float, callback: Callable[[], None]) -> None:
        """Call back at `due`, in seconds of the loop's clock, or up to a millisecond later."""
        slot = math.ceil(due * 1000)
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = [callback]
            self.loop.call_at(slot / 1000, self._tick, slot)
        else:
            waiting.append(callback)

    def _tick(self, slot: int) -> None:
        for callback in self._slots.pop(slot):
            callback()


class Connection(asyncio.Protocol):
    """Parses requests and plays the responses, one after the other."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self.service = service
        self.number = 0
        self.paused = False
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Incoming, bool]] = deque()
        self._playing: Playback | None = None
        self._deaf = False
        self._kept = False
        self._begin_message()

    # --- the transport's callbacks ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self.number = self.service.opened(self)
        if self.service.accept == "reset":
            self.reset()
        elif self.service.accept == "close":
            transport.close()
        self._deaf = self.service.accept != "serve"

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse("This server speaks HTTP/1.1 and nothing else.")
        except httptools.HttpParserError as error:
            self._refuse(f"This is not an HTTP request: {error}")
        self._play_next()

    def eof_received(self) -> None:
        if self._playing:
            self._playing.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._playing:
            self._playing.hang_up()
        self._waiting.clear()
        self.service.closed(self)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._playing:
            self._playing.resume()

    # --- the parser's callbacks ---------------------------------------------------------------------------------------

    def _begin_message(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._grow(len(url), MAX_HEADERS, "The headers are too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))
        self._grow(len(name) + len(value), MAX_HEADERS, "The headers are too long.")

    def on_headers_complete(self) -> None:
        if ("expect", "100-continue") in self._headers:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._grow(len(body), MAX_BODY, f"The body is longer than {MAX_BODY} bytes.")

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        target = self._target.decode("latin-1")
        incoming = Incoming(method, target, dict(self._headers), b"".join(self._body), self._kept)
        self._kept = True
        self._waiting.append((incoming, self._parser.should_keep_alive()))
        self._begin_message()

    def _grow(self, size: int, limit: int, complaint: str) -> None:
        self._size += size
        if self._size > limit:
            self._refuse(complaint)

    def _refuse(self, complaint: str) -> None:
        if not self._deaf:
            self._deaf = True
            self.transport.write(_BAD_REQUEST % (len(complaint), complaint.encode("ascii", "replace")))
            self.transport.close()

    # --- responses ----------------------------------------------------------------------------------------------------

    def _play_next(self) -> None:
        if self._playing is not None or not self._waiting or self._deaf:
            return
        incoming, keep_alive = self._waiting.popleft()
        plan, record = self.service.respond(incoming, self.number)
        plan.keep_alive = plan.keep_alive and keep_alive and plan.framing != "close"
        if not keep_alive and plan.framing != "close":
            plan.headers.append(("connection", "close"))
        self._playing = Playback(self, plan, record)
        self._playing.play()

    def played(self, keep_alive: bool) -> None:
        """Go on after a complete response."""
        self._playing = None
        if not keep_alive:
            self._deaf = True
            self.transport.close()
        else:
            self.service.pacer.loop.call_soon(self._play_next)

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._playing is None or self._playing.held

    def reset(self) -> None:
        """Reset the connection (RST), dropping what was not sent yet."""
        self._deaf = True
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.transport.abort()

    def unsent(self) -> int:
        """Return the number of bytes that were written but that the client's side has not acknowledged."""
        waiting = self.transport.get_write_buffer_size()
        try:
            queued = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return waiting
        return waiting + int.from_bytes(queued, "little")


class Playback:
    """Plays one plan."""

    def __init__(self, connection: Connection, plan: Plan, record: Record) -> None:
        self.connection = connection
        self.plan = plan
        self.record = record
        self.held = False
        self._frames: list[Frame] = []
        self._next = 0
        self._begun = 0.0
        self._over = False

    def play(self) -> None:
        """Begin."""
        self._frames = frames(self.plan)
        self._begun = self.connection.service.pacer.loop.time()
        self._step()

    def resume(self) -> None:
        """Go on after the client has read what was written."""
        if self._next and not self.held:
            self._step()

    def hang_up(self) -> None:
        """Take note that the client has left."""
        service = self.connection.service
        if self.held and self.record.hung_up_at is None:
            service.recorder.hung_up_on_hold(self.record, service.monotonic())
        elif not self._over:
            service.recorder.end(self.record, "hung_up", service.monotonic())
        self._over = True

    def _step(self) -> None:
        """Write every frame that is due, and come back for the next."""
        if self._over:
            return
        pacer, service = self.connection.service.pacer, self.connection.service
        limit = pacer.loop.time() - self._begun + 0.0005
        while self._next < len(self._frames):
            if self.connection.paused:
                return  # `resume` comes back
            frame = self._frames[self._next]
            if frame.at > limit:
                pacer.at(self._begun + frame.at, self._step)
                return
            self._next += 1
            self._write(frame)
        if service.recorder.watched:
            service.recorder.changed()
        self._finish()

    def _write(self, frame: Frame) -> None:
        record, recorder = self.record, self.connection.service.recorder
        self.connection.transport.write(frame.data)
        if record.headers_at is None:
            record.headers_at = self.connection.service.monotonic()
        if frame.size and record.first_byte_at is None:
            record.first_byte_at = self.connection.service.monotonic()
        record.bytes += frame.size
        record.tokens += frame.tokens
        if recorder.watched:
            recorder.changed()

    def _finish(self) -> None:
        recorder, ending = self.connection.service.recorder, self.plan.ending
        if ending == "hold":
            self.held = True
            recorder.hold(self.record)
        elif ending == "reset":
            self._reset_when_sent(1000)
        else:
            self._over = True
            recorder.end(self.record, "cut" if ending == "cut" else "complete", self.connection.service.monotonic())
            self.connection.played(ending == "complete" and self.plan.keep_alive)

    def _reset_when_sent(self, patience: int) -> None:
        """Reset as soon as the client's side has everything, since a reset would overtake it."""
        service = self.connection.service
        if self._over:
            return
        if patience and self.connection.unsent():
            due = service.pacer.loop.time() + 0.001
            service.pacer.at(due, lambda: self._reset_when_sent(patience - 1))
            return
        self._over = True
        service.recorder.end(self.record, "reset", service.monotonic())
        self.connection.reset()
