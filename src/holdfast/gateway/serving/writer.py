"""Answers over ASGI, in the wire format that the caller speaks."""

import math
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec

from holdfast.chat import Chunk, EmbeddingReply, EmbeddingRequest, Reply, Request
from holdfast.errors import CallError, LimitExceeded, Unauthenticated
from holdfast.gateway.record import Summary
from holdfast.gateway.serving.cycle import Direct
from holdfast.providers.base import StreamEncoder, Surface

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"content-type: application/json\r\n"
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-store")


async def respond(send: Send, direct: Direct | None, status: int, head: bytes, body: bytes) -> None:
    """Send a whole response. `head` are its headers, each a line with its CRLF, without `content-length`."""
    if direct is not None:
        direct.respond(status, head, body)
        return
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[:-1]]
    headers = [(name, value) for name, _, value in lines]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_head(error: CallError) -> bytes:
    """Return the headers that an error brings, as lines."""
    head = JSON
    if error.retry_after is not None:
        head += b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after))
    if isinstance(error, LimitExceeded) and error.lasts:
        head += b"x-should-retry: false\r\n"  # which the SDKs obey
    elif isinstance(error, Unauthenticated):
        head += b"www-authenticate: Bearer\r\n"
    return head


class HttpWriter:
    """Writes one call's answer. `request` is None while it could not be decoded."""

    __slots__ = ("_at", "_call", "_direct", "_encoder", "_send", "_surface", "request")

    def __init__(self, send: Send, direct: Direct | None, surface: Surface, call: str, at: float) -> None:
        self._send = send
        self._direct = direct
        self._surface = surface
        self._call = call
        self._at = at
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
        await respond(self._send, self._direct, 200, JSON + _summary_head(summary), body)

    def chunks(self, chunks: Sequence[Chunk], wire: str) -> Awaitable[None] | None:
        encoder = self._encoder
        if encoder is None:
            return self._open(chunks, wire)
        if len(chunks) == 1:  # as most arrive
            data = encoder.chunk(chunks[0], wire)
        else:
            data = b"".join([encoder.chunk(chunk, wire) for chunk in chunks])
        if not data:
            return None
        if self._direct is None:
            return self._send({"type": "http.response.body", "body": data, "more_body": True})
        return self._direct.write(data)

    async def _open(self, chunks: Sequence[Chunk], wire: str) -> None:
        """Begin a streamed answer with its first pieces."""
        await self._start()
        if (rest := self.chunks(chunks, wire)) is not None:
            await rest

    async def object(self, value: Any, complete: Sequence[str]) -> None:
        encoder = self._encoder or await self._start()
        data = encoder.object(value, complete)
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
        head, body = error_head(error) + _summary_head(summary), self._surface.error(error, self._call)
        await respond(self._send, self._direct, error.status, head, body)

    async def _start(self) -> StreamEncoder:
        assert isinstance(self.request, Request)
        headers = [EVENT_STREAM, NO_CACHE, (b"x-holdfast-call", self._call.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self._encoder = self._surface.stream(
            self.request, id=self._call, model=self.request.model, created=int(self._at)
        )
        return self._encoder


def _summary_head(summary: Summary) -> bytes:
    head = f"x-holdfast-call: {summary.call}\r\n"
    if summary.outcome is not None:
        head += f"x-holdfast-outcome: {summary.outcome}\r\n"
    if summary.model is not None:
        head += f"x-holdfast-model: {summary.model}\r\n"
    if summary.attempts is not None:
        head += f"x-holdfast-attempts: {summary.attempts}\r\n"
    if summary.cost is not None:
        head += f"x-holdfast-cost: {summary.cost}\r\n"
    if summary.replayed is not None:
        head += f"x-holdfast-replayed: {summary.replayed}\r\n"
    if summary.agreement is not None:
        head += f"x-holdfast-agreement: {summary.agreement:.3g}\r\n"
    return head.encode()
