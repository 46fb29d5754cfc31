"""The gateway on uvicorn: one socket, strict about the size of a request's head, drained before it stops."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.gateway.settings import GatewaySettings

KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
TOO_LARGE_BODY = (
    b'{"error":{"message":"The request headers are too large.","type":"invalid_request_error",'
    b'"code":"headers_too_large"}}'
)


class BoundedProtocol(HttpToolsProtocol):
    """Hangs up on a head that never ends. httptools itself would keep it all in memory."""

    max_head = 64 * 2**10
    _in_head = False
    _head = 0
    """Bytes of pieces that brought nothing but a part of the head that is being read."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head, self._only_head = True, 0, False

    def on_headers_complete(self) -> None:
        self._in_head = self._only_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._only_head = self._in_head
        super().data_received(data)
        if self._only_head:
            self._head += len(data)
            if self._head > self.max_head and not self.transport.is_closing():
                self.transport.write(TOO_LARGE % (len(TOO_LARGE_BODY), TOO_LARGE_BODY))
                self.transport.close()


class Server(uvicorn.Server):
    """Serves until told to stop. `on_drain` is called when it stops taking connections."""

    def __init__(self, app: Any, settings: GatewaySettings, on_drain: Callable[[], None]) -> None:
        protocol = type("Protocol", (BoundedProtocol,), {"max_head": settings.max_headers})
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                loop="none",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=round(settings.drain),
            )
        )
        self._on_drain = on_drain

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop on SIGTERM and SIGINT without raising them again, so that what comes after serving still happens."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_drain()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Port 0 takes a free one.

    Raises:
        OSError: the address is not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener
