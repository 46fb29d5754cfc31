"""A caller's connection: HTTP/1.1 on httptools, its requests answered in turn. Strict, and made for the hot path."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from collections import deque
from typing import Any, Final, Protocol
from urllib.parse import unquote

import httptools

from holdfast.errors import CallError, HeadersTooLarge, InvalidRequest
from holdfast.gateway.serving.cycle import STATUS_LINES, Cycle
from holdfast.gateway.serving.cycle import Host as CycleHost
from holdfast.privacy.memories import remembering

IDLE_SECONDS: Final = 75.0
"""How long a connection is kept without a request."""
HEAD_SECONDS: Final = 30.0
"""How long the head of a request may take to arrive."""
LINGER_SECONDS: Final = 2.0
"""How long a caller whose request was refused half-read may go on sending: a reset would destroy the refusal."""
PIPELINE: Final = 16
"""Requests that may wait on one connection before it is no longer read."""
HIGH_WATER: Final = 256 * 2**10
"""Bytes of a body that may wait for the app before the connection is no longer read."""
LONG_URL: Final = 256
"""Bytes from which on the parts of a URL are not remembered."""

_VERSIONS: Final = frozenset(("1.1", "1.0"))
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_REFUSAL: Final = b"%s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n\r\n%s"


class Host(CycleHost, Protocol):
    """What the connections of a server share."""

    connections: "set[Connection]"
    closed: asyncio.Event
    """Set whenever a connection is closed."""

    @property
    def max_head(self) -> int:
        """How long the head of a request may be, in bytes."""
        ...

    def refusal(self, error: CallError) -> tuple[int, bytes]:
        """Return the status and JSON body for a request that could not even be read."""
        ...


class Connection(asyncio.Protocol):
    """One connection. Requests that came together are answered one after another."""

    transport: asyncio.Transport

    def __init__(self, host: Host) -> None:
        self.host = host
        self.expires = host.loop.time() + HEAD_SECONDS
        """When the sweep may close it, on the loop's clock. No task of the app is ever cut by it."""
        self._parser = httptools.HttpRequestParser(self)
        self._in_head = True
        self._only_head = True
        """Whether the piece of data at hand has brought nothing but a part of a head."""
        self._head_bytes = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._reading: Cycle | None = None
        """The cycle whose body is being read."""
        self._cycles: deque[Cycle] = deque()
        self._paused = False
        self._closing = False
        self._unsent = 0
        """Bytes that the caller had not taken at the last sweep."""
        self.drained: asyncio.Future[None] | None = None
        """Pending while the caller reads more slowly than the app writes, else None."""

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports are no asyncio.Transport
        self.host.connections.add(self)
        if self.host.draining:  # TLS took its time
            self.expires = self.host.loop.time() + LINGER_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        self.host.connections.discard(self)
        self.host.closed.set()
        self._release()
        for cycle in self._cycles:
            cycle.hang_up()
        self._cycles.clear()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._only_head = self._in_head
        unread = self._feed(data)
        while unread is not None:
            unread = self._feed(unread)
        if self._only_head:  # httptools keeps a head in memory however long it gets
            self._head_bytes += len(data)
            if self._head_bytes > self.host.max_head:
                self._refuse(HeadersTooLarge(f"The request headers are larger than {self.host.max_head} bytes."))
        self._begin_next()

    def eof_received(self) -> None:
        """Close: a caller who ends its side has hung up."""

    def pause_writing(self) -> None:
        if self.drained is None:
            self.drained = self.host.loop.create_future()

    def resume_writing(self) -> None:
        self._release()
        if not self._serving:
            self._begin_next()
            self.read_on()

    def _release(self) -> None:
        if self.drained is not None:
            if not self.drained.done():
                self.drained.set_result(None)
            self.drained = None

    # --- httptools ---

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer: nobody asked for one, and it must not pass for a header
            return
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = self._only_head = False
        parser = self._parser
        if parser.should_upgrade():
            return  # see _decline_upgrade
        version, url = parser.get_http_version(), self._url
        if version not in _VERSIONS:
            raise ValueError("it must be HTTP/1.1 or HTTP/1.0")
        path, query = _known_target(url) if len(url) < LONG_URL else _target(url)
        method, keep_alive = parser.get_method().decode("ascii"), parser.should_keep_alive()
        cycle = self._reading = Cycle(self, method, path, query, version, self._headers, keep_alive)
        self._cycles.append(cycle)
        if len(self._cycles) >= PIPELINE:
            self._pause()

    def on_body(self, body: bytes) -> None:
        cycle = self._reading
        if cycle is not None and cycle.feed(body) > HIGH_WATER:
            self._pause()

    def on_message_complete(self) -> None:
        cycle = self._reading
        if cycle is not None:
            cycle.finish()
            self._reading = None
        self._in_head = True

    # --- for the cycles ---

    def read_on(self) -> None:
        """Go on reading: the app has taken what there was."""
        if self._paused and not self._closing:
            self._paused = False
            self.transport.resume_reading()

    def answered(self, cycle: "Cycle") -> None:
        """Go on with the next request, after the response of `cycle` is written."""
        self._cycles.popleft()
        if not cycle.keep_alive or self.host.draining or self._closing:
            self._leave(linger=not cycle.complete)
            return
        self.expires = self.host.loop.time() + IDLE_SECONDS
        if self._cycles:
            self._begin_next()
        if self._paused and self.drained is None:
            self.read_on()

    def break_off(self) -> None:
        """End the connection in a way that no caller takes for the end of an answer."""
        self._closing = True
        self.transport.abort()

    # --- life ---

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._cycles

    def sweep(self, now: float, caller_idle: float) -> None:
        """Close it if no request comes, or if the caller takes nothing of what is ready for `caller_idle` seconds."""
        if self._serving and self.drained is None:  # the app is at work, or the caller keeps up with it
            self._unsent = 0
            return
        unsent = _untaken(self.transport)
        if unsent != self._unsent:
            self._unsent, self.expires = unsent, now + (caller_idle if unsent else IDLE_SECONDS)
            return
        closing = self.transport.is_closing()  # and over TLS waits for the caller to say goodbye, too
        if closing and not unsent:
            self.expires = min(self.expires, now + LINGER_SECONDS)
        if self.expires < now and unsent:
            self._reset()
        elif self.expires < now and closing:
            self.transport.abort()
        elif self.expires < now:
            self.transport.close()

    def _reset(self) -> None:
        """End it so that the kernel, too, forgets what was not taken."""
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.break_off()

    @property
    def _serving(self) -> bool:
        return bool(self._cycles) and self._cycles[0].started

    def _begin_next(self) -> None:
        """Let the app begin with the next request, unless the last response still waits to be taken."""
        if self._cycles and self.drained is None and not (cycle := self._cycles[0]).started:
            cycle.start()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _no_more_requests(self) -> None:
        for cycle in self._cycles:
            cycle.keep_alive = False

    def _feed(self, data: bytes) -> bytes | None:
        """Parse; return what is to be parsed again."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(InvalidRequest(f"This is not HTTP/1.1: {error}"))
        return None

    def _decline_upgrade(self, rest: bytes) -> bytes | None:
        """Return a request without its wish for another protocol, which a server may ignore (RFC 9110, 7.8)."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(InvalidRequest("This is no proxy."))
            return None
        kept = [name + b": " + value for name, value in self._headers if name != b"upgrade"]
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([b"%s %s HTTP/1.1" % (method, self._url), *kept, b"", rest])

    def _refuse(self, error: CallError) -> None:
        """Refuse what can't be read, and everything after it. What came whole before it is still answered."""
        if self._closing:
            return
        broken, self._reading = self._reading, None
        if broken is not None:
            if broken.answering:
                self.break_off()
                return
            broken.hang_up()
            self._cycles.remove(broken)
        if self._cycles:
            self._no_more_requests()
        else:
            status, body = self.host.refusal(error)
            self.transport.write(_REFUSAL % (STATUS_LINES[status], len(body), self.host.date, body))
            self._leave(linger=True)
        self._closing = True

    def _leave(self, *, linger: bool) -> None:
        """Close; with `linger` only when the caller has had time to read the response, though it is still sending."""
        self._closing = True
        self._cycles.clear()
        self.expires = self.host.loop.time() + IDLE_SECONDS
        if linger and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            if self._paused:
                self.transport.resume_reading()
            self.host.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _untaken(transport: asyncio.Transport) -> int:
    """Return how many bytes wait to be sent or acknowledged.

    The kernel is asked too: it comes for more only when it has sent much of what it has, so that a slow caller would
    seem to take nothing for a long time.
    """
    waiting = transport.get_write_buffer_size()
    try:
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return waiting
    return waiting + int.from_bytes(queued, sys.byteorder)


def _target(url: bytes) -> tuple[str, bytes]:
    """Return the path and the query string. Raises httptools.HttpParserInvalidURLError."""
    target: Any = httptools.parse_url(url)  # a part that is missing is None, whatever its types say
    path = (target.path or b"/").decode("ascii", "replace")
    return unquote(path) if "%" in path else path, target.query or b""


_known_target = remembering(256)(_target)
