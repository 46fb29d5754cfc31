"""The front end: HTTP in, calls to the pipeline, HTTP out. It is thin, so that any ASGI server can carry it."""

import asyncio
import functools
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from holdfast.chat import EmbeddingRequest, Request
from holdfast.clock import NewId
from holdfast.errors import (
    BodyTooLarge,
    CallError,
    Cancelled,
    HeadersTooLarge,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotAllowed,
    NotFound,
)
from holdfast.gateway.cycle import CANCELS, WHOLE
from holdfast.gateway.hints import Hints, read_hints
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.record import Arrival, Kind
from holdfast.gateway.settings import GatewaySettings
from holdfast.gateway.writer import HttpWriter, Send, error_headers, respond
from holdfast.providers.base import Source, Surface

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_SECONDS = 30.0
"""How long a caller may take to send a body that did not come with its head."""
HINT_PREFIX = b"x-holdfast-"
_CHECKED = frozenset((b"host", b"origin", b"content-length"))
_PREFIX = len(HINT_PREFIX)

logger = logging.getLogger(__name__)


class Page(msgspec.Struct, frozen=True):
    """A response that is no call: its body, and how to read it."""

    body: bytes
    content_type: bytes = b"application/json"
    status: int = 200


class Query(msgspec.Struct, frozen=True):
    """What a page is asked for: the rest of its path, and its query string."""

    rest: str
    text: str


View = Callable[[Query], Awaitable[Page]]


class CallRoute(msgspec.Struct, frozen=True):
    """A route that takes calls: POST, spoken in a wire format."""

    kind: Kind
    surface: Surface


class Gateway:
    """The ASGI app. `calls` are its POST routes by path, `views` its GET routes (a trailing `/` takes a rest)."""

    def __init__(
        self,
        pipeline: Pipeline,
        calls: Mapping[str, CallRoute],
        views: Mapping[str, View],
        new_id: NewId,
        fallback_surface: Surface,
    ) -> None:
        self._pipeline = pipeline
        self._calls = calls
        self._views = views
        self._new_id = new_id
        self._surface = fallback_surface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"Holdfast does not speak {scope['type']}.")
        path = scope["path"]
        route = self._calls.get(path)
        if route is not None and scope["method"] == "POST":
            await self._call(route, scope, receive, send)
        else:
            await self._view(route, path, scope, send)

    def refusal(self, error: CallError) -> tuple[int, bytes]:
        """Return the status and body for a request that the server could not even read."""
        return error.status, self._surface.error(error, self._new_id())

    # --- calls ---

    async def _call(self, route: CallRoute, scope: Scope, receive: Receive, send: Send) -> None:
        pipeline, surface = self._pipeline, route.surface
        clock, id = pipeline.clock, self._new_id()
        arrival = Arrival(id=id, kind=route.kind, wire=surface.wire, started=clock.monotonic(), at=clock.now())
        writer = HttpWriter(send, surface, id, int(arrival.at))
        extensions, settings = scope.get("extensions", ()), pipeline.catalog.settings
        read = _read if WHOLE in extensions else _read_in_time  # what has arrived need not be waited for
        try:
            headers = _check_headers(scope, settings)
            body = await read(receive, settings.max_body)
            request, source, hints = _decode(route, scope["path"], body, headers)
        except CallError as error:
            await pipeline.reject(arrival, error, writer)
            return
        except Exception:
            logger.exception("call %s could not be read", id)
            await pipeline.reject(arrival, InternalError(), writer)
            return
        writer.request = request
        arrival = msgspec.structs.replace(arrival, request=request, source=source, hints=hints)
        if CANCELS in extensions:
            await pipeline.run(arrival, writer)
        else:
            await _unless_hung_up(receive, pipeline.run(arrival, writer))

    # --- pages ---

    async def _view(self, route: CallRoute | None, path: str, scope: Scope, send: Send) -> None:
        surface = self._surface if route is None else route.surface
        try:
            _check_headers(scope, self._pipeline.catalog.settings)
            page = await self._page(route, path, scope)
        except CallError as error:
            headers = error_headers(error)
            if isinstance(error, MethodNotAllowed):
                headers.append((b"allow", b"GET, HEAD" if route is None else b"POST"))
            await respond(send, error.status, surface.error(error, self._new_id()), headers)
            return
        except Exception:
            logger.exception("%s failed", path)
            failed = InternalError()
            await respond(send, failed.status, surface.error(failed, self._new_id()), error_headers(failed))
            return
        headers = [(b"content-type", page.content_type), (b"cache-control", b"no-store")]
        await respond(send, page.status, page.body, headers)  # the server leaves out the body of a HEAD

    async def _page(self, route: CallRoute | None, path: str, scope: Scope) -> Page:
        view, rest = self._views.get(path), ""
        if view is None:
            stem, _, rest = path.rpartition("/")
            view = self._views.get(stem + "/") if stem and rest else None
        if route is None and view is None:
            raise NotFound(f"There is nothing at {path}.")
        if view is None or scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{path} does not take {scope['method']}.")
        return await view(Query(rest, scope["query_string"].decode("latin-1")))


def _decode(
    route: CallRoute, path: str, body: bytes, headers: Mapping[bytes, bytes]
) -> tuple[Request | EmbeddingRequest, Source | None, Hints]:
    """Decode a call and the hints that come with it. Raises InvalidRequest."""
    request: Request | EmbeddingRequest
    source: Source | None = None
    if route.kind == "chat":
        request, source = route.surface.decode(body, path)
    else:
        request = route.surface.decode_embeddings(body, path)
    extra = request.extra
    hints = read_hints(headers, extra.get("holdfast"))
    if "holdfast" in extra:  # of the hints, only what filled the prompt stays with the request, for the log
        kept = {"holdfast": {"variables": hints.variables}} if hints.variables else {}
        rest = {key: value for key, value in extra.items() if key != "holdfast"}
        request = msgspec.structs.replace(request, extra=rest | kept)
    return request, source, hints


async def _read_in_time(receive: Receive, most: int) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, most)
    except TimeoutError as error:
        raise InvalidRequest(f"The body did not arrive within {BODY_SECONDS:g} s.") from error


async def _read(receive: Receive, most: int) -> bytes:
    """Return a body. Raises Cancelled, BodyTooLarge."""
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("The caller hung up before the end of the body.")
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size > most:
            raise BodyTooLarge(f"The request body is larger than {most} bytes.")
        if size == len(piece) and not more:  # mostly it is the only one
            return piece
        pieces.append(piece)
    return b"".join(pieces)


async def _unless_hung_up(receive: Receive, call: Awaitable[None]) -> None:
    """Await a call, and cancel it as soon as the caller hangs up, on a server that does not do so itself."""
    task = asyncio.current_task()
    assert task is not None
    hung_up = False

    async def watch() -> None:
        nonlocal hung_up
        while (await receive())["type"] != "http.disconnect":
            pass
        hung_up = True
        task.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        await call
    except asyncio.CancelledError:
        if not hung_up:
            raise
        task.uncancel()
    finally:
        watcher.cancel()


def _check_headers(scope: Scope, settings: GatewaySettings) -> dict[bytes, bytes]:
    """Refuse what is too large, and what a web page elsewhere made a browser send while the gateway knows no keys.

    Return the hints among the headers, without their prefix.

    Raises:
        HeadersTooLarge, BodyTooLarge, NotAllowed, InvalidRequest
    """
    size = hosts = 0
    hints = {}
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name not in _CHECKED:
            if name.startswith(HINT_PREFIX):
                hints[name[_PREFIX:]] = value
        elif name == b"host":
            hosts += 1
            if not _is_loopback(b"//" + value):
                raise NotAllowed("Without keys the gateway answers only to loopback addresses.", param="host")
        elif name == b"origin":
            if not _is_loopback(value):
                raise NotAllowed("Without keys the gateway takes no calls from web pages elsewhere.", param="origin")
        elif int(value) > settings.max_body:
            raise BodyTooLarge(f"The request body is larger than {settings.max_body} bytes.")
    if size > settings.max_headers:
        raise HeadersTooLarge(f"The request headers are larger than {settings.max_headers} bytes.")
    if hosts != 1 and (hosts or scope["http_version"] != "1.0"):
        raise InvalidRequest("A request has one Host header.", param="host")
    return hints


@functools.lru_cache(maxsize=256)
def _is_loopback(url: bytes) -> bool:
    try:
        host = urlsplit(url.decode("latin-1")).hostname
        return host == "localhost" or (host is not None and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False
