"""The front end: HTTP in, calls to the pipeline, HTTP out. It is thin, so that any ASGI server can carry it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from holdfast.chat import EmbeddingRequest, Request
from holdfast.clock import NewId, SystemClock
from holdfast.errors import (
    BodyTooLarge,
    CallError,
    Cancelled,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Saturated,
    StoreError,
    Unauthenticated,
)
from holdfast.gateway.access import LOCAL, Access, Caller
from holdfast.gateway.answers import distribution
from holdfast.gateway.hints import NO_HINTS, Hints, read_hints, whose
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.record import Arrival, Summary
from holdfast.gateway.serving.cycle import DIRECT, Direct
from holdfast.gateway.serving.head import Fields, Scope, caller_of, check_size, is_secure, read_head
from holdfast.gateway.serving.pages.sight import check_may_call
from holdfast.gateway.serving.routes import (
    EVERY_ROLE,
    PUBLIC,
    CallRoute,
    Method,
    Page,
    Query,
    Roles,
    Route,
    Routes,
    View,
)
from holdfast.gateway.serving.writer import HttpWriter, Send, error_head, respond
from holdfast.providers.base import Source, Surface

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_SECONDS = 30.0
"""How long a caller may take to send a body that did not come with its head."""
MOST_OF_A_PAGE = 4 * 2**10
"""Bytes of a body that is no call."""

RETRY_SECONDS = 5.0
UNUSABLE = "What this page needs can't be used at the moment. The output of the gateway says why."

logger = logging.getLogger(__name__)

_OPEN = Access((), {}, SystemClock(), open=True)


class Gateway:
    """The ASGI app. `calls` are its POST routes by path, `views` the others; all must be in the table of routes.

    `access` returns what keys and sessions there are at the moment.

    Raises:
        ValueError: a route is not in the table.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        calls: Mapping[str, CallRoute],
        views: Mapping[tuple[Method, str], View],
        new_id: NewId,
        fallback_surface: Surface,
        access: Callable[[], Access] = lambda: _OPEN,
    ) -> None:
        posts: Mapping[tuple[Method, str], CallRoute] = {("POST", path): call for path, call in calls.items()}
        self.routes = Routes({**posts, **views})
        """All that is served."""
        self._pipeline = pipeline
        self._calls = calls
        self._roles = {path: self.routes.at(path)[0]["POST"].roles for path in calls}
        self._new_id = new_id
        self._surface = fallback_surface
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"Holdfast does not speak {scope['type']}.")
        path = scope["path"]
        route, direct = self._calls.get(path), _direct(scope)
        if route is None or scope["method"] != "POST":
            await self._view(path, scope, receive, send, direct)
            return
        pipeline, surface, id = self._pipeline, route.surface, self._new_id()
        settings, started, at = pipeline.catalog.settings, pipeline.clock.monotonic(), pipeline.clock.now()
        writer = HttpWriter(send, direct, surface, id, at)
        caller: Caller | None = None
        headers: Mapping[bytes, bytes] = {}
        body: bytes | None = None
        try:
            fields, headers = read_head(scope, settings)
            caller = self._caller(scope, fields, self._roles[path])
            assert caller is not None
            check_size(fields, settings.max_body)
            body = None if direct is None else direct.body()
            if body is None:
                body = await _read_in_time(receive, settings.max_body)
            elif len(body) > settings.max_body:  # what came in chunks tells no size beforehand
                raise BodyTooLarge(f"The request body is larger than {settings.max_body} bytes.")
            request, source, hints = _decode(route, path, body, headers)
            if caller.features is not None:
                check_may_call(caller.features, request.model, pipeline.catalog)
        except CallError as error:
            unread = _unread(route, id, started, at, caller, whose(headers, body or b""))
            await self._reject(caller, unread, error, writer)
            return
        except Exception:
            logger.exception("call %s could not be read", id)
            unread = _unread(route, id, started, at, caller, whose(headers, body or b""))
            await self._reject(caller, unread, InternalError(), writer)
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
            caller=caller,
        )
        if direct is not None:
            await pipeline.run(arrival, writer)
        else:
            await _unless_hung_up(receive, pipeline.run(arrival, writer))

    def refusal(self, error: CallError) -> tuple[int, bytes]:
        """Return the status and body for a request that the server could not even read."""
        return error.status, self._surface.error(error, self._new_id())

    def _caller(self, scope: Scope, fields: Fields, roles: Roles | None) -> Caller | None:
        try:
            return caller_of(self._access(), scope, fields, roles)
        except Unauthenticated:
            self._pipeline.refusals.count("unauthenticated")
            raise

    async def _reject(self, caller: Caller | None, arrival: Arrival, error: CallError, writer: HttpWriter) -> None:
        """End a call that could not be read. Whoever is not let in can't make the log grow."""
        if caller is None:
            await writer.fail(error, Summary(call=arrival.id))
        else:
            await self._pipeline.reject(arrival, error, writer)

    # --- pages ---

    async def _view(self, path: str, scope: Scope, receive: Receive, send: Send, direct: Direct | None) -> None:
        call = self._calls.get(path)
        surface = self._surface if call is None else call.surface
        try:
            try:
                page = await self._page(path, scope, receive, direct)
            except StoreError as error:
                logger.error("%s: %s", path, error.message)
                raise Saturated(UNUSABLE, retry_after=RETRY_SECONDS) from error
        except CallError as error:
            head = error_head(error)
            if isinstance(error, MethodNotAllowed):
                head += b"allow: %b\r\n" % ", ".join(self._methods(path)).encode()
            await respond(send, direct, error.status, head, surface.error(error, self._new_id()))
            return
        except Exception:
            logger.exception("%s failed", path)
            failed = InternalError()
            await respond(send, direct, failed.status, error_head(failed), surface.error(failed, self._new_id()))
            return
        head = b"content-type: %b\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n" % page.content_type
        await respond(send, direct, page.status, head + page.head, page.body)  # the server leaves out that of a HEAD

    async def _page(self, path: str, scope: Scope, receive: Receive, direct: Direct | None) -> Page:
        routes, rest = self.routes.at(path)
        method = scope["method"]
        route = routes.get("GET" if method == "HEAD" else method)
        settings = self._pipeline.catalog.settings
        fields, _ = read_head(scope, settings)
        caller = self._caller(scope, fields, _roles(routes, route))
        check_size(fields, settings.max_body)
        if not routes:
            raise NotFound(f"There is nothing at {path}.")
        if route is None or isinstance(route.handler, CallRoute):
            raise MethodNotAllowed(f"{path} does not take {method}.")
        body = b"" if method in ("GET", "HEAD") else await _small_body(receive, direct)
        text = scope["query_string"].decode("latin-1")
        query = Query(rest, text, caller, body, fields.get(b"cookie"), is_secure(scope, fields))
        return await route.handler(query)

    def _methods(self, path: str) -> list[str]:
        routes, _ = self.routes.at(path)
        return [name for method in routes for name in (["GET", "HEAD"] if method == "GET" else [method])]


def _roles(routes: Mapping[str, Route], route: Route | None) -> Roles | None:
    """Return who may use a route. Where there is none, only those who are let in are told."""
    if route is not None:
        return route.roles
    return PUBLIC if any(other.roles is PUBLIC for other in routes.values()) else EVERY_ROLE


def _direct(scope: Scope) -> Direct | None:
    extensions: Mapping[str, Any] | None = scope.get("extensions")
    return extensions.get(DIRECT) if extensions else None


def _unread(route: CallRoute, id: str, started: float, at: float, caller: Caller | None, hints: Hints) -> Arrival:
    wire, known = route.surface.wire, caller or LOCAL
    return Arrival(id=id, kind=route.kind, wire=wire, started=started, at=at, hints=hints, caller=known)


async def _small_body(receive: Receive, direct: Direct | None) -> bytes:
    body = None if direct is None else direct.body()
    if body is None:
        body = await _read_in_time(receive, MOST_OF_A_PAGE)
    if len(body) > MOST_OF_A_PAGE:
        raise BodyTooLarge(f"The request body is larger than {MOST_OF_A_PAGE} bytes.")
    return body


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
