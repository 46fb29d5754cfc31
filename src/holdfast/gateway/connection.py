"""A caller's connection: HTTP/1.1 on httptools, each request a task of the ASGI app. Strict, and made for the hot path.

What it does beyond ASGI: the task of a caller who hangs up is cancelled (`scope["extensions"][CANCELS]` says so),
`scope["extensions"][WHOLE]` says that the body has arrived, and a response's head leaves together with the first piece
of its body.
"""

import asyncio
import http
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import unquote

import httptools

from holdfast.errors import CallError, HeadersTooLarge, InvalidRequest

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

CANCELS: Final = "holdfast.cancels"
WHOLE: Final = "holdfast.whole"
EXTENSIONS: Final[Mapping[str, Mapping[str, object]]] = {CANCELS: {}}
WITH_BODY: Final[Mapping[str, Mapping[str, object]]] = {CANCELS: {}, WHOLE: {}}
IDLE_SECONDS: Final = 75.0
"""How long a connection is kept without a request, or while its caller takes nothing of a response."""
HEAD_SECONDS: Final = 30.0
"""How long the head of a request may take to arrive."""
LINGER_SECONDS: Final = 2.0
"""How long a caller whose request was refused half-read may go on sending: a reset would destroy the refusal."""
PIPELINE: Final = 16
"""Requests that may wait on one connection before it is no longer read."""
HIGH_WATER: Final = 256 * 2**10
"""Bytes of a body that may wait for the app before the connection is no longer read."""

_STATUS: Final = {status: f"HTTP/1.1 {status} ".encode() for status in range(100, 600)} | {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in http.HTTPStatus
}
_VERSIONS: Final = frozenset(("1.1", "1.0"))
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REFUSAL: Final = b"%s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n\r\n%s"

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What the connections of a server share."""

    app: App
    loop: asyncio.AbstractEventLoop
    connections: "set[Connection]"
    draining: bool
    date: bytes
    """The Date header."""
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
        self._expects = False
        self._reading: Exchange | None = None
        """The exchange whose body is being read."""
        self._exchanges: deque[Exchange] = deque()
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

    def connection_lost(self, exc: Exception | None) -> None:
        self.host.connections.discard(self)
        self.host.closed.set()
        self._release()
        for exchange in self._exchanges:
            exchange.hang_up()
        self._exchanges.clear()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._only_head = self._in_head
        unread: bytes | None = data
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
        self._expects = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer: nobody asked for one, and it must not pass for a header
            return
        name = name.lower()
        self._headers.append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects = True

    def on_headers_complete(self) -> None:
        self._in_head = self._only_head = False
        parser = self._parser
        if parser.should_upgrade():
            return  # see _decline_upgrade
        if parser.get_http_version() not in _VERSIONS:
            raise ValueError("it must be HTTP/1.1 or HTTP/1.0")
        target = httptools.parse_url(self._url)
        path = (target.path or b"/").decode("ascii", "replace")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": parser.get_http_version(),
            "method": parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "query_string": target.query or b"",
            "headers": self._headers,
            "extensions": EXTENSIONS,
        }
        exchange = self._reading = Exchange(self, scope, keep_alive=parser.should_keep_alive(), expects=self._expects)
        self._exchanges.append(exchange)
        if len(self._exchanges) >= PIPELINE:
            self._pause()

    def on_body(self, body: bytes) -> None:
        exchange = self._reading
        if exchange is not None and exchange.feed(body) > HIGH_WATER:
            self._pause()

    def on_message_complete(self) -> None:
        if self._reading is not None:
            self._reading.finish()
            self._reading = None
        self._in_head = True

    # --- for the exchanges ---

    def read_on(self) -> None:
        """Go on reading: the app has taken what there was."""
        if self._paused and not self._closing:
            self._paused = False
            self.transport.resume_reading()

    def answered(self, exchange: "Exchange") -> None:
        """Go on with the next request, after the response of `exchange` is written."""
        self._exchanges.popleft()
        if not exchange.keep_alive or self.host.draining or self._closing:
            self._leave(linger=not exchange.complete)
            return
        self.expires = self.host.loop.time() + IDLE_SECONDS
        self._begin_next()
        if self.drained is None:
            self.read_on()

    def break_off(self) -> None:
        """End the connection in a way that no caller takes for the end of an answer."""
        self._closing = True
        self.transport.abort()

    # --- life ---

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._exchanges

    def sweep(self, now: float) -> None:
        """Close it if no request comes, or if the caller takes nothing of what is left of the last response."""
        unsent = self.transport.get_write_buffer_size()
        if self._serving:
            return
        if unsent != self._unsent:
            self._unsent, self.expires = unsent, now + IDLE_SECONDS
        elif self.expires < now:
            self.transport.abort() if unsent else self.transport.close()

    @property
    def _serving(self) -> bool:
        return bool(self._exchanges) and self._exchanges[0].started

    def _begin_next(self) -> None:
        """Let the app begin with the next request, unless the last response still waits to be taken."""
        if self._exchanges and not self._exchanges[0].started and self.drained is None:
            self._exchanges[0].start()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _no_more_requests(self) -> None:
        for exchange in self._exchanges:
            exchange.keep_alive = False

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
            self._exchanges.remove(broken)
        if self._exchanges:
            self._no_more_requests()
        else:
            status, body = self.host.refusal(error)
            self.transport.write(_REFUSAL % (_STATUS[status], len(body), self.host.date, body))
            self._leave(linger=True)
        self._closing = True

    def _leave(self, *, linger: bool) -> None:
        """Close; with `linger` only when the caller has had time to read the response, though it is still sending."""
        self._closing = True
        self._exchanges.clear()
        self.expires = self.host.loop.time() + IDLE_SECONDS
        if linger and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            if self._paused:
                self.transport.resume_reading()
            self.host.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


class Exchange:
    """One request and its response: the two callables that the app is given."""

    def __init__(self, connection: Connection, scope: Message, *, keep_alive: bool, expects: bool) -> None:
        self.keep_alive = keep_alive
        self.started = False
        self.answering = False
        """Whether the response has begun."""
        self.complete = False
        """Whether the whole request has arrived."""
        self._connection = connection
        self._expects = expects
        self._scope = scope
        self._body: list[bytes] = []
        self._size = 0
        self._more: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._gone = False
        self._head: bytes | None = None
        self._chunked = False
        self._taken = False
        self._done = False

    # --- for the connection ---

    def start(self) -> None:
        """Let the app begin. The body may still be on its way."""
        self.started = True
        if self.complete:
            self._scope["extensions"] = WITH_BODY
        self._task = self._connection.host.loop.create_task(self._run())

    def feed(self, body: bytes) -> int:
        """Take a piece of the body, and return how many bytes wait for the app."""
        self._body.append(body)
        self._size += len(body)
        self._wake()
        return self._size

    def finish(self) -> None:
        """The request is complete."""
        self.complete = True
        self._wake()

    def hang_up(self) -> None:
        """The caller is gone."""
        self._gone = True
        self._wake()
        if self._task is not None:
            self._task.cancel()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def _run(self) -> None:
        connection = self._connection
        try:
            await connection.host.app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._gone:
                connection.break_off()
            return
        except Exception:
            logger.exception("the app failed")
        if self._gone:
            return
        if self._done:
            connection.answered(self)
        else:
            connection.break_off()

    # --- for the app ---

    async def receive(self) -> Message:
        """Return the next piece of the body; when it is complete, wait until the caller hangs up."""
        if self._expects and not self.complete:
            self._connection.transport.write(_CONTINUE)
            self._expects = False
        while not (self._body or (self.complete and not self._taken) or self._gone):
            self._more = self._connection.host.loop.create_future()
            await self._more
        if self._gone:
            return {"type": "http.disconnect"}
        self._taken = self.complete
        body, self._body, self._size = b"".join(self._body), [], 0
        self._connection.read_on()
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: Message) -> None:
        """Write the response. Waits while the caller is slower than the app."""
        if self._gone:
            return
        if message["type"] == "http.response.start":
            self._head = self._write_head(message["status"], message["headers"])
            return
        connection, more = self._connection, message.get("more_body", False)
        data = self._frame(message.get("body", b""), more)
        if self._head is not None:
            data, self._head = self._head + data, None
        if data:
            self.answering = True
            connection.transport.write(data)
        if not more:
            self._done = True
        elif connection.drained is not None:
            await connection.drained

    def _frame(self, body: bytes, more: bool) -> bytes:
        if self._scope["method"] == "HEAD":
            return b""
        if not self._chunked:
            return body
        piece = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        return piece if more else piece + b"0\r\n\r\n"

    def _write_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        lines, sized = [_STATUS[status]], False
        for name, value in headers:
            lines.append(name + b": " + value)
            if name == b"content-length":
                sized = True
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
        if not sized:
            if self._scope["http_version"] == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
            else:
                self.keep_alive = False
        if not (self.keep_alive and self.complete) or self._connection.host.draining:
            self.keep_alive = False
            lines.append(b"connection: close")
        lines.append(self._connection.host.date)
        return b"\r\n".join(lines) + b"\r\n\r\n"
