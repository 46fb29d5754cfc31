"""A request to one model, and its answer: whole, as vectors, or streamed."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from holdfast.chat import Chunk, EmbeddingRequest, Request
from holdfast.errors import BrokenStream, ConnectionFailed, MalformedResponse, Phase, PhaseTimeout, ProviderError
from holdfast.gateway.assembly import chunks_of
from holdfast.gateway.catalog import Model
from holdfast.gateway.record import AttemptRecord
from holdfast.http.base import HttpRequest, HttpResponse
from holdfast.http.sse import ServerSentEvent, SSEParser

ERROR_BODY_LIMIT = 256 * 2**10
"""Bytes of an error body that are read: a message, not an answer."""
ERROR_BODY_SECONDS = 1.0
"""How long it may take: the status has come already."""
TRAILER_SECONDS = 1.0
"""How long usage may come after the end of an answer."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt may take: seconds by phase (see `http.base.Timeouts`) and bytes.

    Nothing that trails a whole answer is waited for after `until`, on the loop's clock.
    """

    connect: float
    first_token: float
    idle: float
    answer: float
    max_answer: int
    until: float = math.inf
    share: float = math.inf
    """Seconds of the deadline that this attempt may take, because other models could follow."""


Emit = Callable[[Sequence[Chunk]], Awaitable[None] | None]
"""Takes the next pieces of an answer. Returns what to wait for before there are more, None if nothing."""


async def whole(
    attempt: AttemptRecord, asked: Request | EmbeddingRequest, request: HttpRequest, limits: Limits
) -> bytes:
    """Return the body of the model's answer, once the most that it may cost is set aside. Raises ProviderError."""
    if attempt.purse is not None:
        drawn = attempt.afford(asked, len(request.body), limits.answer)
        if drawn is not None:
            await drawn
    model, clock = attempt.model, asyncio.get_running_loop().time
    ends = clock() + limits.answer
    try:
        response = await model.transport.send(request, connect=limits.connect, headers=limits.answer)
        try:
            if not 200 <= response.status < 300:
                raise await _refusal(model, response, limits)
            rest = ends - clock()
            return await response.read(limits.max_answer, max(0.0, rest))
        finally:
            response.close()
    except PhaseTimeout as error:
        if error.phase == "connect":
            raise
        raise _late("answer", limits.answer, limits) from error


async def stream(attempt: AttemptRecord, asked: Request, request: HttpRequest, limits: Limits, emit: Emit) -> None:
    """Give the model's answer to `emit` as it comes, what arrived together together, and return when it is whole.

    The most that it may cost is set aside first.

    Raises:
        BrokenStream: it broke off after some of it had been emitted.
        ProviderError: it failed before, or the provider itself reported an error.
    """
    if attempt.purse is not None:
        drawn = attempt.afford(asked, len(request.body), limits.first_token)
        if drawn is not None:
            await drawn
    model = attempt.model
    relay = _Relay(model, asked.n, limits, emit)
    try:
        async with asyncio.timeout(limits.first_token) as timer:
            response = await model.transport.send(request, connect=limits.connect, headers=limits.first_token)
            try:
                await relay.run(response, timer)
            finally:
                response.close()
    except TimeoutError as error:
        if not relay.complete:
            raise _late("first_token", limits.first_token, limits) from error
    except (ConnectionFailed, MalformedResponse, PhaseTimeout) as error:
        if relay.spoke:
            raise BrokenStream(f"The stream of {model.name} broke off. {error.message}") from error
        raise


class _Relay:
    """One streamed answer on its way to `emit`, which hears nothing before the model has begun to speak."""

    def __init__(self, model: Model, choices: int, limits: Limits, emit: Emit) -> None:
        self._model = model
        self._unfinished = set(range(choices))
        self._limits = limits
        self._emit = emit
        self._decoder = model.upstream.stream()
        self._held: list[Chunk] = []
        self._failure: ProviderError | None = None
        self._heard = False
        self.spoke = False

    @property
    def complete(self) -> bool:
        """Whether every choice is whole, whatever happens to the connection now."""
        return not self._unfinished and self._decoder.complete

    async def run(self, response: HttpResponse, timer: asyncio.Timeout) -> None:
        """Relay until the answer is whole. `timer` runs until the first token, and again for what trails the answer."""
        limits = self._limits
        if not 200 <= response.status < 300:
            timer.reschedule(None)  # no token will come, but the error's own words
            raise await _refusal(self._model, response, limits)
        if (response.header(b"content-type") or b"").startswith(b"application/json"):
            body = await response.read(limits.max_answer, limits.answer)
            reply = self._model.upstream.decode(body)
            timer.reschedule(None)
            if (rest := self._emit(tuple(chunks_of(reply)))) is not None:
                await rest
            return
        parser, emit, size = SSEParser(), self._emit, 0
        try:
            async for piece in response.pieces(limits.first_token, limits.idle):
                size += len(piece)
                if size > limits.max_answer:
                    raise MalformedResponse(f"The provider's answer is longer than {limits.max_answer} bytes.")
                chunks = self._hear(parser.feed(piece), timer)
                if chunks and (rest := emit(chunks)) is not None:
                    await rest
                if self._failure is not None or not self._unfinished:
                    self._settle(timer)
            chunks = self._hear(parser.end(), timer)
            if chunks and (rest := emit(chunks)) is not None:
                await rest
            self._settle(timer)
        except (ConnectionFailed, MalformedResponse, PhaseTimeout):
            if not self.complete:
                raise
        self._check_end(response)

    def _hear(self, events: Sequence[ServerSentEvent], timer: asyncio.Timeout) -> Sequence[Chunk]:
        """Decode events, and return what is to be emitted: nothing before the model speaks."""
        decode, chunks = self._decoder.feed, self._held
        try:
            for event in events:
                for chunk in decode(event):
                    chunks.append(chunk)
                    if chunk.finish is not None:
                        self._unfinished.discard(chunk.choice)
        except ProviderError as error:
            self._failure = error
        if not self.spoke:
            self._heard = self._heard or bool(events)
            if not any(chunk.speaks or chunk.finish for chunk in chunks):
                return ()
            self.spoke = True
            timer.reschedule(None)
        self._held = []
        return chunks

    def _settle(self, timer: asyncio.Timeout) -> None:
        """Raise what the provider reported, unless the answer is whole: then give what trails it a little time."""
        failure, self._failure = self._failure, None
        if self.complete:
            timer.reschedule(min(asyncio.get_running_loop().time() + TRAILER_SECONDS, self._limits.until))
        elif failure is not None:
            raise failure

    def _check_end(self, response: HttpResponse) -> None:
        """Raise what a stream lacks that has ended."""
        if self.complete:
            return
        kind = response.header(b"content-type") or b"no content type"
        if not self._heard and not kind.startswith(b"text/event-stream"):
            raise MalformedResponse(f"The provider sent no events, but {kind.decode('latin-1')[:100]}.")
        raise ConnectionFailed("The provider ended the stream before its answer was whole.", before_headers=False)


def _late(phase: Phase, seconds: float, limits: Limits) -> PhaseTimeout:
    return PhaseTimeout(phase, seconds, share=seconds >= limits.share)


async def _refusal(model: Model, response: HttpResponse, limits: Limits) -> ProviderError:
    """Return what a status that is no success means."""
    try:
        body = await response.read(ERROR_BODY_LIMIT, min(limits.idle, ERROR_BODY_SECONDS))
    except ProviderError:
        body = b""  # the status says what went wrong
    return model.upstream.error(response.status, response.headers, body)
