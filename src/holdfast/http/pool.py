"""The upstream transport: kept-alive connections to every host, with a limit for each."""

import asyncio
import ssl
from collections import deque
from contextlib import suppress
from functools import lru_cache

from holdfast.errors import ConnectionFailed, PhaseTimeout
from holdfast.http.base import HttpRequest
from holdfast.http.connection import Connection
from holdfast.http.egress import Egress
from holdfast.http.failures import connection_failed
from holdfast.http.response import PooledResponse
from holdfast.http.target import Origin, resolve

MOST_CONNECTIONS = 8192
"""To one host. It is for the gateway's own limits to hold calls back; this one only keeps a runaway from the host."""


class PooledTransport:
    """HTTP/1.1 on connections that are kept for the next request. Implements `http.base.Transport`.

    A connection that nothing used for `keep_alive` seconds is closed. At most `limit` connections lead to one host;
    waiting for one of them counts as connecting. `ssl_context` replaces the system's certificate authorities. With an
    `egress` nothing is connected to that is not on its list.
    It belongs to the event loop it is first used on.
    """

    def __init__(
        self,
        *,
        keep_alive: float = 30.0,
        limit: int = MOST_CONNECTIONS,
        ssl_context: ssl.SSLContext | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._keep_alive = keep_alive
        self._limit = limit
        self._ssl_context = ssl_context
        self._egress = egress
        self._pools: dict[Origin, HostPool] = {}
        self._resolve = lru_cache(maxsize=1024)(resolve)
        self._closed = False

    async def send(self, request: HttpRequest, *, connect: float, headers: float) -> PooledResponse:
        origin, _, head, bodiless = self._resolve(request.method, request.url, request.headers)
        body = request.body
        head += b"\r\n" if bodiless and not body else b"content-length: %d\r\n\r\n" % len(body)
        pool = self._pools.get(origin) or self._open_pool(origin)
        connection = pool.take() or await pool.acquire(connect)
        response = connection.send(request.method, head, body)
        await response.begin(headers)
        return response

    async def aclose(self) -> None:
        """Close every connection. Requests that are on their way fail."""
        self._closed = True
        for pool in self._pools.values():
            await pool.aclose()

    def _open_pool(self, origin: Origin) -> "HostPool":
        if self._closed:
            raise ConnectionFailed("The transport is closed.")
        if self._egress is not None:
            self._egress.check(origin.host)
        context = self._tls() if origin.scheme == "https" else None
        pool = self._pools[origin] = HostPool(origin, self._limit, self._keep_alive, context)
        return pool

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context


class HostPool:
    """The connections to one origin. A slot is a connection that is open or being opened."""

    def __init__(self, origin: Origin, limit: int, keep_alive: float, context: ssl.SSLContext | None) -> None:
        self._origin = origin
        self._slots = limit
        self._keep_alive = keep_alive
        self._context = context
        self._idle: dict[Connection, None] = {}  # last in, first out, so that what a burst opened can expire
        self._open: set[Connection] = set()
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False
        self._emptied = asyncio.Event()

    def take(self) -> Connection | None:
        """Return an idle connection."""
        while self._idle:
            connection = self._idle.popitem()[0]
            if not connection.closed:
                return connection
        return None

    async def acquire(self, seconds: float) -> Connection:
        """Return a connection within `seconds`. Raises PhaseTimeout (phase "connect") and ConnectionFailed."""
        try:
            async with asyncio.timeout(seconds) as timer:
                while (connection := await self._slot()) is not None:
                    if not connection.closed:
                        return connection
                return await self._connect()
        except (OSError, EOFError) as error:  # a TimeoutError is an OSError, the timer's and the network's alike
            if timer.expired():
                raise PhaseTimeout("connect", seconds) from error
            raise connection_failed(error, self._origin.place) from error

    async def aclose(self) -> None:
        """Close every connection and wait until they are closed."""
        self._closed = True
        self._emptied.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        for connection in tuple(self._open):
            connection.fail("The transport was closed.")
        if self._open:
            await self._emptied.wait()

    async def _slot(self) -> Connection | None:
        """Wait for a connection that became idle, or None: the right to open one."""
        if self._slots > 0:
            self._slots -= 1
            return None
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.cancelled():
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            else:
                self._give_back(waiter.result())
            raise

    async def _connect(self) -> Connection:
        try:
            connection = await self._handshake()
        except BaseException:
            self._give_back(None)
            raise
        return connection

    async def _handshake(self) -> Connection:
        origin, tls = self._origin, self._context is not None
        if self._closed:
            raise ConnectionFailed("The transport is closed.")
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(origin.place, self._on_idle, self._on_lost),
            origin.host,
            origin.port,
            ssl=self._context,
            server_hostname=origin.host if tls else None,
        )
        if connection.closed or self._closed:
            transport.abort()
            raise connection_failed(None, origin.place)
        self._open.add(connection)
        return connection

    def _on_idle(self, connection: Connection) -> None:
        connection.watch(self._keep_alive)
        self._give_back(connection)

    def _on_lost(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        if connection in self._open:
            self._open.remove(connection)
            self._give_back(None)
        if not self._open:
            self._emptied.set()

    def _give_back(self, connection: Connection | None) -> None:
        """Hand a connection, or the right to open one, to whoever has waited longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._slots += 1
        elif not connection.closed:
            self._idle[connection] = None
