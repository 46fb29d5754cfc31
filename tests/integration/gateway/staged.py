"""A gateway whose providers are played: what each connection brings, and when, down to the turn of the event loop."""

import asyncio
import copy
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

import virtual_time
from holdfast.chat import Chunk, EmbeddingReply, EmbeddingRequest, Message, Reply, Request, Text
from holdfast.client import Holdfast
from holdfast.errors import CallError, ConnectionFailed, PhaseTimeout
from holdfast.events import Call
from holdfast.gateway.catalog import Catalog, Feature, Model, Rules
from holdfast.gateway.hints import Hints
from holdfast.gateway.last_resort import Fixed, Resort
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.record import Arrival, Summary
from holdfast.gateway.settings import GatewaySettings
from holdfast.gateway.traffic.health import Health
from holdfast.http.base import Headers, HttpRequest, Timeouts
from holdfast.http.sse import SSEParser
from holdfast.log.base import LogSettings
from holdfast.log.memory import MemoryLog
from holdfast.log.writer import LogWriter
from holdfast.privacy.subjects import SubjectHasher
from holdfast.providers.base import Endpoint, ModelSettings, StreamEncoder, Surface, Upstream
from holdfast.providers.dialects.servers import UNKNOWN, Server
from holdfast.providers.openai import OpenAIUpstream
from holdfast.providers.prices import Price
from holdfast.state.board import Row

Step = tuple[float, bytes | Exception]
"""After so many seconds this arrives. What comes after 0.0 arrives in the same turn of the event loop."""
NEVER = 1e6


class Play(msgspec.Struct, frozen=True):
    """What comes of one request: after `after` seconds the headers, then the steps, then the end of the body."""

    steps: tuple[Step, ...] = ()
    status: int = 200
    after: float = 0.0
    headers: Headers = ((b"content-type", b"text/event-stream"),)


class Staged:
    """The transport of one model: plays in their order, the last one again and again. Implements `http.base`."""

    def __init__(self, *plays: Play) -> None:
        self.plays = [*plays]
        self.requests: list[HttpRequest] = []
        self.open = 0

    async def send(self, request: HttpRequest, *, connect: float, headers: float) -> "_Response":
        self.requests.append(request)
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        try:
            async with asyncio.timeout(headers):
                if play.after:
                    await asyncio.sleep(play.after)
        except TimeoutError:
            raise PhaseTimeout("first_token", headers) from None
        self.open += 1
        return _Response(play, self)

    async def aclose(self) -> None:
        pass


class _Response:
    def __init__(self, play: Play, transport: Staged) -> None:
        self.status, self.headers = play.status, play.headers
        self._play, self._transport, self._closed = play, transport, False

    def header(self, name: bytes) -> bytes | None:
        return next((value for header, value in self.headers if header == name), None)

    async def read(self, limit: int, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return b"".join([piece async for piece in self.pieces(seconds + 1, seconds + 1)])
        except TimeoutError:
            raise PhaseTimeout("answer", seconds) from None

    def pieces(self, first: float, idle: float) -> "_Pieces":
        return _Pieces(self._play.steps, first, idle)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.open -= 1


class _Pieces:
    def __init__(self, steps: Sequence[Step], first: float, idle: float) -> None:
        self._steps, self._first, self._idle, self._at = steps, first, idle, 0

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        if self._at == len(self._steps):
            raise StopAsyncIteration
        seconds, item = self._steps[self._at]
        patience = self._idle if self._at else self._first
        if seconds:
            await asyncio.sleep(min(seconds, patience))
        if seconds > patience:
            raise PhaseTimeout("idle" if self._at else "first_token", patience)
        self._at += 1
        if isinstance(item, Exception):
            raise copy.copy(item)  # which holds on to where it was raised
        return item


def cut() -> ConnectionFailed:
    return ConnectionFailed("The connection was reset.", before_headers=False)


def delta(index: int = 0, /, **fields: Any) -> bytes:
    """Return an event that says something."""
    return _event({"index": index, "delta": fields, "finish_reason": None})


def says(text: str) -> bytes:
    return delta(content=text)


def ends(finish: str = "stop", index: int = 0) -> bytes:
    return _event({"index": index, "delta": {}, "finish_reason": finish})


def _event(choice: dict[str, Any]) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def answers(*texts: str, after: float = 0.0, every: float = 0.0) -> Play:
    """Return a stream that says these pieces."""
    return Play((*[(every, says(text)) for text in texts], (0.0, ends() + DONE)), after=after)


def whole(text: str, after: float = 0.0) -> Play:
    """Return an answer that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Play(((0.0, json.dumps(body).encode()),), after=after, headers=((b"content-type", b"application/json"),))


def vectors(*found: Sequence[float], after: float = 0.0, tokens: int | None = 3) -> Play:
    """Return vectors."""
    data = [{"object": "embedding", "index": at, "embedding": [*vector]} for at, vector in enumerate(found)]
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    body = {"object": "list", "data": data, "model": "m", **usage}
    return Play(((0.0, json.dumps(body).encode()),), after=after, headers=((b"content-type", b"application/json"),))


def breaks(*texts: str, after: float = 0.0) -> Play:
    """Return a stream that says these pieces and is cut, all in one turn."""
    return Play((*[(0.0, says(text)) for text in texts], (0.0, cut())), after=after)


def fails(status: int, after: float = 0.0, message: str = "No.", code: str = "", **headers: str) -> Play:
    """Return an error."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Play(((0.0, body),), status, after, ((b"content-type", b"application/json"), *fields))


SILENT = Play(after=NEVER)


class Caller:
    """Takes an answer. Implements `gateway.answers.exchange.Writer`. `on_chunks` may do what a caller does then."""

    def __init__(self, on_chunks: Callable[[], object] = lambda: None) -> None:
        self.got: list[Chunk] = []
        self.objects: list[tuple[Any, tuple[str, ...]]] = []
        self.whole: Reply | EmbeddingReply | None = None
        self.summary: Summary | None = None
        self.error: CallError | None = None
        self.ends = 0
        self.resets = 0
        self.on_chunks = on_chunks

    @property
    def said(self) -> str:
        """The answer, whole or streamed."""
        return self.whole.text if isinstance(self.whole, Reply) else self.text

    @property
    def text(self) -> str:
        return "".join([chunk.text for chunk in self.got])

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        self.whole, self.summary = reply, summary
        self.ends += 1

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        self.got += chunks
        self.on_chunks()

    async def object(self, value: Any, complete: Sequence[str]) -> None:
        self.objects.append((value, tuple(complete)))

    async def reset(self) -> None:
        self.got.clear()
        self.resets += 1

    async def end(self, summary: Summary) -> None:
        self.summary = summary
        self.ends += 1

    async def fail(self, error: CallError, summary: Summary) -> None:
        self.error, self.summary = error, summary
        self.ends += 1


class Reader:
    """A caller of a stream on some wire. Implements `gateway.answers.exchange.Writer`.

    `events` are those of the answer, each its name and data; none for a call that failed before its first word.
    """

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._encoder: StreamEncoder | None = None
        self._body = b""

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        raise AssertionError("a stream was asked for")

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        self._body += b"".join([self._stream.chunk(chunk, wire) for chunk in chunks])

    async def object(self, value: Any, complete: Sequence[str]) -> None:
        self._body += self._stream.object(value, complete)

    async def reset(self) -> None:
        self._body += self._stream.reset()

    async def end(self, summary: Summary) -> None:
        self._body += self._stream.end(msgspec.to_builtins(summary))

    async def fail(self, error: CallError, summary: Summary) -> None:
        if self._encoder is not None:
            self._body += self._encoder.error(error, summary.call, msgspec.to_builtins(summary))

    @property
    def events(self) -> list[tuple[str, Any]]:
        parser = SSEParser()
        found = [(event.name.decode(), event.data) for event in (*parser.feed(self._body), *parser.end())]
        return [(name, data if data == b"[DONE]" else json.loads(data)) for name, data in found]

    @property
    def _stream(self) -> StreamEncoder:
        if self._encoder is None:
            request = Request(model="answer", messages=(), stream=True)
            self._encoder = self._surface.stream(request, id="call-1", model="answer", created=0)
        return self._encoder


class Gateway:
    """A gateway of one feature, "answer", over models whose transports are `staged`."""

    def __init__(self, loop: virtual_time.VirtualLoop, writer: LogWriter) -> None:
        self.loop = loop
        self.models: dict[str, Model] = {}
        self.rows: dict[str, Row] = {}
        self._writer = writer
        self._calls = 0
        self._pipeline: Pipeline | None = None

    def model(
        self,
        name: str,
        transport: Staged,
        *,
        prefill: bool = False,
        upstream: type[Upstream] = OpenAIUpstream,
        server: Server = UNKNOWN,
        cost: Price | None = None,
        **settings: Any,
    ) -> Model:
        """Make a model."""
        known = ModelSettings(provider="openai", **settings)
        row = self.rows[name] = Row.private()
        model = Model(
            name=name,
            provider="openai",
            upstream=upstream(Endpoint(model="m", base_url=f"http://{name}", prefill=prefill, server=server)),
            transport=transport,
            timeouts=Timeouts(),
            price=cost,
            health=Health(row, self.loop, name, known, GatewaySettings(), Random(1)),
        )
        self.models[name] = model
        return model

    def serve(
        self,
        *,
        deadline: float = 10.0,
        last_resort: str | Resort | None = None,
        settings: GatewaySettings | None = None,
        timeouts: Timeouts | None = None,
        feature: Mapping[str, Any] = {},
        **rules: Any,
    ) -> None:
        """Put the feature together. A model that gives it vectors does not answer."""
        settings = settings or GatewaySettings()
        vectors = feature["vectors"].models if "vectors" in feature else ()
        answer = Feature(
            name="answer",
            models=tuple([model for model in self.models.values() if model not in vectors]),
            deadline=deadline,
            max_answer=10**6,
            last_resort=Fixed(last_resort) if isinstance(last_resort, str) else last_resort,
            rules=Rules(**rules),
            timeouts=timeouts,
            **feature,
        )
        catalog = Catalog(config="", settings=settings, features={"answer": answer})
        self._pipeline = Pipeline(catalog, self._writer, SubjectHasher(bytes(32)), self.loop, Random(1))

    @property
    def places(self) -> tuple[int, int]:
        """How many calls are inside and wait."""
        assert self._pipeline is not None
        gate = self._pipeline._gate
        return gate.inside, gate.waiting

    def in_process(self) -> Holdfast:
        """Return the gateway as an application has it in its own process."""
        assert self._pipeline is not None
        return Holdfast(self._pipeline, lambda: "call-1")

    async def call(
        self,
        caller: Caller | Reader,
        *,
        stream: bool = True,
        hints: Hints | None = None,
        embed: bool = False,
        text: str = "?",
        **request: Any,
    ) -> None:
        """Make a call."""
        assert self._pipeline is not None
        self._calls += 1
        asked: Request | EmbeddingRequest
        if embed:
            asked = EmbeddingRequest(model="answer", input=("a",))
        else:
            message = Message(role="user", parts=(Text(text=text),))
            asked = Request(model="answer", messages=(message,), stream=stream, **request)
        arrival = Arrival(
            id=f"call-{self._calls}",
            kind="embeddings" if embed else "chat",
            wire="openai",
            started=self.loop.monotonic(),
            at=self.loop.now(),
            request=asked,
            hints=hints or Hints(),
        )
        await self._pipeline.run(arrival, caller)


def play(scene: Callable[[Gateway], Coroutine[Any, Any, None]]) -> list[Call]:
    """Play a scene on a gateway of its own, whose time passes only while all wait.

    Returns the log in the order of the calls, then the calls of the gateway itself, and sees to it that nothing is left
    behind, nor logged twice.
    """
    loop, log, ids = virtual_time.VirtualLoop(), MemoryLog(), []
    writer = LogWriter(
        log, LogSettings(), [lambda batch: ids.extend([event.id for event in batch if type(event) is Call])]
    )
    gateway = Gateway(loop, writer)
    try:
        virtual_time.run(scene(gateway), loop)
    finally:
        writer.close()
    assert len(ids) == len(set(ids)), "a call has one outcome"
    for model in gateway.models.values():
        _check_nothing_left(model)
    assert not any(row.locked for row in gateway.rows.values()), "the token of a probe was not given back"
    calls = [call for id in ids if (call := log.get(id)) is not None]
    return sorted(calls, key=lambda call: int(call.id.removeprefix("call-")) if call.id.startswith("call-") else 10**9)


def _check_nothing_left(model: Model) -> None:
    assert isinstance(model.transport, Staged)
    assert model.transport.open == 0, "a response was left open"
    assert model.health.outstanding() == 0, "an attempt counts as under way"
    gate = model.health.gate
    assert gate is None or (gate.inside, gate.waiting) == (0, 0), "a place was not given back"
