"""What passes between the caller and a model in one call: a whole answer, a streamed one, or vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec

from holdfast.chat import Choice, Chunk, EmbeddingReply, EmbeddingRequest, Message, Reply, Request, Text, Usage
from holdfast.errors import CallError, Truncated
from holdfast.gateway import attempt as attempts
from holdfast.gateway.assembly import Assembly, chunks_of
from holdfast.gateway.attempt import Limits
from holdfast.gateway.catalog import Feature
from holdfast.gateway.last_resort import Resort
from holdfast.gateway.record import Arrival, AttemptRecord, Summary

LAST_RESORT = "last_resort"
"""What stands for the model, and the wire, of an answer that no model gave."""


class Writer(Protocol):
    """Where an answer goes. Exactly one of `reply`, `end` and `fail` is called, once, at the end."""

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        """Give the whole answer. `raw` is how the model said it in `wire`, None if it was made or changed here."""
        ...

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        """Give the next pieces of a streamed answer. Waits while the caller is slower than the model."""
        ...

    async def end(self, summary: Summary) -> None:
        """End a streamed answer that is whole."""
        ...

    async def fail(self, error: CallError, summary: Summary) -> None:
        """End the call with an error, on the stream if one has begun."""
        ...


class Exchange(ABC):
    """One call's answer, whichever model gives it."""

    reply: Reply | EmbeddingReply | None = None
    """What has been answered, for the log."""
    takes_last_resort: ClassVar[bool] = True
    """Whether a message can stand for the answer."""

    @abstractmethod
    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        """Get the answer from a model. Raises ProviderError."""

    @abstractmethod
    async def use_last_resort(self, resort: Resort, error: CallError) -> None:
        """Answer with the last resort instead, where the exchange takes one. Raises InternalError if it has none."""

    @abstractmethod
    async def finish(self, summary: Summary) -> None:
        """Give the caller the end of the answer."""


def open_exchange(arrival: Arrival, feature: Feature, writer: Writer) -> Exchange:
    """Return the exchange that this call is.

    Raises:
        InvalidRequest: the feature's prompt needs variables that the call does not bring.
    """
    if isinstance(arrival.request, EmbeddingRequest):
        return _Embeddings(arrival.request, writer)
    assert isinstance(arrival.request, Request)
    request = _with_prompt(arrival.request, arrival, feature)
    return (_StreamedChat if request.stream else _WholeChat)(arrival, request, writer)


def _with_prompt(request: Request, arrival: Arrival, feature: Feature) -> Request:
    if feature.prompt is None:
        return request
    prompt: Message = feature.prompt.render(arrival.hints.variables)
    return msgspec.structs.replace(request, messages=(prompt, *request.messages))


class _WholeChat(Exchange):
    def __init__(self, arrival: Arrival, request: Request, writer: Writer) -> None:
        self._arrival = arrival
        self._request = request
        self._writer = writer
        self._raw: bytes | None = None
        self._wire = LAST_RESORT

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        model, request = attempt.model, self._request
        reply, raw = await attempts.whole(model, request, self._arrival.source, limits)
        attempt.served_model, attempt.fingerprint, attempt.usage = reply.model, reply.fingerprint, reply.usage
        if request.max_tokens is None and any(choice.finish == "length" for choice in reply.choices):
            raise Truncated
        if not reply.created:  # not every wire dates its answers
            reply = msgspec.structs.replace(reply, created=int(self._arrival.at))
        self.reply, self._raw, self._wire = reply, raw, model.upstream.wire

    async def use_last_resort(self, resort: Resort, error: CallError) -> None:
        self.reply = _last_resort(await resort.answer(self._request, error), self._arrival)

    async def finish(self, summary: Summary) -> None:
        assert self.reply is not None
        await self._writer.reply(self.reply, self._raw, self._wire, summary)


class _StreamedChat(Exchange):
    def __init__(self, arrival: Arrival, request: Request, writer: Writer) -> None:
        self._arrival = arrival
        self._request = request
        self._writer = writer

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        model, assembly, clock = attempt.model, Assembly(), attempt.clock
        attempt.streamed = True

        async def emit(chunks: Sequence[Chunk]) -> None:
            if not attempt.spoke:
                attempt.spoke, attempt.first_token = True, clock.monotonic()
            for chunk in chunks:
                assembly.add(chunk)
            await self._writer.chunks(chunks, model.upstream.wire)

        try:
            await attempts.stream(model, self._request, self._arrival.source, limits, emit)
        finally:
            self.reply = assembly.reply() if attempt.spoke else None
            attempt.served_model, attempt.fingerprint = assembly.model or None, assembly.fingerprint
            attempt.usage = assembly.usage
        if self._request.max_tokens is None and assembly.cut:
            raise Truncated

    async def use_last_resort(self, resort: Resort, error: CallError) -> None:
        self.reply = reply = _last_resort(await resort.answer(self._request, error), self._arrival)
        await self._writer.chunks(tuple(chunks_of(reply)), LAST_RESORT)

    async def finish(self, summary: Summary) -> None:
        await self._writer.end(summary)


class _Embeddings(Exchange):
    takes_last_resort = False

    def __init__(self, request: EmbeddingRequest, writer: Writer) -> None:
        self._request = request
        self._writer = writer
        self._raw: bytes | None = None
        self._wire = LAST_RESORT

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        model = attempt.model
        reply, raw = await attempts.embeddings(model, self._request, limits)
        attempt.served_model, attempt.usage = reply.model, reply.usage
        self.reply, self._raw, self._wire = reply, raw, model.upstream.wire

    async def use_last_resort(self, resort: Resort, error: CallError) -> None:
        raise AssertionError("a message is no vector")

    async def finish(self, summary: Summary) -> None:
        assert self.reply is not None
        await self._writer.reply(self.reply, self._raw, self._wire, summary)


def _last_resort(text: str, arrival: Arrival) -> Reply:
    choice = Choice(parts=(Text(text=text),), finish="stop")
    return Reply(id=arrival.id, model=LAST_RESORT, choices=(choice,), usage=Usage(), created=int(arrival.at))
