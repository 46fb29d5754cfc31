"""Answers over ASGI, in the wire format that the caller speaks."""

import math
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec

from holdfast.chat import Chunk, EmbeddingReply, EmbeddingRequest, Reply, Request
from holdfast.errors import CallError
from holdfast.gateway.record import Summary
from holdfast.providers.base import StreamEncoder, Surface

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ResponseHeaders = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-store")


async def respond(send: Send, status: int, body: bytes, headers: ResponseHeaders) -> None:
    """Send a whole response."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_headers(error: CallError) -> ResponseHeaders:
    """Return the headers that an error brings."""
    headers = [JSON]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
    return headers


class HttpWriter:
    """Writes one call's answer. `request` is None while it could not be decoded."""

    __slots__ = ("_call", "_created", "_encoder", "_send", "_surface", "request")

    def __init__(self, send: Send, surface: Surface, call: str, created: int) -> None:
        self._send = send
        self._surface = surface
        self._call = call
        self._created = created
        self._encoder: StreamEncoder | None = None
        self.request: Request | EmbeddingRequest | None = None

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        surface = self._surface
        if raw is not None and wire == surface.wire:
            body = raw
        elif isinstance(reply, Reply):
            body = surface.encode(reply)
        else:
            assert isinstance(self.request, EmbeddingRequest)
            body = surface.encode_embeddings(reply, self.request.encoding_format)
        await respond(self._send, 200, body, [JSON, *_summary_headers(summary)])

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        encoder = self._encoder
        if encoder is None:
            encoder = await self._start()
        if len(chunks) == 1:  # as most arrive
            data = encoder.chunk(chunks[0], wire)
        else:
            data = b"".join([encoder.chunk(chunk, wire) for chunk in chunks])
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def reset(self) -> None:
        encoder = self._encoder or await self._start()
        await self._send({"type": "http.response.body", "body": encoder.reset(), "more_body": True})

    async def end(self, summary: Summary) -> None:
        encoder = self._encoder or await self._start()
        await self._send({"type": "http.response.body", "body": encoder.end(msgspec.to_builtins(summary))})

    async def fail(self, error: CallError, summary: Summary) -> None:
        if self._encoder is not None:
            data = self._encoder.error(error, self._call, msgspec.to_builtins(summary))
            await self._send({"type": "http.response.body", "body": data})
            return
        headers = [*error_headers(error), *_summary_headers(summary)]
        await respond(self._send, error.status, self._surface.error(error, self._call), headers)

    async def _start(self) -> StreamEncoder:
        assert isinstance(self.request, Request)
        headers = [EVENT_STREAM, NO_CACHE, (b"x-holdfast-call", self._call.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self._encoder = self._surface.stream(
            self.request, id=self._call, model=self.request.model, created=self._created
        )
        return self._encoder


def _summary_headers(summary: Summary) -> ResponseHeaders:
    headers = [(b"x-holdfast-call", summary.call.encode())]
    if summary.outcome is not None:
        headers.append((b"x-holdfast-outcome", summary.outcome.encode()))
    if summary.model is not None:
        headers.append((b"x-holdfast-model", summary.model.encode()))
    if summary.attempts is not None:
        headers.append((b"x-holdfast-attempts", b"%d" % summary.attempts))
    if summary.cost is not None:
        headers.append((b"x-holdfast-cost", summary.cost.encode()))
    return headers
