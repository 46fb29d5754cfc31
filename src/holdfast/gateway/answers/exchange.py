"""What passes between the caller and its models in one call: a whole answer, a streamed one, or vectors."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, Protocol

from holdfast.chat import Choice, Chunk, EmbeddingReply, Reply, Text, Usage
from holdfast.errors import CallError
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.fallback import Resume
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import Arrival, AttemptRecord, Summary

STALL_SECONDS: Final = 0.5
LAST_RESORT: Final = "last_resort"
"""What stands for the model, and the wire, of an answer that no model gave."""


class Writer(Protocol):
    """Where an answer goes. Exactly one of `reply`, `end` and `fail` is called, once, at the end."""

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        """Give the whole answer. `raw` is how the model said it in `wire`, None if it was made or changed here."""
        ...

    def chunks(self, chunks: Sequence[Chunk], wire: str) -> Awaitable[None] | None:
        """Give the next pieces of a streamed answer.

        Returns what to wait for before there are more, as while the caller is slower than the model; None if nothing.
        """
        ...

    async def object(self, value: Any, complete: Sequence[str]) -> None:
        """Tell of a streamed answer what is known of it so far. `complete` are JSON pointers of what is final."""
        ...

    async def reset(self) -> None:
        """Take back what was streamed: the answer begins anew."""
        ...

    async def end(self, summary: Summary) -> None:
        """End a streamed answer that is whole."""
        ...

    async def fail(self, error: CallError, summary: Summary) -> None:
        """End the call with an error, on the stream if one has begun."""
        ...


class Outrun(Exception):
    """Another attempt of the call was sooner."""


class Exchange(ABC):
    """One call's answer, whichever models give it."""

    reply: Reply | EmbeddingReply | None = None
    """What has been answered, for the log."""
    takes_last_resort: ClassVar[bool] = True
    """Whether a text can stand for the answer."""
    streamed: ClassVar[bool] = False
    speaker: AttemptRecord | None = None
    """The attempt whose answer this is; of several at once, the first to speak."""
    on_speak: Callable[[AttemptRecord], None] | None = None
    """Called when an attempt begins to speak."""
    on_stall: Callable[[], None] | None = None
    """Called when the caller takes nothing of a streamed answer for `STALL_SECONDS`."""
    raw: bytes | None = None
    """How a model said all of `reply` in `wire`, None if it was streamed, or made or changed here."""
    wire: str = LAST_RESORT
    samples: int | None = None
    """How many answers voted, if they did, and the share of them that agrees with `reply`."""
    agreement: float | None = None
    judge: Judge | None = None
    """What the answer must be, None where anything will do."""

    @abstractmethod
    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        """Get the answer from a model. Raises ProviderError, Outrun."""

    def resumption(self) -> Resume:
        """Return how another model may take up an answer that broke off, of which the caller has a part."""
        return "no"

    @abstractmethod
    async def use(self, reply: Reply, raw: bytes | None = None, wire: str = LAST_RESORT) -> None:
        """Answer with what no model says now: a last resort, or an answer given again. `raw` is how `wire` says it."""

    @abstractmethod
    async def finish(self, summary: Summary) -> None:
        """Give the caller the end of the answer."""

    async def _write(self, write: Awaitable[None]) -> None:
        """Give the caller a part of a streamed answer, and notice when that takes long."""
        if self.on_stall is None:
            await write
            return
        stall = asyncio.get_running_loop().call_later(STALL_SECONDS, self.on_stall)
        try:
            await write
        finally:
            stall.cancel()

    def _speak(self, attempt: AttemptRecord) -> None:
        """Make an attempt the one that answers. Raises Outrun."""
        if self.speaker is None:
            self.speaker = attempt
            if self.on_speak is not None:
                self.on_speak(attempt)
        elif self.speaker is not attempt:
            raise Outrun

    def _hear(self, attempt: AttemptRecord) -> None:
        """Note the first words of a streamed answer. Raises Outrun."""
        self._speak(attempt)
        if attempt.first_token is None:
            attempt.first_token = attempt.clock.monotonic()
        if attempt.probe:  # the model is back, however long its answer takes
            attempt.probe = False
            attempt.model.health.breaker.succeeded(True)


def fixed_reply(text: str, arrival: Arrival) -> Reply:
    """Return the reply that a last resort is."""
    choice = Choice(parts=(Text(text=text),), finish="stop")
    return Reply(id=arrival.id, model=LAST_RESORT, choices=(choice,), usage=Usage(), created=int(arrival.at))
