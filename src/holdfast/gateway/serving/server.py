"""The gateway's own ASGI server: one socket, strict about HTTP, drained before it stops."""

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Callable
from email.utils import formatdate

from holdfast.errors import CallError
from holdfast.gateway.serving.connection import Connection
from holdfast.gateway.serving.cycle import App
from holdfast.gateway.serving.tls import Certificate
from holdfast.gateway.settings import GatewaySettings

BACKLOG = 2048
SWEEP_SECONDS = 1.0
UNSENT = 64 * 2**10
"""Bytes that the kernel takes for a caller beyond what its window admits: without a bound megabytes for each."""

HANDSHAKE_SECONDS = 10.0
"""How long a caller may take to begin TLS."""
SHUTDOWN_SECONDS = 600.0
"""How long the end of TLS may take, with all that is still to be sent before. The sweep ends it sooner."""

logger = logging.getLogger(__name__)

Refusal = Callable[[CallError], tuple[int, bytes]]


class Server:
    """Serves an ASGI app until told to stop. `on_drain` is called when it stops taking connections.

    `settings` gives those in force; `refusal` the status and JSON body for a request that could not even be read. With
    a `certificate` it speaks HTTPS.
    """

    def __init__(
        self,
        app: App,
        settings: Callable[[], GatewaySettings],
        refusal: Refusal,
        on_drain: Callable[[], None] = lambda: None,
        certificate: Certificate | None = None,
    ) -> None:
        self.app = app
        self.refusal = refusal
        self.connections: set[Connection] = set()
        self.draining = False
        self.scheme = "http" if certificate is None else "https"
        self.date = b""
        self.closed = asyncio.Event()
        self._settings = settings
        self._on_drain = on_drain
        self._certificate = certificate
        self._stopping = asyncio.Event()
        self._impatient = False

    async def serve(self, listener: socket.socket) -> None:
        """Serve until `stop`; then let what is under way end, at most for the time of `drain` or until `hurry`."""
        self.loop = loop = asyncio.get_running_loop()
        self.address = listener.getsockname()[:2]
        _allow_files()
        self._set_date()
        tls = None if self._certificate is None else self._certificate.context
        server = await loop.create_server(
            lambda: Connection(self),
            sock=listener,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=None if tls is None else SHUTDOWN_SECONDS,
        )
        sweeping = loop.create_task(self._sweep())
        try:
            await self._stopping.wait()
            server.close()
            await self._drain()
        finally:
            sweeping.cancel()
            for connection in list(self.connections):
                connection.break_off()
            self._impatient = False
            await self._until_closed()

    @property
    def max_head(self) -> int:
        """How long the head of a request may be, in bytes."""
        return int(self._settings().max_headers)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()

    def hurry(self) -> None:
        """Stop, and end what is under way at once."""
        self._impatient = True
        self._stopping.set()
        self.closed.set()

    async def _drain(self) -> None:
        self.draining = True
        self._on_drain()
        for connection in list(self.connections):
            if connection.idle:
                connection.transport.close()
        seconds = self._settings().drain
        try:
            async with asyncio.timeout(seconds):
                await self._until_closed()
        except TimeoutError:
            logger.warning("%d calls did not end within %g s", len(self.connections), seconds)

    async def _until_closed(self) -> None:
        while self.connections and not self._impatient:
            self.closed.clear()
            await self.closed.wait()

    async def _sweep(self) -> None:
        """Cut off connections without a request, or whose caller takes nothing of a response, for too long."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._set_date()
            if self._certificate is not None:
                self._certificate.refresh()
            now, caller_idle = self.loop.time(), self._settings().caller_idle
            for connection in list(self.connections):
                connection.sweep(now, caller_idle)

    def _set_date(self) -> None:
        self.date = b"date: " + formatdate(usegmt=True).encode()


def _allow_files() -> None:
    """Let this process open as many files as the system allows it, since every call takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # the most a system says may be more than it grants
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bind(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return `count` sockets that listen on one address. Port 0 takes a free one.

    The system spreads connections over them evenly: those who share one socket race for each connection, and the
    busiest, who is awake, wins.

    Raises:
        OSError: the address is not to be had.
    """
    first = _bound(host, port, shared=False)  # alone, so that an address in use is found out
    if count == 1:
        listeners = [first]
    else:
        with first:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listeners = [_bound(host, first.getsockname()[1], shared=True) for _ in range(count)]
    for listener in listeners:
        listener.listen(BACKLOG)
    return listeners


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # by name: else asyncio leaves Nagle on
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # its connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener
