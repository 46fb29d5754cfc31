"""The gateway inside an application's own process: the same pipeline, without HTTP."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from copy import deepcopy
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from holdfast.app import App
from holdfast.chat import Chunk, EmbeddingReply, EmbeddingRequest, Refusal, Reply, Request
from holdfast.clock import NewId
from holdfast.config import load
from holdfast.contracts.base import Contract
from holdfast.contracts.load import make_contract
from holdfast.contracts.streaming.watch import Partial
from holdfast.errors import CallError, ContentRefused, ContractViolated, InvalidRequest
from holdfast.events import Outcome
from holdfast.gateway.answers import distribution
from holdfast.gateway.answers.distribution import Method
from holdfast.gateway.answers.judge import TOLD, check
from holdfast.gateway.answers.likelihood import Estimate
from holdfast.gateway.hints import to_hints
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.record import Arrival, Kind, Summary
from holdfast.providers.base import Source
from holdfast.providers.openai import OpenAISurface

T = TypeVar("T")

IN_PROCESS = "openai"
"""The wire whose vocabulary the arguments of a call use."""

Messages = str | Sequence[Mapping[str, Any]]
"""A user's text, or messages as OpenAI writes them: `[{"role": "user", "content": "..."}]`."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer and how it came about. `model` is the one that answered, None for a last resort.

    `cost` is in US dollars, None if unknown.
    """

    reply: Reply
    call: str
    outcome: Outcome
    model: str | None
    attempts: int
    cost: Decimal | None

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.reply.text


@asynccontextmanager
async def open(path: str | Path = "holdfast.toml") -> "AsyncIterator[Holdfast]":
    """Open the gateway of a configuration file.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: a file of the state directory can't be opened.
    """
    async with App(load(Path(path))) as app:
        yield Holdfast(app.pipeline, app.new_id)


class Holdfast:
    """Calls features and models. Parameters are OpenAI's: `temperature`, `tools`, `response_format`, ..."""

    def __init__(self, pipeline: Pipeline, new_id: NewId) -> None:
        self._pipeline = pipeline
        self._new_id = new_id
        self._surface = OpenAISurface()

    @overload
    async def chat(
        self,
        model: str,
        messages: Messages,
        *,
        returns: type[T],
        hints: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> T: ...

    @overload
    async def chat(
        self,
        model: str,
        messages: Messages,
        *,
        returns: None = None,
        hints: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Answer: ...

    @overload
    async def chat(
        self,
        model: str,
        messages: Messages,
        *,
        returns: Any,  # what is no class to a type checker, such as a `Literal` or a union
        hints: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Any: ...

    async def chat(
        self,
        model: str,
        messages: Messages,
        *,
        returns: Any = None,
        hints: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Any:
        """Return the answer of a feature or a model; with `returns` an instance of that type, which it must be.

        `returns` is a Pydantic model, or any other type that Pydantic knows: a dataclass, `list[int]`, a `Literal`.
        `hints` are those of `gateway.hints.Hints`: `session`, `subject`, `deadline_ms`, `tags`, `variables`,
        `priority`, `on_break` and `stream`.

        Raises:
            CallError: the call ended without an answer; ContractViolated where none was what it must be, and
                with `returns` ContentRefused where the model refuses.
            ConfigError: `returns` can't be a contract.
        """
        request, source = self._request(model, messages, parameters | {"stream": False})
        contract = None if returns is None else _contract(returns)
        writer = _Whole()
        arrival = self._arrival("chat", request, source, hints, contract)
        await self._pipeline.run(arrival, writer)
        if writer.error is not None:
            raise writer.error
        assert isinstance(writer.answer, Reply)
        if contract is not None:
            return await _value(contract, writer.answer)
        summary = writer.summary
        assert summary is not None
        assert summary.outcome is not None
        return Answer(
            reply=writer.answer,
            call=summary.call,
            outcome=summary.outcome,
            model=summary.model,
            attempts=summary.attempts or 0,
            cost=None if summary.cost is None else Decimal(summary.cost),
        )

    async def stream(
        self, model: str, messages: Messages, *, hints: Mapping[str, Any] | None = None, **parameters: Any
    ) -> AsyncIterator[Chunk]:
        """Iterate over the pieces of an answer as they come; leaving the iteration early cancels the call.

        With the hint `on_break` "reset" an answer that broke off may begin anew after a chunk with `reset`.

        Raises:
            CallError: the call ended without a whole answer, also after a part of it.
        """
        request, source = self._request(model, messages, parameters | {"stream": True})
        async with aclosing(self._pieces(self._arrival("chat", request, source, hints))) as pieces:
            async for piece in pieces:
                if isinstance(piece, Chunk):
                    yield piece

    async def objects(
        self,
        model: str,
        messages: Messages,
        *,
        returns: Any = None,
        hints: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> AsyncIterator[Partial]:
        """Iterate over what is known of a JSON answer as it comes, each time all of it; the last is the whole.

        The answer has a contract: the feature's, the request's `response_format`, or `returns`.

        Raises:
            CallError: the call ended without an answer that meets it; InvalidRequest where it has no such contract.
        """
        request, source = self._request(model, messages, parameters | {"stream": True})
        contract = None if returns is None else _contract(returns)
        arrival = self._arrival("chat", request, source, {**(hints or {}), "stream": "object"}, contract)
        async with aclosing(self._pieces(arrival)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Partial):
                    yield piece

    async def _pieces(self, arrival: Arrival) -> AsyncGenerator[Chunk | Partial, None]:
        """Make a call, and iterate over what comes of it."""
        writer = _Streamed()
        call = asyncio.create_task(self._pipeline.run(arrival, writer))
        call.add_done_callback(lambda _: writer.queue.put_nowait(None))
        try:
            while (piece := await writer.queue.get()) is not None:
                writer.room.release()
                yield piece
            await call
            if writer.error is not None:
                raise writer.error
        finally:
            call.cancel()
            await asyncio.wait([call])  # which, unlike the call itself, lets whoever waits here be cancelled too

    async def distribution(
        self,
        model: str,
        messages: Messages,
        choices: Sequence[str],
        *,
        samples: int = 20,
        method: Method | None = None,
        hints: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> Estimate:
        """Return how likely a model finds each of a closed set of answers. Raises CallError."""
        asked = {"choices": choices, "samples": samples, "method": method}
        body = _json(_spoken(model, messages) | parameters | asked)
        request, source = distribution.decode(body, "/v1/distribution", self._surface)
        writer = _Whole()
        await self._pipeline.run(self._arrival("distribution", request, source, hints), writer)
        if writer.error is not None:
            raise writer.error
        assert isinstance(writer.answer, Reply)
        return distribution.estimate_of(writer.answer)

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        hints: Mapping[str, Any] | None = None,
    ) -> EmbeddingReply:
        """Return a vector for each text, in their order. Raises CallError."""
        body = {"model": model, "input": texts, "dimensions": dimensions, "encoding_format": "float"}
        request = self._surface.decode_embeddings(_json(body), "/v1/embeddings")
        writer = _Whole()
        await self._pipeline.run(self._arrival("embeddings", request, None, hints), writer)
        if writer.error is not None:
            raise writer.error
        assert isinstance(writer.answer, EmbeddingReply)
        return writer.answer

    def _request(self, model: str, messages: Messages, parameters: Mapping[str, Any]) -> tuple[Request, Source]:
        body = _json(_spoken(model, messages) | dict(parameters))
        return self._surface.decode(body, "/v1/chat/completions")

    def _arrival(
        self,
        kind: Kind,
        request: Request | EmbeddingRequest,
        source: Source | None,
        hints: Mapping[str, Any] | None,
        returns: Contract | None = None,
    ) -> Arrival:
        clock = self._pipeline.clock
        return Arrival(
            id=self._new_id(),
            kind=kind,
            wire=IN_PROCESS,
            started=clock.monotonic(),
            at=clock.now(),
            request=request,
            source=source,
            hints=to_hints(hints or {}),
            returns=returns,
        )


async def _value(contract: Contract, reply: Reply) -> Any:
    """Return what an answer is as an instance of a type. Raises CallError where it is none."""
    checked = await check(contract, reply.text)
    if checked.ok:
        return checked.value
    for choice in reply.choices[:1]:
        said = next((part.text for part in choice.parts if isinstance(part, Refusal)), choice.refusal_reason)
        if said is not None or choice.finish == "refused":
            raise ContentRefused(said or "")
        if choice.finish == "tool_calls":
            raise ContractViolated(f"The model calls a tool, so its answer is no {contract.name}.")
    told = "; ".join([str(violation) for violation in checked.violations[:TOLD]])
    raise ContractViolated(f"The answer is no {contract.name}: {told}.")


def _contract(returns: Any) -> Contract:
    """Return the contract of a type. Raises ConfigError."""
    try:
        return _known(returns)
    except TypeError:  # it can't be hashed
        return make_contract(returns, name=_name(returns))


@lru_cache(maxsize=256)
def _known(returns: Any) -> Contract:
    return make_contract(returns, name=_name(returns))


def _name(returns: Any) -> str:
    return str(getattr(returns, "__name__", returns))


def _spoken(model: str, messages: Messages) -> dict[str, Any]:
    said = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    return {"model": model, "messages": said}


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The call can't be written as JSON: {error}") from error


class _Whole:
    """Keeps a whole answer, or the error that stands for it."""

    def __init__(self) -> None:
        self.answer: Reply | EmbeddingReply | None = None
        self.summary: Summary | None = None
        self.error: CallError | None = None

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        self.answer, self.summary = reply, summary

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        raise AssertionError("an answer that was not asked for as a stream came as one")

    async def object(self, value: Any, complete: Sequence[str]) -> None:
        raise AssertionError("only of a stream something is known before its end")

    async def reset(self) -> None:
        raise AssertionError("only a stream can be taken back")

    async def end(self, summary: Summary) -> None:
        self.summary = summary

    async def fail(self, error: CallError, summary: Summary) -> None:
        self.error = error


class _Streamed:
    """Hands what comes to the one who iterates, waiting while it is slower than the model. None is the end."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Chunk | Partial | None] = asyncio.Queue()
        self.room = asyncio.Semaphore(64)
        self._ending: list[Chunk] = []
        """How the choices ended, and usage, until the whole answer has."""
        self.error: CallError | None = None

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        raise AssertionError("an answer that was asked for as a stream came whole")

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        for chunk in chunks:
            if chunk.finish is not None or (self._ending and not chunk.speaks):
                self._ending.append(chunk)  # an answer that fails in the end has none
            else:
                await self.room.acquire()
                self.queue.put_nowait(chunk)

    async def object(self, value: Any, complete: Sequence[str]) -> None:
        await self.room.acquire()
        self.queue.put_nowait(Partial(deepcopy(value), tuple(complete)))  # it goes on growing

    async def reset(self) -> None:
        self._ending.clear()
        await self.room.acquire()
        self.queue.put_nowait(Chunk(reset=True))

    async def end(self, summary: Summary) -> None:
        for chunk in self._ending:
            self.queue.put_nowait(chunk)

    async def fail(self, error: CallError, summary: Summary) -> None:
        self.error = error
