"""The front end: HTTP in, calls to the pipeline, HTTP out. It is thin, so that any ASGI server can carry it."""

import asyncio
import functools
import ipaddress
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
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
from holdfast.gateway.answers import distribution
from holdfast.gateway.hints import NO_HINTS, Hints, read_hints
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.record import Arrival, Kind
from holdfast.gateway.serving.cycle import DIRECT, Direct
from holdfast.gateway.serving.writer import HttpWriter, Send, error_head, respond
from holdfast.gateway.settings import GatewaySettings
from holdfast.providers.base import Source, Surface

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_SECONDS = 30.0
"""How long a caller may take to send a body that did not come with its head."""
HINT_PREFIX = b"x-holdfast-"
_SINGLE = (b"host", b"origin", b"content-length")

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
        route, direct = self._calls.get(path), _direct(scope)
        if route is None or scope["method"] != "POST":
            await self._view(route, path, scope, send, direct)
            return
        pipeline, surface, id = self._pipeline, route.surface, self._new_id()
        settings, started, at = pipeline.catalog.settings, pipeline.clock.monotonic(), pipeline.clock.now()
        writer = HttpWriter(send, direct, surface, id, at)
        try:
            headers = _check_headers(scope, settings)
            body = None if direct is None else direct.body()
            if body is None:
                body = await _read_in_time(receive, settings.max_body)
            elif len(body) > settings.max_body:  # what came in chunks tells no size beforehand
                raise BodyTooLarge(f"The request body is larger than {settings.max_body} bytes.")
            request, source, hints = _decode(route, path, body, headers)
        except CallError as error:
            await pipeline.reject(_unread(route, id, started, at), error, writer)
            return
        except Exception:
            logger.exception("call %s could not be read", id)
            await pipeline.reject(_unread(route, id, started, at), InternalError(), writer)
            return
        writer.request = request
        arrival = Arrival(
            id=id,
            kind=route.kind,
            wire=surface.wire,
            started=started,
            at=at,
            request=request,
            source=source,
            hints=hints,
            size=len(body),
        )
        if direct is not None:
            await pipeline.run(arrival, writer)
        else:
            await _unless_hung_up(receive, pipeline.run(arrival, writer))

    def refusal(self, error: CallError) -> tuple[int, bytes]:
        """Return the status and body for a request that the server could not even read."""
        return error.status, self._surface.error(error, self._new_id())

    # --- pages ---

    async def _view(self, route: CallRoute | None, path: str, scope: Scope, send: Send, direct: Direct | None) -> None:
        surface = self._surface if route is None else route.surface
        try:
            _check_headers(scope, self._pipeline.catalog.settings)
            page = await self._page(route, path, scope)
        except CallError as error:
            head = error_head(error)
            if isinstance(error, MethodNotAllowed):
                head += b"allow: GET, HEAD\r\n" if route is None else b"allow: POST\r\n"
            await respond(send, direct, error.status, head, surface.error(error, self._new_id()))
            return
        except Exception:
            logger.exception("%s failed", path)
            failed = InternalError()
            await respond(send, direct, failed.status, error_head(failed), surface.error(failed, self._new_id()))
            return
        head = b"content-type: %b\r\ncache-control: no-store\r\n" % page.content_type
        await respond(send, direct, page.status, head, page.body)  # the server leaves out the body of a HEAD

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


def _direct(scope: Scope) -> Direct | None:
    extensions: Mapping[str, Any] | None = scope.get("extensions")
    return extensions.get(DIRECT) if extensions else None


def _unread(route: CallRoute, id: str, started: float, at: float) -> Arrival:
    return Arrival(id=id, kind=route.kind, wire=route.surface.wire, started=started, at=at)


def _decode(
    route: CallRoute, path: str, body: bytes, headers: Mapping[bytes, bytes]
) -> tuple[Request | EmbeddingRequest, Source | None, Hints]:
    """Decode a call and the hints that come with it. Raises InvalidRequest."""
    request: Request | EmbeddingRequest
    source: Source | None = None
    if route.kind == "chat":
        request, source = route.surface.decode(body, path)
    elif route.kind == "distribution":
        request, source = distribution.decode(body, path, route.surface)
    else:
        request = route.surface.decode_embeddings(body, path)
    extra = request.extra
    if not headers and "holdfast" not in extra:
        return request, source, NO_HINTS
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
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    text, fields = b"".join(itertools.chain.from_iterable(headers)), dict(headers)
    if len(text) > settings.max_headers:
        raise HeadersTooLarge(f"The request headers are larger than {settings.max_headers} bytes.")
    if len(fields) < len(headers):
        _check_single(headers)
    host, origin = fields.get(b"host"), fields.get(b"origin")
    if host is None:
        if scope["http_version"] != "1.0":
            raise InvalidRequest("A request has one Host header.", param="host")
    elif not _is_loopback(b"//" + host):
        raise NotAllowed("Without keys the gateway answers only to loopback addresses.", param="host")
    if origin is not None and not _is_loopback(origin):
        raise NotAllowed("Without keys the gateway takes no calls from web pages elsewhere.", param="origin")
    if int(fields.get(b"content-length", 0)) > settings.max_body:
        raise BodyTooLarge(f"The request body is larger than {settings.max_body} bytes.")
    if HINT_PREFIX not in text:  # as in most: spares a look at each
        return {}
    return {name.removeprefix(HINT_PREFIX): value for name, value in headers if name.startswith(HINT_PREFIX)}


def _check_single(headers: Iterable[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            header = name.decode().title()
            raise InvalidRequest(f"A request has one {header} header.", param=name.decode())


@functools.lru_cache(maxsize=256)
def _is_loopback(url: bytes) -> bool:
    try:
        host = urlsplit(url.decode("latin-1")).hostname
        return host == "localhost" or (host is not None and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False
