"""The same transport on aiohttp, for what the pooled one does not do: upstreams behind an HTTP proxy."""

import asyncio
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from io import BytesIO
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from holdfast.errors import (
    BadRequest,
    ConnectionFailed,
    HoldfastError,
    MalformedResponse,
    Phase,
    PhaseTimeout,
    ProviderError,
)
from holdfast.http.base import Headers, HttpRequest
from holdfast.http.coding import Decoder, decode_all, unfold
from holdfast.http.egress import Egress
from holdfast.http.failures import connection_failed
from holdfast.http.response import HIGH_WATER, MAX_HEAD
from holdfast.http.target import Origin, resolve, user_agent

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_MAX_HEADERS = 1024
_opened: ContextVar[list[socket.socket]] = ContextVar("_opened")


class AiohttpTransport:
    """HTTP/1.1 through aiohttp. Implements `http.base.Transport`; the options are those of `PooledTransport`.

    `proxy` is the URL of an HTTP proxy ("http://host:port") that every request goes through.

    Raises:
        HoldfastError: aiohttp is not installed.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        keep_alive: float = 30.0,
        limit: int = 8192,
        ssl_context: ssl.SSLContext | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._aiohttp = _load()
        self._proxy = proxy
        self._keep_alive = keep_alive
        self._slots: defaultdict[Origin, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limit))
        self._live: WeakSet[AiohttpResponse] = WeakSet()
        self._ssl_context = ssl_context
        self._egress = egress
        self._session: ClientSession | None = None
        self._closed = False

    async def send(self, request: HttpRequest, *, connect: float, headers: float) -> "AiohttpResponse":
        from yarl import URL  # comes with aiohttp

        target = resolve(request.method, request.url, request.headers)
        fields = _fields(request.headers)
        if self._closed:
            raise ConnectionFailed("The transport is closed.")
        if self._egress is not None:
            self._egress.check(target.origin.host)
        session = self._session = self._session or self._open_session()
        exchange = _Exchange(self._aiohttp, target.origin.place, headers)
        slots = self._slots[target.origin]
        _opened.set(exchange.sockets)
        async with exchange.within(connect, "connect"):
            await slots.acquire()
            try:
                received = await session.request(
                    request.method,
                    URL(target.url, encoded=True),
                    headers=fields,
                    data=BytesIO(request.body) if request.body else None,
                    proxy=self._proxy,
                    allow_redirects=False,
                    trace_request_ctx=exchange,
                )
            except BaseException:
                slots.release()
                _disown(exchange.sockets)
                raise
        response = AiohttpResponse(received, exchange, slots.release)
        if response.status < 200:
            response.close()
            raise MalformedResponse(
                f"The provider answered with the status {response.status}, which nothing asked for."
            )
        self._live.add(response)
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        for response in tuple(self._live):
            response.close()
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> "ClientSession":
        aiohttp = self._aiohttp
        session: ClientSession = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # aiohttp's own limits can forget who waits when others are cancelled
                keepalive_timeout=self._keep_alive,
                socket_factory=_open_socket,
                ssl=self._ssl_context or ssl.create_default_context(),
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "content-type"),
            headers={"user-agent": user_agent().decode(), "accept-encoding": "identity"},
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
            max_headers=_MAX_HEADERS,
            trace_configs=[_trace(aiohttp)],
        )
        return session


class AiohttpResponse:
    """A response of aiohttp behind the contract of `http.base.HttpResponse`."""

    def __init__(self, response: "ClientResponse", exchange: "_Exchange", on_end: Callable[[], None]) -> None:
        self.status = response.status
        self.headers: Headers = tuple([(name.lower(), value) for name, value in response.raw_headers])
        self._first = dict(self.headers[::-1])
        self._response = response
        self._exchange = exchange
        self._on_end: Callable[[], None] | None = on_end
        self._ended = False
        self._error: ProviderError | None = None
        self._body: bytes | None = None
        coding = self._first.get(b"content-encoding")
        self._decoder = Decoder(coding) if coding else None
        exchange.answered = True

    def header(self, name: bytes) -> bytes | None:
        return self._first.get(name)

    async def read(self, limit: int, seconds: float) -> bytes:
        if self._body is None:
            async with self._receiving(seconds, "answer"):
                body = await self._receive(limit)
                self._body = body if self._decoder is None else decode_all(self._decoder, body, limit)
        return self._body

    async def pieces(self, first: float, idle: float) -> AsyncIterator[bytes]:
        seconds = first
        phase: Phase = "first_token"
        while not self._ended:
            async with self._receiving(seconds, phase):
                raw = await self._response.content.readany()
                self._ended = not raw
            for piece in self._decoded(raw):
                seconds, phase = idle, "idle"
                yield piece

    def close(self) -> None:
        if not self._ended and self._error is None:
            self._error = ConnectionFailed("The response was closed before its end.", before_headers=False)
        self._leave()

    def _leave(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        if self._ended:
            self._response.release()
        else:
            self._response.close()
        on_end()

    async def _receive(self, limit: int) -> bytes:
        body = bytearray()
        while not self._ended:
            piece = await self._response.content.readany()
            self._ended = not piece
            body += piece
            if len(body) > limit:
                raise MalformedResponse(f"The provider's body is longer than {limit} bytes.")
        return bytes(body)

    def _decoded(self, raw: bytes) -> Iterator[bytes]:
        if self._decoder is None:
            return iter((raw,) if raw else ())
        return unfold(self._decoder, raw, HIGH_WATER)

    @asynccontextmanager
    async def _receiving(self, seconds: float, phase: Phase) -> AsyncIterator[None]:
        if self._error is not None:
            raise self._error
        try:
            async with self._exchange.within(seconds, phase):
                yield
        except ProviderError as error:
            self._error = error
            self._leave()
            raise
        except BaseException:
            self.close()
            raise
        if self._ended:
            self._leave()


class _Exchange:
    """What of a request is being waited for, so that a failure can be told for what it is."""

    def __init__(self, aiohttp: Any, place: str, headers: float) -> None:
        self.answered = False
        self.sockets: list[socket.socket] = []
        """Those that were opened to connect."""
        self._aiohttp = aiohttp
        self._place = place
        self._headers = headers
        self._reused = False
        self._phase: Phase = "connect"
        self._seconds = 0.0
        self._timer = asyncio.timeout(None)

    @asynccontextmanager
    async def within(self, seconds: float, phase: Phase) -> AsyncIterator[None]:
        """Bound what is awaited inside, and translate what it raises."""
        self._phase, self._seconds = phase, seconds
        try:
            async with asyncio.timeout(seconds) as self._timer:
                yield
        except (OSError, self._aiohttp.ClientError) as error:
            if isinstance(error, TimeoutError) and self._timer.expired():
                raise PhaseTimeout(self._phase, self._seconds) from error
            raise self._translated(error) from error

    def connected(self, reused: bool) -> None:
        """Turn from the connection to the headers."""
        self._reused = reused
        self._phase, self._seconds = "first_token", self._headers
        self._timer.reschedule(asyncio.get_running_loop().time() + self._headers)

    def _translated(self, error: Exception) -> ProviderError:
        aiohttp = self._aiohttp
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return ConnectionFailed(f"The proxy refused to connect to {self._place}: {error.status} {error.message}.")
        if isinstance(error, aiohttp.ClientResponseError):
            return MalformedResponse(f"The provider's response is not HTTP: {error.message.strip()}.")
        if isinstance(error, aiohttp.ClientPayloadError) and not str(error).startswith("Response payload is not"):
            return MalformedResponse(f"The provider's response is not HTTP: {error}.")
        cause, place = error, self._place
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            cause = error.certificate_error
        elif isinstance(error, aiohttp.ClientConnectorError):
            cause, place = error.os_error, f"{error.host}:{error.port}"
        return connection_failed(cause, place, before_headers=not self.answered, reused=self._reused)


def _load() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        message = 'An HTTP proxy needs aiohttp: pip install -e ".[aiohttp]" in the checkout of Holdfast.'
        raise HoldfastError(message) from error
    return aiohttp


def _trace(aiohttp: Any) -> Any:
    """Have every exchange told when its connection is there."""

    async def created(_session: object, context: Any, _params: object) -> None:
        context.trace_request_ctx.connected(reused=False)

    async def reused(_session: object, context: Any, _params: object) -> None:
        context.trace_request_ctx.connected(reused=True)

    config = aiohttp.TraceConfig()
    config.on_connection_create_end.append(created)
    config.on_connection_reuseconn.append(reused)
    return config


def _open_socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = address[:3]
    opened = socket.socket(family, kind, protocol)
    _opened.get().append(opened)
    return opened


def _disown(sockets: list[socket.socket]) -> None:
    """Let uvloop alone close what it took over.

    When connecting is cancelled, uvloop up to 0.22 closes the file descriptor and leaves the socket object to close it
    again, by when it may be another connection's (github.com/MagicStack/uvloop/issues/738).
    """
    if type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop":
        for opened in sockets:
            if opened.fileno() != -1:
                opened.detach()


def _fields(headers: Headers) -> list[tuple[str, str]]:
    try:
        return [(name.decode("ascii"), value.decode()) for name, value in headers if name != b"content-length"]
    except UnicodeDecodeError as error:
        raise BadRequest("The request can't be sent: a header's value is not UTF-8.") from error
