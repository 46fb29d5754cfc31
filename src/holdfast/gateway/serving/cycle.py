"""One request and its response on a connection: what the ASGI app is given, and what becomes of its answer on the wire.

What it does beyond ASGI: the task of a caller who hangs up is cancelled, an app may take a body that has arrived and
give a whole response in one step each (`scope["extensions"][DIRECT]`, a `Direct`, says so), and a response's head
leaves together with the first piece of its body.
"""

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

Headers = list[tuple[bytes, bytes]]

DIRECT: Final = "holdfast.direct"
STATUS_LINES: Final = {status: f"HTTP/1.1 {status} ".encode() for status in range(100, 600)} | {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in http.HTTPStatus
}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = b"connection: close\r\n"
_RESPONSE: Final = b"%b\r\n%bcontent-length: %d\r\n%b%b\r\n\r\n%b"
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What the cycles of a server share."""

    app: App
    loop: asyncio.AbstractEventLoop
    draining: bool
    scheme: str
    """"https" where it serves that itself."""
    address: tuple[str, int]
    """Where it listens."""
    date: bytes
    """The Date header."""


class Line(Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport
    drained: asyncio.Future[None] | None
    """Pending while the caller reads more slowly than the app writes, else None."""

    @property
    def host(self) -> Host:
        """What all of them share."""
        ...

    def read_on(self) -> None:
        """Go on reading: the app has taken what there was."""
        ...

    def answered(self, cycle: "Cycle") -> None:
        """Go on with the next request, after the response of `cycle` is written."""
        ...

    def break_off(self) -> None:
        """End the connection in a way that no caller takes for the end of an answer."""
        ...


class Direct(Protocol):
    """What an app may do in one step where ASGI takes several. Its task is cancelled when the caller hangs up."""

    def body(self) -> bytes | None:
        """Take the body. None if it has not arrived as a whole: it is to be received."""
        ...

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole response. `head` are its headers, each a line with its CRLF, without `content-length`."""
        ...

    def write(self, data: bytes) -> asyncio.Future[None] | None:
        """Send a piece of a response that was begun, not the last. Return what to wait for while the caller is slow."""
        ...


class Cycle:
    """One request and its response: the two callables that the app is given, and its `Direct`."""

    started = False
    answering = False
    """Whether the response has begun."""
    complete = False
    """Whether the whole request has arrived."""
    _size = 0
    _asked = False
    _more: asyncio.Future[None] | None = None
    _task: asyncio.Task[None] | None = None
    _gone = False
    _head: bytes | None = None
    _chunked = False
    _taken = False
    _done = False

    def __init__(
        self, line: Line, method: str, path: str, query: bytes, version: str, headers: Headers, keep_alive: bool
    ) -> None:  # by position: names cost a class more than they do a function
        self.keep_alive = keep_alive
        self._line = line
        self._method = method
        self._path = path
        self._query = query
        self._version = version
        self._headers = headers
        self._body: list[bytes] = []

    # --- for the connection ---

    def start(self) -> None:
        """Let the app begin. The body may still be on its way."""
        self.started = True
        self._task = self._line.host.loop.create_task(self._run())

    def feed(self, body: bytes) -> int:
        """Take a piece of the body, and return how many bytes wait for the app."""
        self._body.append(body)
        self._size += len(body)
        if self._more is not None:
            self._wake()
        return self._size

    def finish(self) -> None:
        """The request is complete."""
        self.complete = True
        if self._more is not None:
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
        line = self._line
        host = line.host
        scope = {  # not kept: it refers to the cycle
            "type": "http",
            "asgi": _ASGI,
            "http_version": self._version,
            "method": self._method,
            "scheme": host.scheme,
            "server": host.address,
            "path": self._path,
            "query_string": self._query,
            "headers": self._headers,
            "extensions": {DIRECT: self},
        }
        try:
            await host.app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._gone:
                line.break_off()
            return
        except Exception:
            logger.exception("the app failed")
        if self._gone:
            return
        if self._done:
            line.answered(self)
        else:
            line.break_off()

    # --- for the app ---

    def body(self) -> bytes | None:
        """Take the body if it has arrived as a whole."""
        if self._taken or not self.complete:
            return None
        self._taken = True
        return self._take()

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole response."""
        if self._gone:
            return
        line, close = self._line, b"" if self._persists() else _CLOSE
        shown = b"" if self._method == "HEAD" else body
        self.answering = self._done = True
        line.transport.write(_RESPONSE % (STATUS_LINES[status], head, len(body), close, line.host.date, shown))

    def write(self, data: bytes) -> asyncio.Future[None] | None:
        """Send a piece of a response that was begun, not the last."""
        if self._gone:
            return None
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        line = self._line
        self._put(line, data)
        return line.drained

    async def receive(self) -> Message:
        """Return the next piece of the body; when it is complete, wait until the caller hangs up."""
        if not (self.complete or self._asked):
            self._ask_for_body()
        while not (self._body or (self.complete and not self._taken) or self._gone):
            self._more = self._line.host.loop.create_future()
            await self._more
        if self._gone:
            return {"type": "http.disconnect"}
        self._taken = self.complete
        return {"type": "http.request", "body": self._take(), "more_body": not self.complete}

    async def send(self, message: Message) -> None:
        """Write the response. Waits while the caller is slower than the app."""
        if self._gone:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
        elif not message.get("more_body", False):
            self._end(message.get("body", b""))
        elif (drained := self.write(message.get("body", b""))) is not None:
            await drained

    def _take(self) -> bytes:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body, self._size = [], 0
        self._line.read_on()
        return body

    def _ask_for_body(self) -> None:
        """Tell a caller who waits for it to go on."""
        self._asked = True
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers):
            self._line.transport.write(_CONTINUE)

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the head of a response, which leaves with the first piece of its body."""
        lines, sized = [STATUS_LINES[status]], False
        for name, value in headers:
            lines.append(name + b": " + value)
            if name == b"content-length":
                sized = True
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
        if not sized:
            if self._version == "1.1":
                self._chunked = self._method != "HEAD"
                lines.append(b"transfer-encoding: chunked")
            else:
                self.keep_alive = False
        if not self._persists():
            lines.append(b"connection: close")
        lines.append(self._line.host.date)
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"

    def _end(self, data: bytes) -> None:
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        self._put(self._line, data)
        self._done = True

    def _put(self, line: Line, data: bytes) -> None:
        """Write a piece of the body as it is framed, after the head if that has not left."""
        if self._method == "HEAD":
            data = b""
        if self._head is not None:
            data, self._head = self._head + data, None
        if data:
            self.answering = True
            line.transport.write(data)

    def _persists(self) -> bool:
        """Decide whether the connection takes another request."""
        if not (self.keep_alive and self.complete) or self._line.host.draining:
            self.keep_alive = False
        return self.keep_alive
