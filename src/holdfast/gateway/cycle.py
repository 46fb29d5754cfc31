"""One request and its response on a connection: what the ASGI app is given, and what becomes of its answer on the wire.

What it does beyond ASGI: the task of a caller who hangs up is cancelled (`scope["extensions"][CANCELS]` says so),
`scope["extensions"][WHOLE]` says that the body has arrived, and a response's head leaves together with the first piece
of its body.
"""

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

CANCELS: Final = "holdfast.cancels"
WHOLE: Final = "holdfast.whole"
EXTENSIONS: Final[Mapping[str, Mapping[str, object]]] = {CANCELS: {}}
WITH_BODY: Final[Mapping[str, Mapping[str, object]]] = {CANCELS: {}, WHOLE: {}}
STATUS_LINES: Final = {status: f"HTTP/1.1 {status} ".encode() for status in range(100, 600)} | {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in http.HTTPStatus
}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

logger = logging.getLogger(__name__)


class Host(Protocol):
    """What the cycles of a server share."""

    app: App
    loop: asyncio.AbstractEventLoop
    draining: bool
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


class Cycle:
    """One request and its response: the two callables that the app is given."""

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

    def __init__(self, line: Line, scope: Message, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._line = line
        self._scope = scope
        self._body: list[bytes] = []

    # --- for the connection ---

    def start(self) -> None:
        """Let the app begin. The body may still be on its way."""
        self.started = True
        if self.complete:
            self._scope["extensions"] = WITH_BODY
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
        try:
            await line.host.app(self._scope, self.receive, self.send)
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
        body, self._body, self._size = b"".join(self._body), [], 0
        self._line.read_on()
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: Message) -> None:
        """Write the response. Waits while the caller is slower than the app."""
        if self._gone:
            return
        if message["type"] == "http.response.start":
            self._head = self._write_head(message["status"], message["headers"])
            return
        line, more = self._line, message.get("more_body", False)
        data = self._frame(message.get("body", b""), more)
        if self._head is not None:
            data, self._head = self._head + data, None
        if data:
            self.answering = True
            line.transport.write(data)
        if not more:
            self._done = True
        elif line.drained is not None:
            await line.drained

    def _ask_for_body(self) -> None:
        """Tell a caller who waits for it to go on."""
        self._asked = True
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._scope["headers"]):
            self._line.transport.write(_CONTINUE)

    def _frame(self, body: bytes, more: bool) -> bytes:
        if self._scope["method"] == "HEAD":
            return b""
        if not self._chunked:
            return body
        piece = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        return piece if more else piece + b"0\r\n\r\n"

    def _write_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        lines, sized = [STATUS_LINES[status]], False
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
        host = self._line.host
        if not (self.keep_alive and self.complete) or host.draining:
            self.keep_alive = False
            lines.append(b"connection: close")
        lines.append(host.date)
        return b"\r\n".join(lines) + b"\r\n\r\n"
